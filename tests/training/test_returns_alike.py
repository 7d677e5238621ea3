"""Episodes that all earn the same: demonstrations that all succeed, or whose rewards nobody recorded."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest

from foretell import facade
from foretell.datasets.doctor_values import constants
from foretell.training.configs import TrainingConfig
from foretell.values.configs import IQLConfig
from reference.making import make_dataset, small_config

LENGTHS = [3, 5, 4]
ALIKE = "earns the same, 1: being told the return tells a model nothing"


def _data(rewards, lengths):
    return replace(make_dataset(lengths), rewards=np.float32(rewards))


def _at_the_end(reward, lengths=LENGTHS):
    rewards = np.zeros(sum(lengths))
    rewards[np.cumsum(lengths) - 1] = reward
    return rewards


def _said(data, tmp_path, condition="return", algorithm="decision-transformer"):
    training = TrainingConfig(updates=1, batch_size=2)
    values = IQLConfig(updates=1, batch_size=2, hidden_sizes=(4,)) if condition == "advantage" else None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        facade.train(
            data, tmp_path / "run", algorithm=algorithm, model=small_config(algorithm), training=training,
            condition=condition, values=values,
        )  # fmt: skip
    return [str(one.message) for one in caught]


def test_demonstrations_that_all_succeed_are_asked_about_where_the_return_is_told(tmp_path):
    (found,) = [one for one in _said(_data(_at_the_end(1), LENGTHS), tmp_path) if "tells a model" in one]
    assert ALIKE in found
    assert "Condition none" in found


@pytest.mark.parametrize(("rewards", "lengths"), [
    (_at_the_end([1, 0, 1]), LENGTHS),
    (_at_the_end([1, 1.001, 1]), LENGTHS),
    (_at_the_end(1, [6]), [6]),
    (np.ones(12), LENGTHS),  # the longer, the better
    (np.zeros(12), LENGTHS),  # the doctor's
])  # fmt: skip
def test_where_returns_differ_or_it_is_known_nothing_is_asked(rewards, lengths, tmp_path):
    assert not [one for one in _said(_data(rewards, lengths), tmp_path) if "tells a model" in one]


@pytest.mark.parametrize(("condition", "algorithm"), [
    ("none", "decision-transformer"), ("advantage", "decision-transformer"), ("return", "trajectory-transformer"),
])  # fmt: skip
def test_nor_where_no_return_is_told(condition, algorithm, tmp_path):
    said = _said(_data(_at_the_end(1), LENGTHS), tmp_path, condition, algorithm)
    assert not [one for one in said if "tells a model" in one]


@pytest.mark.parametrize(("rewards", "lengths"), [(np.zeros(12), LENGTHS), (np.ones(8), [4, 4])])
def test_the_doctor_says_what_rewards_that_never_change_leave_to_learn(rewards, lengths):
    (found,) = constants(_data(rewards, lengths))
    assert found.message.startswith(f"rewards never change: all are {rewards[0]:g}, and every episode earns the same.")
    assert "condition none" in found.message
