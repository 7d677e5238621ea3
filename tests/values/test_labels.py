from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell.core.returns import returns_to_go
from foretell.values import candidates, labels
from foretell.values.configs import IQLConfig
from foretell.values.labels import discounted_returns_to_go, label, relabelled_returns_to_go
from foretell.values.training import train_values
from reference import iql as reference
from reference.making import CHOICES, IDENTITY, make_dataset, scaled


def test_relabelling_by_hand():
    rewards, values = np.array([-1.0, -1.0, -1.0, 2.0, 0.0]), np.array([9.0, -5.0, -0.5, 9.0, 4.0])
    # -1 + max(-1.5, -5); -1 + max(-1, -0.5); -1 at the end, whatever comes next; 2 + max(0, 4); 0
    assert relabelled_returns_to_go(rewards, values, np.array([3, 5])).tolist() == [-2.5, -1.5, -1.0, 6.0, 0.0]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 7), min_size=1, max_size=40), st.integers(0, 1_000))
def test_relabelling_equals_one_timestep_after_the_other(lengths, seed):
    rng, ends = np.random.default_rng(seed), np.cumsum(lengths)
    rewards, values = rng.normal(size=(2, ends[-1]))
    found = relabelled_returns_to_go(rewards, values, ends)
    np.testing.assert_allclose(found, reference.relabelled(rewards, values, ends.tolist()), rtol=1e-6, atol=1e-6)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 7), min_size=1, max_size=40), st.integers(0, 1_000), st.sampled_from([0.0, 0.9, 1.0]))
def test_discounted_returns_are_the_same_bits_one_timestep_after_the_other(lengths, seed, discount):
    ends = np.cumsum(lengths)
    rewards = np.random.default_rng(seed).normal(size=ends[-1]).astype(np.float32)
    expected = rewards.astype(np.float64)
    for row in reversed(range(len(rewards) - 1)):
        if row + 1 not in ends:
            expected[row] += discount * expected[row + 1]
    assert np.array_equal(discounted_returns_to_go(rewards, ends, discount), expected)


def test_one_long_episode_among_many_short_ones_is_no_pass_over_all_for_each_of_its_timesteps():
    ends, looked_at = np.cumsum([1] * 2_000 + [3_000]), []

    def earned(reward, following, row):
        looked_at.append(np.size(row))
        return reward + following

    found = labels._from_the_ends(np.ones(5_000), ends, earned)
    assert found[[0, 1_999, 2_000, -1]].tolist() == [1, 1, 3_000, 1]
    assert sum(looked_at) == 2_999


def test_pairs_of_states_and_candidates_are_made_as_they_are_asked_about(monkeypatch):
    data = make_dataset([40, 30], shape=CHOICES, actions=np.arange(70) % 3)
    functions = train_values(data, IDENTITY, IQLConfig(updates=2, batch_size=8, hidden_sizes=(8,)))
    states, choices, asked = functions.inputs(data.observations), torch.eye(functions.action_dim), []
    every = candidates.smaller_q(
        functions, states.repeat_interleave(len(choices), 0), choices.repeat(len(states), 1)
    ).reshape(70, -1)
    known = candidates._smaller
    monkeypatch.setattr(candidates, "_smaller", lambda functions, pairs, width: known(
        functions, (asked.append(len(some)) or some for some in pairs), width
    ))  # fmt: skip
    assert torch.equal(candidates.q_of_candidates(functions, states, choices), every)
    monkeypatch.setattr(candidates, "CACHED_ROWS", 64)
    found = candidates.q_of_candidates(functions, states, choices)
    torch.testing.assert_close(found, every)
    assert asked[-4:] == [64, 64, 64, 18]
    assert candidates.q_of_candidates(functions, states[:0], choices).shape == (0, len(choices))


def test_values_below_everything_leave_the_recorded_returns():
    rewards = np.random.default_rng(0).normal(size=6).astype(np.float32)
    found = relabelled_returns_to_go(rewards, np.full(6, -1e9), np.array([2, 6]))
    np.testing.assert_allclose(found, np.concatenate([returns_to_go(rewards[:2]), returns_to_go(rewards[2:])]))


def test_labels_are_the_functions_answers_whatever_the_block(monkeypatch):
    dataset = make_dataset([20, 30])
    functions = train_values(dataset, scaled(), IQLConfig(updates=5, batch_size=8, hidden_sizes=(8,)))
    monkeypatch.setattr(labels, "BLOCK_ROWS", 7)
    told = []
    found = label(functions, dataset, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (50, 50)
    np.testing.assert_allclose(found.values, functions.values(dataset.observations), rtol=1e-5)
    np.testing.assert_allclose(found.q_values, functions.q_values(dataset.observations, dataset.actions), rtol=1e-5)
    np.testing.assert_array_equal(found.advantages, found.q_values - found.values)
    assert found.values.dtype == found.q_values.dtype == np.float32


def _learned(dataset, normalization):
    return train_values(dataset, normalization, IQLConfig(updates=5, batch_size=8, hidden_sizes=(8,)))


def test_the_smaller_q_does_not_depend_on_how_many_rows_are_computed_at_a_time(monkeypatch):
    shape = replace(CHOICES, action_dim=1, discrete=False)
    functions = _learned(make_dataset([30, 25], shape=shape), scaled(1))
    generator = torch.Generator().manual_seed(0)  # a value close to 0 is nothing to measure rounding by
    states = torch.randn(57, functions.observation_dim, generator=generator)
    actions = torch.rand(57, functions.action_dim, generator=generator)
    with torch.no_grad():
        expected = functions.q(states, actions).min(0).values
        monkeypatch.setattr(candidates, "CACHED_ROWS", 10)
        np.testing.assert_allclose(candidates.smaller_q(functions, states, actions), expected, rtol=1e-5)
