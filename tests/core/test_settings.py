"""Settings are what their annotations say, or one sentence says that they are not."""

from __future__ import annotations

import enum
from dataclasses import fields
from typing import Literal, get_args, get_origin, get_type_hints

import numpy as np
import pytest

from foretell.agents.configs import SACConfig
from foretell.agents.pendulum_optimum import OptimumConfig
from foretell.core.errors import UsageError
from foretell.core.settings import check_callable, number
from foretell.evaluation.configs import ChunkingConfig, PlanningConfig
from foretell.models.configs import (
    DecisionTransformerConfig,
    EncoderDecoderConfig,
    LSTMConfig,
    MLPConfig,
    TrajectoryTransformerConfig,
)
from foretell.models.transformer.configs import TransformerConfig
from foretell.training.configs import ComputeConfig, TrainingConfig
from foretell.values.configs import DynamicsConfig, IQLConfig

NEEDED = {TransformerConfig: {"vocabulary_size": 9, "max_length": 4}}
KINDS = [
    TrainingConfig, SACConfig, IQLConfig, DynamicsConfig, OptimumConfig, DecisionTransformerConfig, LSTMConfig,
    MLPConfig, TrajectoryTransformerConfig, EncoderDecoderConfig, TransformerConfig, PlanningConfig, ChunkingConfig,
    ComputeConfig,
]  # fmt: skip


def _made(kind, **settings):
    return kind(**{**NEEDED.get(kind, {}), **settings})


def _cases():
    return [
        pytest.param(kind, setting.name, str(setting.type), id=f"{kind.__name__}.{setting.name}")
        for kind in KINDS for setting in fields(kind) if "int" in str(setting.type) or "float" in str(setting.type)
    ]  # fmt: skip


@pytest.mark.parametrize(("kind", "name", "annotation"), _cases())
def test_what_is_no_such_number_is_refused_by_name(kind, name, annotation):
    several = annotation.startswith("tuple")
    for wrong in ("3", True, *([2.5] if "int" in annotation else []), *([] if "None" in annotation else [None])):
        with pytest.raises(UsageError, match=rf"{name} is .*; expected .*number"):
            _made(kind, **{name: (wrong,) if several else wrong})
    if several:
        for wrong in (3, "34"):
            with pytest.raises(UsageError, match=f"{name} is {wrong!r}; expected several numbers"):
                _made(kind, **{name: wrong})


def test_numbers_of_numpy_are_taken_and_become_pythons():
    config = TrainingConfig(updates=np.int64(7), learning_rate=np.float32(0.5), weight_decay=np.int32(0))
    assert [type(one) for one in (config.updates, config.learning_rate, config.weight_decay)] == [int, float, int]
    sizes = IQLConfig(hidden_sizes=[np.int64(4), 8]).hidden_sizes
    assert sizes == (4, 8)
    assert type(sizes[0]) is int
    assert TrainingConfig(learning_rate=1).learning_rate == 1
    whole = TrainingConfig(updates=1e5).updates
    assert (whole, type(whole)) == (100_000, int)


@pytest.mark.parametrize(("settings", "message"), [
    ({"clip_norm": float("inf")}, "clip_norm is inf; expected a number above 0, and finite"),
    ({"learning_rate": float("nan")}, "learning_rate is nan; expected a number above 0"),
    ({"weight_decay": float("inf")}, "weight_decay is inf; expected a number of 0 or more, and finite"),
    ({"updates": 0}, "updates is 0; expected a number above 0."),
    ({"updates": float("inf")}, "updates is inf; expected a whole number"),
    ({"learning_rate": 10**400}, "learning_rate is 1000.*; expected a number"),
])  # fmt: skip
def test_what_is_out_of_range_is_said(settings, message):
    with pytest.raises(UsageError, match=message):
        TrainingConfig(**settings)


@pytest.mark.parametrize("kind", [DecisionTransformerConfig, TransformerConfig])
@pytest.mark.parametrize("dropout", [-0.1, 1.0])
def test_a_probability_is_from_0_to_below_1(kind, dropout):
    with pytest.raises(UsageError, match="expected a probability of 0 or more, below 1"):
        _made(kind, dropout=dropout)


def _settings_of(wanted):
    """Every setting for whose annotation `wanted` holds, with it."""
    return [
        pytest.param(kind, name, hint, id=f"{kind.__name__}.{name}")
        for kind in KINDS for name, hint in get_type_hints(kind).items() if wanted(hint)
    ]  # fmt: skip


CHOICES = _settings_of(lambda hint: get_origin(hint) is Literal)
FLAGS = _settings_of(lambda hint: hint is bool)


def test_there_are_choices_and_flags_to_check():
    assert {"TrainingConfig.schedule", "SACConfig.form", "ComputeConfig.precision"} <= {one.id for one in CHOICES}
    assert {one.id.split(".")[1] for one in FLAGS} == {"policy", "goals", "told", "share_embeddings"}


@pytest.mark.parametrize(("kind", "name", "hint"), CHOICES)
def test_what_is_no_such_choice_is_refused_by_name(kind, name, hint):
    first = get_args(hint)[0]
    expected = f"expected one of {', '.join(get_args(hint))}."
    for wrong in ("x", first.capitalize(), "", None, -1, True, [first], np.array([first, first])):
        with pytest.raises(UsageError) as caught:
            _made(kind, **{name: wrong})
        assert str(caught.value) == f"{name} is {wrong!r}; {expected}"


@pytest.mark.parametrize(("kind", "name", "hint"), FLAGS)
def test_what_is_neither_true_nor_false_is_refused_by_name(kind, name, hint):
    for wrong in ("x", "False", float("nan"), [1], None, 1, 0.0, np.array([True, False])):
        with pytest.raises(UsageError) as caught:
            _made(kind, **{name: wrong})
        assert str(caught.value) == f"{name} is {wrong!r}; expected True or False."
    for given in (True, False, np.True_, np.bool_(0)):
        assert getattr(_made(kind, **{name: given}), name) is bool(given)


def test_a_choice_of_numpy_becomes_pythons():
    assert type(TrainingConfig(schedule=np.str_("constant")).schedule) is str


@pytest.mark.parametrize("device", [None, 0, ["cpu"], "GPU"], ids=repr)
def test_a_device_is_a_name(device):
    with pytest.raises(UsageError) as caught:
        ComputeConfig(device=device)
    assert str(caught.value) == f"device is {device!r}; expected cpu, cuda, cuda:N or auto."


def test_a_number_alone_becomes_pythons():
    assert [type(number("share", one)) for one in (1, np.float32(0.5), np.int64(3))] == [int, float, int]
    for wrong in ("x", None, True, [1.0]):
        with pytest.raises(UsageError, match=r"share is .*; expected a number\."):
            number("share", wrong)


def test_what_is_called_later_is_refused_at_once():
    check_callable(progress=print)
    for wrong in (None, 3, "print"):
        with pytest.raises(UsageError) as caught:
            check_callable(progress=wrong)
        assert str(caught.value) == f"progress is {wrong!r}; expected a function. Leave it out where none is wanted."


def test_a_choice_of_an_enum_is_the_word():
    class Schedule(str, enum.Enum):  # noqa: UP042 (a StrEnum says its word)
        CONSTANT = "constant"

    found = TrainingConfig(schedule=Schedule.CONSTANT).schedule
    assert (found, type(found)) == ("constant", str)
