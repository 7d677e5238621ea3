from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from foretell.core.errors import DatasetError, DivergedError, UsageError
from foretell.values import dynamics
from foretell.values.configs import DynamicsConfig
from foretell.values.dynamics import DynamicsEnsemble, farthest_points
from reference.making import CHOICES, make_dataset

QUICK = DynamicsConfig(members=3, degree=2, updates=120, evidence_rows=60, cosines=32)


def _follow(observations, push):
    """A weight on a spring, pushed: position and speed, and what a step costs."""
    position, speed = observations[:, 0], observations[:, 1]
    after = np.stack([position + 0.1 * speed, 0.98 * speed - 0.2 * position + 0.3 * push], 1)
    return after, -(position**2) - 0.1 * push**2


def _spring(steps=200, seed=0, *, discrete=False, keep_next=True, reward_scale=1.0):
    rng = np.random.default_rng(seed)
    observations, actions, ends = np.zeros((steps, 2)), rng.uniform(-2, 2, (steps, 1)), np.arange(50, steps + 1, 50)
    if discrete:
        actions = rng.integers(3, size=steps)
    push = actions - 1.0 if discrete else actions[:, 0]
    following, rewards = np.zeros((steps, 2)), np.zeros(steps)
    for t in range(steps):
        now = rng.normal(size=2) if t % 50 == 0 else following[t - 1]
        observations[t] = now
        after, reward = _follow(now[None], push[t : t + 1])
        following[t], rewards[t] = after[0], reward[0]
    return make_dataset(
        [50] * (steps // 50), shape=CHOICES, observations=observations.astype(np.float32),
        actions=actions if discrete else actions.astype(np.float32), episode_ends=ends,
        rewards=(reward_scale * rewards).astype(np.float32),
        next_observations=following.astype(np.float32) if keep_next else None,
    )  # fmt: skip


def _probe(rows=20, scale=1.0):
    rng = np.random.default_rng(9)
    return (scale * rng.normal(size=(rows, 2))).astype(np.float32), rng.uniform(-2, 2, (rows, 1)).astype(np.float32)


@pytest.fixture(scope="module")
def spring():
    return DynamicsEnsemble(_spring(), QUICK, seed=0)


def test_every_member_predicts_the_spring_in_its_own_units_and_beyond_the_data(spring):
    for scale in (1.0, 3.0):
        observations, actions = _probe(scale=scale)
        found, (after, rewards) = spring.predict(observations, actions), _follow(observations, actions[:, 0])
        assert found.next_observations.shape == (3, 20, 2)
        for member in range(3):
            np.testing.assert_allclose(found.next_observations[member], after, atol=0.01 * scale**2)
            np.testing.assert_allclose(found.rewards[member], rewards, atol=0.03 * scale**2)
        assert not found.terminations.any()


def test_one_world_a_row_says_what_that_world_says_among_all(spring):
    observations, actions = _probe(scale=3.0)
    worlds = np.arange(20) % 3
    found, own = spring.predict(observations, actions), spring.predict(observations, actions, worlds)
    for name in ("next_observations", "rewards", "terminations"):
        np.testing.assert_array_equal(getattr(own, name), getattr(found, name)[worlds, np.arange(20)])
    np.testing.assert_array_equal(own.disagreement, found.disagreement)


def test_rewards_scale_with_the_data(spring):
    observations, actions = _probe()
    large = DynamicsEnsemble(_spring(reward_scale=1_000.0), QUICK, seed=0)
    assert large.reward_deviation == pytest.approx(1_000 * spring.reward_deviation, rel=1e-5)
    expected = 1_000 * _follow(observations, actions[:, 0])[1]
    np.testing.assert_allclose(large.predict(observations, actions).rewards[0], expected, atol=30)


def test_choices_are_learned_apart():
    ensemble = DynamicsEnsemble(_spring(discrete=True), QUICK, seed=0, num_actions=3)
    observations = _probe(6)[0]
    choices = np.array([0, 1, 2, 2, 1, 0])
    found = ensemble.predict(observations, choices).next_observations.mean(0)
    np.testing.assert_allclose(found, _follow(observations, choices - 1.0)[0], atol=0.02)


def test_members_differ_where_nothing_was_seen(spring):
    dataset = _spring()
    seen = spring.predict(dataset.observations[:50], dataset.actions[:50])
    unseen = spring.predict(40 * dataset.observations[:50], dataset.actions[:50])
    assert seen.disagreement.max() < 0.02
    assert np.median(unseen.disagreement) > 10 * np.median(seen.disagreement)
    changes = np.concatenate([dataset.next_observations - dataset.observations, dataset.rewards[:, None]], 1).std(0)
    answers = np.concatenate([unseen.next_observations, unseen.rewards[..., None]], -1).astype(np.float64)
    np.testing.assert_allclose(unseen.disagreement, (answers.std(0) / changes).max(1), rtol=1e-2, atol=1e-3)


def test_the_seed_draws_the_worlds_and_nothing_else_does(spring):
    again, other = (DynamicsEnsemble(_spring(), QUICK, seed=seed) for seed in (0, 1))
    for name, value in spring.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    assert spring.evidence == again.evidence == other.evidence
    assert not torch.equal(spring.worlds.corrections, other.worlds.corrections)


def test_timesteps_whose_next_observation_is_unknown_are_left_out():
    dataset = _spring(100, keep_next=False)
    poisoned = dataset.rewards.copy()
    poisoned[dataset.episode_ends - 1] = 1e6
    one, other = (
        DynamicsEnsemble(replace(dataset, rewards=rewards), replace(QUICK, updates=2), seed=0)
        for rewards in (dataset.rewards, poisoned)
    )
    assert one.evidence == other.evidence
    observations, actions = _probe()
    np.testing.assert_array_equal(
        one.predict(observations, actions).rewards, other.predict(observations, actions).rewards
    )


def test_equal_rewards_are_predicted_exactly():
    dataset = replace(_spring(100), rewards=np.full(100, 0.25, np.float32))
    found = DynamicsEnsemble(dataset, replace(QUICK, updates=3), seed=0).predict(*_probe(scale=5.0))
    assert (found.rewards == 0.25).all()


def test_terminations_follow_from_the_next_observation():
    whole = _spring(400)
    ended = np.abs(whole.next_observations[:, 0]) > 1
    ensemble = DynamicsEnsemble(
        replace(whole, terminations=ended, truncations=whole.truncations & ~ended), replace(QUICK, updates=30), seed=0
    )
    observations = np.array([[2.0, 0.0], [-2.0, 0.0], [0.0, 0.0]], np.float32)
    found = ensemble.predict(observations, np.zeros((3, 1), np.float32))
    assert found.terminations.tolist() == [[True, True, False]] * 3


def test_support_is_the_range_and_its_width_on_either_side(spring):
    low, high = spring.lowest, spring.highest
    inside = np.stack([low - 0.99 * (high - low), high + 0.99 * (high - low)])
    outside = np.stack([low - 1.01 * (high - low), high + 1.01 * (high - low), np.array([np.nan, 0.0])])
    assert spring.supports(inside).tolist() == [True, True]
    assert spring.supports(outside).tolist() == [False, False, False]


def test_farthest_points_by_hand():
    points = torch.tensor([[0.0], [1.0], [2.0], [10.0], [10.0]])  # mean 4.6
    assert farthest_points(points, 3).tolist() == [3, 0, 2]
    assert farthest_points(points, 9).tolist() == [3, 0, 2, 1]  # the second 10 tells nothing new


def test_large_data_are_thinned_to_timesteps_far_apart():
    ensemble = DynamicsEnsemble(_spring(), replace(QUICK, max_rows=70, updates=2), seed=0)
    assert ensemble.worlds.inputs.shape == (70, 3)
    inputs = np.concatenate([_spring().observations, _spring().actions], 1).astype(np.float64)
    chosen = ensemble.input_units.restore(ensemble.worlds.inputs.numpy())
    distances = np.linalg.norm(chosen[:, None] - inputs[None], axis=-1)
    assert len(set(distances.argmin(1).tolist())) == 70
    assert distances.min(1).max() < 1e-6


@pytest.mark.parametrize(("width", "features"), [(1, 15), (20, 253), (60, 62)])
def test_wide_inputs_get_shorter_products(width, features):
    rng = np.random.default_rng(0)
    dataset = make_dataset([20], shape=CHOICES, observations=rng.normal(size=(20, width)).astype(np.float32),
                           actions=rng.normal(size=(20, 1)).astype(np.float32))  # fmt: skip
    ensemble = DynamicsEnsemble(dataset, replace(QUICK, degree=4, updates=1), seed=0)
    assert ensemble.process.coefficients.shape[1] == features


def test_what_cannot_be_learned_from_is_refused():
    images = make_dataset([5], observations=np.zeros((5, 8, 8, 3), np.uint8))
    with pytest.raises(UsageError, match="dynamics expect vectors"):
        DynamicsEnsemble(images, QUICK, seed=0)
    with pytest.raises(DatasetError, match="0 timesteps with a known next observation"):
        DynamicsEnsemble(make_dataset([1, 1]), QUICK, seed=0)
    ended = np.array([False, True])
    with pytest.raises(DatasetError, match="'next_observations' is missing"):
        DynamicsEnsemble(make_dataset([2], terminations=ended, truncations=~ended), QUICK, seed=0)
    broken = _spring(100)
    broken.rewards[3] = np.nan
    with pytest.raises(DatasetError, match="rewards holds nan at timestep 3"):
        DynamicsEnsemble(broken, QUICK, seed=0)
    with pytest.raises(DivergedError, match="expected"):
        DynamicsEnsemble(_spring(100), replace(QUICK, learning_rate=1e6), seed=0)


@pytest.mark.parametrize("changes", [{"members": 0}, {"degree": 0}, {"updates": 0}, {"learning_rate": float("nan")},
                                     {"evidence_rows": 1}, {"evidence_rows": 3_000}, {"max_rows": 0}, {"horizon": 0},
                                     {"max_disagreement": 0.0}, {"pessimism": -1.0}, {"cosines": 0}])  # fmt: skip
def test_settings_out_of_range_are_refused(changes):
    with pytest.raises(UsageError, match="expected"):
        DynamicsConfig(**changes)


def test_candidates_are_in_step_with_no_episode(monkeypatch):
    """Of 200 episodes of 50, every 50th timestep would be the first of each alone, where the clock stands at 0."""
    monkeypatch.setattr(dynamics, "MOST_CANDIDATES", 200)
    clock = np.tile(np.arange(50, dtype=np.float32), 200)
    rng = np.random.default_rng(0)
    data = make_dataset(
        [50] * 200, observations=np.stack([clock, rng.normal(size=10_000).astype(np.float32)], 1),
        next_observations=np.stack([clock + 1, np.zeros(10_000, np.float32)], 1),
    )  # fmt: skip
    found = DynamicsEnsemble(data, QUICK, seed=0)
    assert found.lowest[0] < 2
    assert found.highest[0] > 47


def test_small_units_change_no_prediction():
    """What is in millionths moves as what is in ones does."""
    data, (observations, actions) = _spring(), _probe()
    small = replace(
        data, observations=(1e-6 * data.observations).astype(np.float32),
        next_observations=(1e-6 * data.next_observations).astype(np.float32),
    )  # fmt: skip
    ones = DynamicsEnsemble(data, QUICK, seed=0).predict(observations, actions)
    millionths = DynamicsEnsemble(small, QUICK, seed=0).predict((1e-6 * observations).astype(np.float32), actions)
    np.testing.assert_allclose(1e6 * millionths.next_observations, ones.next_observations, atol=1e-3)


def test_a_world_that_would_fill_memory_is_refused_before_anything_is_learned():
    rng = np.random.default_rng(0)
    wide = make_dataset(
        [30] * 20, observations=rng.normal(size=(600, 700)).astype(np.float32),
        actions=rng.normal(size=(600, 200)).astype(np.float32), next_observations=None,
    )  # fmt: skip
    with pytest.raises(UsageError, match=r"700 numbers of observation and 200 of action, learned from 580 timesteps, ta"
                                         r"kes 5 GiB; expected at most 4"):  # fmt: skip
        DynamicsEnsemble(wide, DynamicsConfig(), seed=0)
