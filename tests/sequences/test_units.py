from __future__ import annotations

import inspect
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell.core.errors import UsageError
from foretell.core.returns import returns_to_go
from foretell.sequences import normalization
from foretell.sequences.normalization import Normalization
from foretell.sequences.scaling import ActionRange
from reference.making import CHOICES, make_dataset

bounds = st.tuples(st.floats(-50, 50, width=32), st.floats(0.125, 100, width=32))


@settings(deadline=None)
@given(ranges=st.lists(bounds, min_size=1, max_size=4), places=st.lists(st.floats(0, 1), min_size=4, max_size=4))
def test_action_range_round_trip(ranges, places):
    low, high = np.array([low for low, _ in ranges]), np.array([low + width for low, width in ranges])
    action_range = ActionRange(low=tuple(map(float, low)), high=tuple(map(float, high)))
    actions = (low + (high - low) * places[: len(low)])[None].astype(np.float32)
    unit = action_range.to_unit(actions)
    assert unit.dtype == np.float32
    assert (np.abs(unit) <= 1 + 1e-3).all()
    back = action_range.to_environment(unit)
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, actions, atol=1e-4 * float(np.abs([low, high]).max() + 1))
    assert (back >= low.astype(np.float32)).all()
    assert (back <= high.astype(np.float32)).all()


def test_action_range_by_hand():
    lopsided = ActionRange(low=(-2.0, 0.0), high=(2.0, 1.0))
    unit = np.array([[-1.0, -1.0], [1.0, 1.0], [0.5, 0.0]], np.float32)
    environment = np.array([[-2.0, 0.0], [2.0, 1.0], [1.0, 0.5]], np.float32)
    np.testing.assert_array_equal(lopsided.to_unit(environment), unit)
    np.testing.assert_array_equal(lopsided.to_environment(unit), environment)
    np.testing.assert_array_equal(lopsided.to_environment(unit * 3)[:2], environment[:2])
    assert lopsided.log_volume() == pytest.approx(math.log(2) + math.log(0.5))


def test_a_range_without_width_makes_no_nan():
    fixed = ActionRange(low=(-1.0, 3.0), high=(1.0, 3.0))
    assert np.isfinite(fixed.to_unit(np.array([[0.5, 3.0]], np.float32))).all()
    np.testing.assert_array_equal(fixed.to_environment(np.array([[0.5, 0.2]], np.float32)), [[0.5, 3.0]])


def test_normalization_measures_the_data():
    observations = np.random.default_rng(0).normal([5.0, -3.0, 7.0], [2.0, 0.1, 0.0], (500, 3)).astype(np.float32)
    rewards = np.full(500, -0.5, np.float32)
    data = make_dataset([100, 400], observations=observations, rewards=rewards)
    fitted = Normalization.fit(data, ActionRange(low=(-1.0, -1.0), high=(1.0, 1.0)))
    scaled = fitted.observations(observations)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled.mean(axis=0), [0, 0, 0], atol=1e-4)
    np.testing.assert_allclose(scaled.std(axis=0), [1, 1, 0], atol=1e-4)  # a constant dimension is only shifted
    assert fitted.return_scale == 200.0
    np.testing.assert_array_equal(fitted.returns(np.array([-200.0, 50.0])), np.array([-1.0, 0.25], np.float32))
    np.testing.assert_array_equal(fitted.actions(np.array([[0.5, 1.0]], np.float32)), [[0.5, 1.0]])


@pytest.mark.parametrize("discrete", [False, True])
def test_normalization_round_trip_through_json(discrete):
    data = make_dataset([5, 6], shape=CHOICES) if discrete else make_dataset([5, 6])
    fitted = Normalization.fit(data, None if discrete else ActionRange(low=(-2.0, 0.1), high=(2.0, 1 / 3)))
    assert Normalization.from_json(json.loads(json.dumps(fitted.to_json()))) == fitted


def test_statistics_of_some_timesteps_are_in_step_with_no_episode(monkeypatch):
    """Every 50th timestep of episodes of 50 would be the first alone."""
    monkeypatch.setattr(normalization, "STATISTICS_ROWS", 200)
    clock = np.tile(np.arange(50, dtype=np.float32), 200)[:, None]
    fitted = Normalization.fit(make_dataset([50] * 200, observations=clock), None)
    assert fitted.observation_mean[0] == pytest.approx(24.5, abs=1)
    assert fitted.observation_std[0] == pytest.approx(14.4, abs=1)


