from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import foretell
from foretell.core.errors import CheckpointError, DatasetError, UsageError
from foretell.sequences.normalization import Normalization
from foretell.sequences.scaling import ActionRange
from foretell.values import transitions
from foretell.values.acting import GreedyPolicy, ImitationPolicy
from foretell.values.configs import IQLConfig
from foretell.values.functions import ValueFunctions
from foretell.values.labels import discounted_returns_to_go
from foretell.values.training import ValueTraining, train_values
from foretell.values.transitions import TransitionSampler, fit_units
from reference.making import CHOICES, IDENTITY, make_dataset, scaled

SMALL = IQLConfig(updates=12, batch_size=8, hidden_sizes=(8, 8))


def _flags(steps, rows):
    flags = np.zeros(steps, bool)
    flags[rows] = True
    return flags


def _functions(dataset, config=SMALL, normalization=None):
    normalization = normalization or scaled()
    return ValueFunctions(config, normalization, 3, dataset.action_dim, torch.Generator().manual_seed(0))


def _drawn(dataset, count=4_000):
    """Rows that the sampler draws, told from the rewards, which are all different."""
    functions = _functions(dataset)
    batch = TransitionSampler(dataset, functions, 0).batch(0, count)
    rows = {np.float32(reward): row for row, reward in enumerate(dataset.rewards)}
    return [rows[np.float32(reward)] for reward in batch.rewards.numpy()], batch


def test_a_timestep_whose_final_observation_is_unknown_is_never_drawn():
    dataset = make_dataset([3, 1, 4, 2], terminations=_flags(10, [3]), truncations=_flags(10, [2, 7, 9]))
    rows, batch = _drawn(dataset)
    assert set(rows) == {0, 1, 3, 4, 5, 6, 8}  # 2, 7 and 9 are cut; what follows the termination 3 does not matter
    counts = np.bincount(rows)[[0, 1, 3, 4, 5, 6, 8]]
    assert counts.min() > 4_000 / 7 * 0.8
    for row, following, ended in zip(rows, batch.next_observations.numpy(), batch.terminations.tolist()):
        assert ended == (row == 3)
        if not ended:
            np.testing.assert_array_equal(following, scaled().observations(dataset.observations[row + 1]))


def test_a_known_final_observation_is_bootstrapped_from():
    following = np.random.default_rng(5).normal(size=(6, 3)).astype(np.float32)
    dataset = make_dataset([3, 3], next_observations=following)
    rows, batch = _drawn(dataset)
    assert set(rows) == set(range(6))
    assert not batch.terminations.any()
    np.testing.assert_array_equal(batch.next_observations.numpy(), scaled().observations(following[rows]))


def test_actions_and_observations_are_in_network_units():
    dataset = make_dataset([4], next_observations=np.zeros((4, 3), np.float32))
    batch = TransitionSampler(dataset, _functions(dataset), 0).transitions(np.array([2]))
    np.testing.assert_allclose(batch.actions.numpy(), dataset.actions[[2]] / 2, rtol=1e-6)  # torque in [-2, 2]
    np.testing.assert_allclose(batch.observations.numpy(), (dataset.observations[[2]] - 1) / 2, rtol=1e-6)


def test_data_without_any_next_observation_are_refused():
    with pytest.raises(DatasetError, match="no timestep has a known next observation"):
        TransitionSampler(make_dataset([1, 1]), _functions(make_dataset([1, 1])), 0)


def test_units_keep_the_bellman_equation():
    """offset + scale * (r' + gamma y') = r + gamma (offset + scale * y'), and the same without a next value."""
    dataset = make_dataset([4], terminations=_flags(4, [3]), truncations=_flags(4, []))
    functions = _functions(dataset, IQLConfig(discount=0.5))
    fit_units(functions, dataset)
    assert float(functions.offset) == pytest.approx(dataset.rewards.mean() * 2, rel=1e-5)  # 1 / (1 - 0.5) timesteps
    assert float(functions.scale) == pytest.approx(dataset.rewards.std(), rel=1e-5)
    batch = TransitionSampler(dataset, functions, 0).transitions(np.arange(4))
    offset, scale, outputs = float(functions.offset), float(functions.scale), np.array([0.3, -1.0, 2.0, 7.0])
    alive = ~batch.terminations.numpy()
    found = offset + scale * (batch.rewards.numpy() + 0.5 * alive * outputs)
    np.testing.assert_allclose(found, dataset.rewards + 0.5 * alive * (offset + scale * outputs), rtol=1e-5, atol=1e-6)


