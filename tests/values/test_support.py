"""What is told stays within what the data are told at the same timestep: by hand, over an episode, after a restart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from conformance.checks import notices
from foretell.core.errors import CheckpointError
from foretell.evaluation.conditioned import ConditionedPolicy
from foretell.sequences.targets import Telling
from foretell.sequences.windows import WindowSampler
from foretell.values import support as module
from foretell.values.asking import Asking, asking_of, told_of
from foretell.values.support import Support
from reference.making import RecordingModel, make_dataset, scaled

REWARDS = [1.0, 2.0, 4.0, -1.0, 3.0, 10.0]
"""Two episodes of three and two timesteps and one of one; returns-to-go 7, 6, 4; 2, 3; 10."""
LEAST, MOST = [2.0, 3.0, 4.0], [10.0, 6.0, 4.0]


def _sampler(told=None):
    data = make_dataset([3, 2, 1], rewards=np.float32(REWARDS))
    return WindowSampler(data, replace(scaled(), return_scale=1.0), context_length=1, seed=0, told=told)


def test_limits_by_hand():
    support = Support.of(_sampler(), 3)
    assert (support.least.tolist(), support.most.tolist()) == (LEAST, MOST)
    assert support.least.dtype == support.most.dtype == np.float32


def test_timesteps_behind_the_longest_episode_are_as_its_last():
    support = Support.of(_sampler(), 5)
    assert support.least.tolist() == [*LEAST, 4.0, 4.0]
    assert support.most.tolist() == [*MOST, 4.0, 4.0]
    assert support.nearest(np.float32([9.0, 9.0]), np.array([0, 7])).tolist() == [9.0, 4.0]


def test_what_is_told_in_place_of_the_return_has_limits_of_its_own():
    support = Support.of(_sampler(np.float32([5, 6, 7, -5, -6, 0])), 3)
    assert (support.least.tolist(), support.most.tolist()) == ([-5, -6, 7], [5, 6, 7])


def test_of_many_episodes_some_are_looked_at_the_first_and_the_last_among_them(monkeypatch):
    monkeypatch.setattr(module, "EPISODES", 2)
    assert Support.of(_sampler(), 3).least.tolist() == [7.0, 6.0, 4.0]  # not the second, whose returns are 2 and 3
    monkeypatch.setattr(module, "EPISODES", 100)
    monkeypatch.setattr(module, "ROWS", 2)  # one episode
    assert Support.of(_sampler(), 3).most.tolist() == [7.0, 6.0, 4.0]


@given(left=st.floats(-1e6, 1e6), timestep=st.integers(0, 2))
def test_the_nearest_that_was_told(left, timestep):
    support = Support(least=np.float32(LEAST), most=np.float32(MOST))
    found = float(support.nearest(np.float32([left]), timestep)[0])
    assert LEAST[timestep] <= found <= MOST[timestep]
    if LEAST[timestep] <= left <= MOST[timestep]:
        assert found == np.float32(left)
    else:
        assert found in (LEAST[timestep], MOST[timestep])


def _asking(support):
    return Asking(telling=Telling(condition="return", scale=1.0), target=100.0, support=support)


def check_held_at_every_timestep(support):
    """Asked for 100, the model is told 10, 6 and 4; what is left falls by the rewards all the same, to below 4."""
    model = RecordingModel([0.0] * 4, context_length=3)
    policy = ConditionedPolicy(model, scaled(1), _asking(support))
    policy.reset(1)
    for reward in (50.0, 48.0, 0.0):
        policy.act(np.zeros((1, 1)))
        policy.observe([reward])
    assert [float(seen["returns_to_go"][0, -1, 0]) for seen in model.seen] == [10.0, 6.0, 4.0]
    policy.reset(1, 3.5)
    policy.act(np.zeros((1, 1)))
    assert float(model.seen[-1]["returns_to_go"][0, -1, 0]) == 3.5


def test_a_policy_is_told_nothing_that_the_data_were_not():
    check_held_at_every_timestep(Support(least=np.float32(LEAST), most=np.float32(MOST)))


def test_a_policy_that_is_told_what_is_left_is_noticed():
    notices(check_held_at_every_timestep, None)


@pytest.mark.parametrize(("condition", "held"), [("return", True), ("advantage", False), ("none", False)])
def test_returns_are_held_and_nothing_else(condition, held):
    data = make_dataset([3, 2, 1], rewards=np.float32(REWARDS))
    told = told_of("none", data, scaled())
    told = replace(told, telling=Telling(condition=condition))
    asking = asking_of(told, data, scaled(), 0.5, max_timesteps=3, seed=0)
    assert (asking.support is not None) is held
    found = float(asking.told(np.array([0.5]), 0)[0])
    assert found == {"return": 0.0, "advantage": 0.0, "none": 0.5}[condition]  # told 0 everywhere; 2 * 0.5 - 1


def test_a_run_without_limits_is_told_what_is_left():
    """As were those that were written before there were any."""
    tensors = {"constant": torch.tensor(5.0), "scale": torch.tensor(1.0)}
    assert Asking.restore("return", scaled(), 3, tensors).support is None
    whole = tensors | {f"support.{name}": value for name, value in Support.of(_sampler(), 3).tensors().items()}
    assert Asking.restore("return", scaled(), 3, whole).support.most.tolist() == MOST
    del whole["support.most"]
    with pytest.raises(CheckpointError, match=r"limits of what is told of shapes \(3,\) and \(0,\); expected"):
        Asking.restore("return", scaled(), 3, whole)


def test_what_the_best_were_told_is_all_that_can_be_asked_of_a_model_that_saw_no_other():
    data = make_dataset([2, 3, 2], rewards=np.float32([1, 1, 5, 5, 5, -9, -9]))
    best = np.array([0, 1])
    told = told_of("return", data, scaled())
    everything, chosen = (
        asking_of(told, data, scaled(), "auto", max_timesteps=3, seed=0, episodes=episodes)
        for episodes in (None, best)
    )  # fmt: skip
    scale = scaled().return_scale
    assert (everything.support.least[0] * scale, everything.support.most[0] * scale) == (-18.0, 15.0)
    assert (chosen.support.least[0] * scale, chosen.support.most[0] * scale) == (2.0, 15.0)
    starts = data.observations[data.episode_starts]
    assert chosen.at_start(starts).min() > everything.at_start(starts).min()