def test_observations_in_small_units_are_scaled_too():
    small = (1e-7 * np.random.default_rng(0).normal(size=(300, 2))).astype(np.float32)
    scaled = Normalization.fit(make_dataset([300], observations=small), None).observations(small)
    np.testing.assert_allclose(scaled.std(axis=0), [1, 1], atol=1e-4)


def test_the_return_scale_is_the_largest_that_is_left_at_any_timestep():
    """100 first and -100 at the end are a return of 0, and -100 still to come."""
    rewards = np.zeros(20, np.float32)
    rewards[[0, 10]], rewards[[9, 19]] = 100.0, -100.0
    assert Normalization.fit(make_dataset([10, 10], rewards=rewards), None).return_scale == 100.0


@pytest.mark.parametrize("sign", [-1, 1])
def test_of_rewards_of_one_sign_it_is_that_of_an_episode_to_the_last_bit(sign):
    rewards = sign * np.random.default_rng(0).random(2000).astype(np.float32)
    data = make_dataset([700, 300, 1000], rewards=rewards)
    assert Normalization.fit(data, None).return_scale == np.abs(data.episode_returns()).max()


def test_data_without_reward_have_a_scale_of_one():
    data = make_dataset([4], rewards=np.zeros(4, np.float32))
    assert Normalization.fit(data, None).return_scale == 1.0


def test_discrete_actions_pass_as_integers():
    fitted = Normalization.fit(make_dataset([4], shape=CHOICES), None)
    found = fitted.actions(np.array([3, 0], np.uint8))
    assert (found.dtype, found.tolist()) == (np.int64, [3, 0])


@pytest.mark.parametrize(("rewards", "expected"), [
    ([1.0, 0.0, 2.0], [3.0, 2.0, 2.0]), ([5.0], [5.0]), ([-1.0, -1.0], [-2.0, -1.0]),
    ([0.0, 0.0, 0.5], [0.5, 0.5, 0.5]),
])  # fmt: skip
def test_returns_to_go_by_hand(rewards, expected):
    found = returns_to_go(np.array(rewards))
    assert found.dtype == np.float32
    assert found.tolist() == expected


@pytest.mark.parametrize(
    "rewards", [[1.0, 0.0, 2.0], torch.tensor([1.0, 0.0, 2.0]), np.array([1, 0, 2]), np.array([2.0, 0.0, 1.0])[::-1]]
)
def test_returns_to_go_of_what_is_an_array_to_numpy(rewards):
    assert inspect.unwrap(returns_to_go)(rewards).tolist() == [3.0, 2.0, 2.0]


@pytest.mark.parametrize(("rewards", "message"), [
    (np.ones((2, 3)), r"rewards of shape \(2, 3\); expected \(timesteps,\)"),
    (np.float64(1.0), r"rewards of shape \(\); expected \(timesteps,\)"),
    ([1.0, "x"], "rewards of type <U32; expected numbers"),
    (np.array([1j]), "rewards of type complex128; expected numbers"),
    ([[1.0], [1.0, 2.0]], "rewards are no array"),
    (torch.ones(2, requires_grad=True), r"rewards are no array .*detach\(\)\.cpu\(\)\.float\(\)"),
])  # fmt: skip
def test_returns_to_go_are_of_one_episode(rewards, message):
    with pytest.raises(UsageError, match=message):
        inspect.unwrap(returns_to_go)(rewards)


@pytest.mark.parametrize(("low", "high"), [(-0.1, 0.1), (0.1, 0.7), (-1.0 / 3, 1e-3), (-2.0, 2.0)])
def test_no_action_lies_beyond_bounds_that_float32_does_not_have(low, high):
    """float32(0.1) is more than 0.1: an environment with bounds of float64 does not take it."""
    acted = ActionRange(low=(low,), high=(high,)).to_environment(np.array([[-9.0], [-1.0], [1.0], [9.0]]))
    assert (acted.astype(np.float64) >= low).all()
    assert (acted.astype(np.float64) <= high).all()
    np.testing.assert_allclose(acted[:, 0], [low, low, high, high], atol=1e-7)


def test_bounds_without_a_float32_between_them_are_the_nearest():
    same = ActionRange(low=(0.1,), high=(0.1,))
    assert same.to_environment(np.array([[0.3]])).tolist() == [[np.float32(0.1)]]