def test_equal_rewards_keep_a_scale_of_one():
    dataset = make_dataset([4, 2], rewards=np.full(6, -2.0, np.float32))
    functions = _functions(dataset)
    fit_units(functions, dataset)
    assert float(functions.offset) == pytest.approx(-200.0)  # cut short, they would have gone on
    assert float(functions.scale) == 1.0


def test_interrupted_training_continues_bit_for_bit():
    dataset = make_dataset([20, 30])
    whole, first, second = (ValueTraining(dataset, scaled(), SMALL, 3) for _ in range(3))
    for update in range(12):
        whole.update(update)
    for update in range(5):
        first.update(update)
    second.load_state({name: value.clone() for name, value in first.state().items()})
    for update in range(5, 12):
        second.update(update)
    assert whole.state().keys() == second.state().keys()
    for name, value in whole.state().items():
        assert torch.equal(value, second.state()[name]), name


def test_the_seed_and_nothing_else_decides():
    dataset = make_dataset([20, 30])
    one, other, different = (train_values(dataset, scaled(), SMALL, seed=seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert not torch.equal(one["q.mlp.weights.0"], different["q.mlp.weights.0"])


@pytest.mark.parametrize("shape", [None, CHOICES], ids=["continuous", "choices"])
def test_without_a_policy_q_and_v_are_the_same(shape):
    dataset, normalization = (
        (make_dataset([20, 30]), scaled()) if shape is None else (make_dataset([20, 30], shape=shape), IDENTITY)
    )
    alone = replace(SMALL, policy=False)
    told, functions = [], train_values(dataset, normalization, SMALL, seed=3).state_dict()
    without = train_values(dataset, normalization, alone, seed=3, progress=lambda *_, **found: told.append(set(found)))
    found = without.state_dict()
    assert {name for name in functions if name not in found} == {name for name in functions if name[:7] == "policy."}
    assert all(torch.equal(value, functions[name]) for name, value in found.items())
    assert told == 12 * [{"value_loss", "q_loss"}]
    restored = ValueFunctions.restore(alone, normalization, found)
    np.testing.assert_array_equal(restored.values(dataset.observations), without.values(dataset.observations))
    GreedyPolicy(restored).act(dataset.observations[:2])


def test_without_a_policy_nothing_imitates(tmp_path):
    with pytest.raises(UsageError, match="without a policy"):
        ImitationPolicy(train_values(make_dataset([20]), scaled(), replace(SMALL, policy=False)))
    with pytest.raises(UsageError, match="policy is off"):
        replace(SMALL, policy=False, evaluate_every=4)
    run = foretell.train_iql(make_dataset([20]), tmp_path / "run", values=replace(SMALL, policy=False))
    with pytest.raises(UsageError, match="without a policy"):
        foretell.load_policy(run)


def test_every_update_is_told():
    told = []
    train_values(make_dataset([20]), scaled(), SMALL, progress=lambda *done, **found: told.append((done, found)))
    assert [done for done, _ in told] == [(update, 12) for update in range(1, 13)]
    assert set(told[0][1]) == {"value_loss", "q_loss", "policy_loss"}


def test_functions_come_back_from_their_tensors():
    dataset = make_dataset([20, 30])
    functions = train_values(dataset, scaled(), SMALL)
    tensors = {name: value.clone() for name, value in functions.state_dict().items()}
    restored = ValueFunctions.restore(SMALL, Normalization.from_json(scaled().to_json()), tensors)
    pairs = (dataset.observations, dataset.actions)
    np.testing.assert_array_equal(restored.values(pairs[0]), functions.values(pairs[0]))
    np.testing.assert_array_equal(restored.q_values(*pairs), functions.q_values(*pairs))
    with pytest.raises(CheckpointError, match="do not make value functions"):
        ValueFunctions.restore(IQLConfig(hidden_sizes=(9,)), scaled(), tensors)
    with pytest.raises(CheckpointError, match="do not make value functions"):
        ValueFunctions.restore(SMALL, scaled(), {})


def test_images_are_refused():
    dataset = make_dataset([5], observations=np.zeros((5, 8, 8, 3), np.uint8))
    with pytest.raises(UsageError, match="expects vectors"):
        train_values(dataset, scaled(), SMALL)


CORRIDOR = IQLConfig(
    updates=1_000, batch_size=64, hidden_sizes=(32,), learning_rate=1e-2, expectile=0.95, discount=0.5, target_rate=0.05
)
TO_THE_RIGHT = {2: 1.0, 1: 0.5, 0: 0.25}
"""Value of each place of the corridor below where the way out is taken."""


def _corridor(discrete):
    """Places 0, 1, 2: a positive action (choice 1) goes right, others left or nowhere; 1 for leaving at the right."""
    rng, places, choices, rewards, ended, following, ends = np.random.default_rng(0), [], [], [], [], [], []
    for _ in range(200):
        place = int(rng.integers(3))
        for step in range(8):
            choice = int(rng.integers(2)) if discrete else float(rng.uniform(-1, 1))
            after = place + 1 if choice > 0 else max(place - 1, 0)
            for column, value in zip((places, choices, rewards, ended, following),
                                     (place, choice, float(after == 3), after == 3, after)):  # fmt: skip
                column.append(value)
            place = after
            if after == 3 or step == 7:
                break
        ends.append(len(places))
    ended, last = np.array(ended), _flags(len(places), np.array(ends) - 1)
    return make_dataset(
        np.diff(ends, prepend=0), shape=CHOICES, observations=np.eye(4, dtype=np.float32)[places],
        actions=np.array(choices, np.int64) if discrete else np.array(choices, np.float32)[:, None],
        rewards=np.array(rewards, np.float32), terminations=ended, truncations=last & ~ended,
        next_observations=np.eye(4, dtype=np.float32)[following],
    )  # fmt: skip


@pytest.mark.parametrize("discrete", [False, True], ids=["continuous", "discrete"])
def test_random_walks_teach_the_way_out(discrete):
    dataset = _corridor(discrete)
    action_range = None if discrete else ActionRange(low=(-1.0,), high=(1.0,))
    functions = train_values(dataset, Normalization.fit(dataset, action_range), CORRIDOR)
    places = np.eye(4, dtype=np.float32)[[2, 1, 0]]
    np.testing.assert_allclose(functions.values(places), [1.0, 0.5, 0.25], atol=0.1)
    for policy in (GreedyPolicy(functions), ImitationPolicy(functions)):
        policy.reset(3)
        chosen = policy.act(places)
        assert chosen.shape == ((3,) if discrete else (3, 1))
        assert (chosen > 0).all(), chosen


def test_greedy_takes_the_best_candidate_in_environment_units():
    dataset = make_dataset([20])
    functions = train_values(dataset, scaled(), SMALL)
    policy = GreedyPolicy(functions)
    actions = policy.act(dataset.observations)
    grid = 2 * policy.candidates.numpy()
    for observation, action in zip(dataset.observations, actions):
        q = functions.q_values(np.repeat(observation[None], len(grid), 0), grid)
        np.testing.assert_allclose(action, grid[q.argmax()], rtol=1e-6)
    assert np.array_equal(actions, GreedyPolicy(functions).act(dataset.observations))
    with pytest.raises(UsageError, match="observations of shape"):
        policy.act(dataset.observations[0])


def test_one_dimensional_actions_get_a_grid_with_both_bounds():
    functions = ValueFunctions(SMALL, scaled(1), 3, 1, torch.Generator())
    grid = GreedyPolicy(functions).candidates[:, 0]
    assert len(grid) == 41
    np.testing.assert_allclose(grid[[0, 20, 40]], [-1, 0, 1], atol=1e-6)


def test_choices_are_read_as_one_hot():
    functions = ValueFunctions(SMALL, IDENTITY, 3, 4, torch.Generator())
    assert functions.action_inputs(np.array([2, 0])).tolist() == [[0, 0, 1, 0], [1, 0, 0, 0]]
    assert GreedyPolicy(functions).candidates.tolist() == np.eye(4).tolist()


def test_a_batch_is_the_same_whichever_was_read_before(monkeypatch):
    dataset = make_dataset([30, 25])
    sampler = TransitionSampler(dataset, _functions(dataset), 0)
    monkeypatch.setattr(transitions, "TOGETHER", 1)
    alone = [sampler.batch(update, 6) for update in range(9)]
    monkeypatch.setattr(transitions, "TOGETHER", 25)  # four updates of six timesteps
    for update in (0, 1, 8, 3, 4, 4, 2, 7, 5, 6, 0):
        found = sampler.batch(update, 6)
        for name, column in vars(alone[update]).items():
            assert torch.equal(getattr(found, name), column), (update, name)
    assert len(sampler.batch(0, 3).rewards) == 3
    assert not torch.equal(alone[0].observations, alone[1].observations)


@pytest.mark.parametrize("unit", [1e-7, 1.0])
def test_rewards_in_small_units_have_unit_deviation_too(unit):
    rewards = (unit * np.random.default_rng(0).normal(size=40)).astype(np.float32)
    functions = ValueFunctions(IQLConfig(hidden_sizes=(4,)), scaled(2), 3, 2, torch.Generator().manual_seed(0))
    fit_units(functions, make_dataset([20, 20], rewards=rewards))
    assert float(functions.scale) == pytest.approx(float(rewards.std()), rel=1e-4)


def test_where_rewards_hardly_differ_and_returns_do_the_unit_is_theirs():
    """Each timestep costs 1, but the last of one episode in two, which ends it: returns range from -100 to 0."""
    rewards, terminations = np.full(4_000, -1.0, np.float32), np.zeros(4_000, bool)
    rewards[1_999], terminations[1_999] = 0.0, True
    data = make_dataset(
        [2_000, 2_000], rewards=rewards, terminations=terminations, truncations=np.arange(4_000) == 3_999
    )  # fmt: skip
    functions = _functions(data)
    fit_units(functions, data)
    assert float(functions.scale) == pytest.approx(100 / 400, rel=1e-3)
    assert float(functions.scale) > 5 * rewards.std()


@pytest.mark.parametrize("level", [0.0, -1.0, 100.0])
@pytest.mark.parametrize("length", [50, 1_000])
def test_a_constant_in_the_rewards_moves_the_offset_alone_where_nothing_ends(level, length):
    """What is cut short goes on: rewards that are alike do not fall towards the time limit."""
    rewards = np.random.default_rng(0).normal(size=2_000)
    data = make_dataset([length] * (2_000 // length), rewards=(rewards - rewards.mean() + level).astype(np.float32))
    functions = _functions(data)
    fit_units(functions, data)
    assert float(functions.offset) == pytest.approx(level / (1 - IQLConfig().discount), abs=1e-3)
    assert float(functions.scale) == pytest.approx(rewards.std(), rel=1e-4)


def test_what_ends_ends_what_is_earned():
    rewards, last = np.ones(60, np.float32), np.arange(60) % 6 == 5
    data = make_dataset([6] * 10, rewards=rewards, terminations=last, truncations=np.zeros(60, bool))
    functions = _functions(data)
    fit_units(functions, data)
    assert float(functions.offset) == pytest.approx(6.0)
    np.testing.assert_allclose(
        transitions._some_returns(data, 0.5, 1.0), discounted_returns_to_go(rewards, data.episode_ends, 0.5)
    )
    cut = make_dataset([6] * 10, rewards=rewards)
    np.testing.assert_allclose(transitions._some_returns(cut, 0.5, 1.0), 2.0)
    without_discount = _functions(cut, replace(SMALL, discount=1.0))
    fit_units(without_discount, cut)
    assert float(without_discount.offset) == pytest.approx(6.0)


def test_of_many_episodes_some_are_summed_and_of_long_ones_the_beginning(monkeypatch):
    monkeypatch.setattr(transitions, "STATISTICS_ROWS", 12)
    monkeypatch.setattr(transitions, "LONG_EPISODE", 3)
    data = make_dataset([4] * 10, rewards=np.arange(40, dtype=np.float32))
    found = transitions._some_returns(data, 0.5, 0.0)
    expected = [discounted_returns_to_go(data.rewards[first : first + 3], np.array([3]), 0.5) for first in (0, 16, 36)]
    np.testing.assert_allclose(found, np.concatenate(expected))
