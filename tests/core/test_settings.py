"""Numbers in settings are what their annotations say, or one sentence says that they are not."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from foretell.agents.configs import SACConfig
from foretell.agents.pendulum_optimum import OptimumConfig
from foretell.core.errors import UsageError
from foretell.evaluation.configs import ChunkingConfig, PlanningConfig
from foretell.models.configs import (
    DecisionTransformerConfig,
    EncoderDecoderConfig,
    LSTMConfig,
    MLPConfig,
    TrajectoryTransformerConfig,
)
from foretell.models.transformer.configs import TransformerConfig
from foretell.training.configs import TrainingConfig
from foretell.values.configs import DynamicsConfig, IQLConfig

NEEDED = {TransformerConfig: {"vocabulary_size": 9, "max_length": 4}}
KINDS = [
    TrainingConfig, SACConfig, IQLConfig, DynamicsConfig, OptimumConfig, DecisionTransformerConfig, LSTMConfig,
    MLPConfig, TrajectoryTransformerConfig, EncoderDecoderConfig, TransformerConfig, PlanningConfig, ChunkingConfig,
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
