"""Rows that hold an observation and no timestep: RLDS keeps one behind each end, dm_env one before each start."""

from __future__ import annotations

import numpy as np
import pytest

import foretell
from foretell.datasets.doctor import diagnose

LENGTHS = [7, 9, 8, 12, 10, 6]


def _data(change=lambda last, first, actions, rewards: None, *, lengths=LENGTHS, terminated=True, **columns):
    rng, steps, ends = np.random.default_rng(0), sum(lengths), np.cumsum(lengths)
    actions, rewards = rng.uniform(-1, 1, (steps, 2)), rng.normal(size=steps)
    last = np.isin(np.arange(1, steps + 1), ends)
    change(last, np.roll(last, 1), actions, rewards)
    return foretell.Dataset(**{
        "name": "steps", "observations": rng.normal(size=(steps, 3)), "actions": actions, "rewards": rewards,
        "terminations": last & terminated, "truncations": last & ~np.asarray(terminated), "next_observations": None,
        "episode_ends": ends, **columns,
    })  # fmt: skip


def _found(data):
    return [finding.message for finding in diagnose(data) if finding.check == "padding"]


def _empty(rows, actions, rewards):
    actions[rows], rewards[rows] = 0, 0


def test_a_step_behind_each_end_is_found():
    (found,) = _found(_data(lambda last, first, *columns: _empty(last, *columns)))
    assert found.startswith("the last timesteps of all 6 episodes have action 0 and reward 0")


def test_a_step_behind_each_termination_is_found():
    lengths, terminated = LENGTHS + LENGTHS[:2], np.repeat([True] * 6 + [False] * 2, LENGTHS + LENGTHS[:2])
    (found,) = _found(_data(lambda last, first, *columns: _empty(last & terminated, *columns), lengths=lengths,
                            terminated=terminated))  # fmt: skip
    assert found.startswith("the last timesteps of all 6 episodes that terminate have")


def test_a_step_before_each_start_is_found():
    (found,) = _found(_data(lambda last, first, *columns: _empty(first, *columns)))
    assert found.startswith("the first timesteps of all 6 episodes have action 0 and reward 0")


def _rests(last, first, actions, rewards):
    _empty(last, actions, rewards)
    actions[10] = 0


def _earns_at_the_end(last, first, actions, rewards):
    _empty(last, actions, rewards)
    rewards[last] = 1


def _acts_at_the_end(last, first, actions, rewards):
    _empty(last, actions, rewards)
    actions[last, 1] = 1e-3


def _one_end_is_whole(last, first, actions, rewards):
    _empty(last, actions, rewards)
    actions[LENGTHS[0] - 1] = 1


def _begins_at_rest_without_rewards(last, first, actions, rewards):
    actions[first], rewards[:] = 0, 0


@pytest.mark.parametrize("change", [
    lambda *_: None, _rests, _earns_at_the_end, _acts_at_the_end, _one_end_is_whole, _begins_at_rest_without_rewards,
])  # fmt: skip
def test_nothing_else_is_taken_for_one(change):
    assert _found(_data(change)) == []


def test_few_episodes_and_choices_tell_nothing():
    assert _found(_data(lambda last, first, *columns: _empty(last, *columns), lengths=LENGTHS[:4])) == []
    assert (
        _found(_data(lambda last, first, *columns: _empty(last, *columns), actions=np.zeros(sum(LENGTHS), int))) == []
    )


def _walk(final, *, terminated=True, lengths=(40,) * 20):
    """Return episodes of a driven point, whose last rows lead to what `final` makes of where they do."""
    rng, rows = np.random.default_rng(1), []
    for steps in lengths:
        seen, actions = [rng.normal(size=2) + 5], rng.uniform(-1, 1, (steps, 1))
        for action in actions:
            seen.append(0.95 * seen[-1] + 0.25 + 0.1 * action + rng.normal(0, 0.01, 2))
        rows.append((np.array(seen[:-1]), actions, np.array([*seen[1:-1], final(seen[-1])])))
    observations, actions, following = (np.concatenate(column) for column in zip(*rows, strict=True))
    last = np.isin(np.arange(1, len(actions) + 1), np.cumsum(lengths))
    return foretell.Dataset(
        name="walk", observations=observations, actions=actions, rewards=np.ones(len(last)),
        terminations=last & terminated, truncations=last & ~np.asarray(terminated), next_observations=following,
        episode_ends=np.cumsum(lengths),
    )  # fmt: skip


def _leaps(data):
    return [finding.message for finding in diagnose(data) if finding.check == "jumps"]


@pytest.mark.parametrize("final", [np.zeros_like, lambda seen: np.array([9.0, 1.0])])
def test_final_observations_that_were_made_up_are_found(final):
    (found,) = _leaps(_walk(final))
    assert found.startswith("the final observations (next_observations at the ends) of 20 of 20 episodes leap")


def test_those_of_terminations_alone_are_found():
    numbers = iter(range(20))
    terminated = np.repeat(np.arange(20) < 6, 40)
    (found,) = _leaps(_walk(lambda seen: 0 * seen if next(numbers) < 6 else seen, terminated=terminated))
    assert "of 6 of 6 episodes that terminate leap" in found


def test_final_observations_of_their_own_episodes_are_well():
    assert _leaps(_walk(lambda seen: seen)) == []
    numbers = iter(range(20))
    assert _leaps(_walk(lambda seen: 0 * seen if next(numbers) < 9 else seen)) == []  # a few may be an accident
    assert _leaps(_walk(lambda seen: 0 * seen, lengths=(200,) * 4)) == []
