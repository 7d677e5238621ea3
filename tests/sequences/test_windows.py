from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell.core.errors import UsageError
from foretell.models.configs import SequenceShape
from foretell.sequences.normalization import Normalization
from foretell.sequences.windows import WindowSampler
from reference.making import CHOICES, IDENTITY, VECTOR, make_dataset, scaled
from reference.windows import as_rows, windows_slowly


@settings(deadline=None, max_examples=60)
@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=6), context_length=st.integers(1, 15),
    seed=st.integers(0, 99), shape=st.sampled_from([VECTOR, CHOICES]),
)  # fmt: skip
def test_equal_to_the_slow_reference(lengths, context_length, seed, shape):
    data = make_dataset(lengths, seed=seed, shape=shape)
    falls = np.zeros(data.num_steps, bool)
    falls[data.episode_ends[::2] - 1] = True  # every other episode ends for good
    data = replace(data, terminations=falls, truncations=data.truncations & ~falls)
    normalization = IDENTITY if shape.discrete else scaled()
    rows = np.arange(data.num_steps)
    found = as_rows(WindowSampler(data, normalization, context_length=context_length, seed=0).windows(rows))
    expected = windows_slowly(data, rows, context_length)
    for mine, theirs in zip(found, expected, strict=True):
        for ours, raw in zip(mine, theirs, strict=True):
            assert (ours is None) == (raw is None)
            if ours is None or raw is None:
                continue
            for name in ("timesteps", "rewards", "terminations"):
                assert ours[name] == raw[name], name
            if shape.discrete:
                assert ours["actions"] == raw["actions"]
                np.testing.assert_allclose(ours["observations"], raw["observations"])
                np.testing.assert_allclose(ours["returns_to_go"][0], raw["returns_to_go"], atol=1e-5)
            else:
                np.testing.assert_allclose(ours["actions"], raw["actions"] / 2, atol=1e-6)
                np.testing.assert_allclose(ours["observations"], (raw["observations"] - 1) / 2, atol=1e-6)
                np.testing.assert_allclose(ours["returns_to_go"][0], raw["returns_to_go"] / 10, atol=1e-6)


@pytest.mark.parametrize("lengths", [[4], [4, 4, 4], [4, 4, 1], [4, 4, 6], [1, 1, 1], [4, 3, 4]])
def test_episodes_of_one_length_are_told_apart_like_any_others(lengths):
    data = make_dataset(lengths)
    last = np.arange(data.num_steps)
    sampler = WindowSampler(data, scaled(), context_length=3, seed=0)
    expected = [
        [None if step is None else (step["timesteps"], step["rewards"]) for step in window]
        for window in windows_slowly(data, last, 3)
    ]
    found = [
        [None if step is None else (step["timesteps"], step["rewards"]) for step in window]
        for window in as_rows(sampler.windows(last))
    ]
    assert found == expected
    ends = np.repeat(data.episode_ends, lengths)
    assert sampler.goal_rows(last, np.full(len(last), 0.999)).tolist() == (ends - 1).tolist()


def _unaligned(values):
    """The same numbers one byte off, as foreign files may hold them."""
    bytes_of = b"\0" + values.tobytes()
    return np.frombuffer(bytes_of, values.dtype, values.size, 1).reshape(values.shape)


def _with_gaps(values):
    """The same numbers with others between them."""
    return np.repeat(values, 2, axis=0)[::2]


@pytest.mark.parametrize("laid", [_unaligned, _with_gaps])
def test_columns_may_lie_in_memory_in_any_way_and_are_not_copied(laid):
    plain = make_dataset([100] * 2_000)
    columns = {name: laid(values) for name, values in plain.columns().items() if values.dtype == np.float32}
    assert not any(values.flags.carray for values in columns.values())
    expected = WindowSampler(plain, scaled(), context_length=4, seed=0).batch(0, 8)
    sampler = WindowSampler(replace(plain, **columns), scaled(), context_length=4, seed=0)
    tracemalloc.start()
    found = sampler.batch(0, 8)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < min(values.nbytes for values in columns.values()) / 4
    for name, value in vars(found).items():
        assert name == "goals" or torch.equal(value, getattr(expected, name)), name


def test_padding_is_zero_and_types_are_fixed():
    for shape, kind in ((VECTOR, torch.float32), (CHOICES, torch.int64)):
        data = make_dataset([2, 3], shape=shape)
        batch = WindowSampler(data, IDENTITY if shape.discrete else scaled(), context_length=5, seed=0).windows(
            np.array([0, 3])
        )
        assert batch.mask.tolist() == [[False] * 4 + [True], [False] * 3 + [True, True]]
        assert (batch.actions.dtype, batch.observations.dtype, batch.timesteps.dtype) == (
            kind, torch.float32, torch.int64,
        )  # fmt: skip
        assert (batch.rewards.dtype, batch.terminations.dtype) == (torch.float32, torch.bool)
        for name in ("observations", "actions", "returns_to_go", "timesteps", "rewards", "terminations"):
            assert not getattr(batch, name)[~batch.mask].any(), name
        assert batch.timesteps[1].tolist() == [0, 0, 0, 0, 1]


def test_a_batch_is_a_function_of_seed_and_update():
    data = make_dataset([7, 30, 2])
    sampler = WindowSampler(data, scaled(), context_length=4, seed=5)
    first = sampler.batch(3, 16)
    for update in (9, 0):
        sampler.batch(update, 16)
    again = WindowSampler(data, scaled(), context_length=4, seed=5).batch(3, 16)
    for name, value in vars(sampler.batch(3, 16)).items():
        if name != "goals":
            assert torch.equal(value, getattr(first, name))
            assert torch.equal(value, getattr(again, name))
    others = (sampler.batch(4, 16), WindowSampler(data, scaled(), context_length=4, seed=6).batch(3, 16))
    for other in others:
        assert not torch.equal(other.observations, first.observations)


def test_mapped_columns_stay_where_they_lie(pendulum_random):
    assert isinstance(pendulum_random.observations, np.memmap)
    sampler = WindowSampler(pendulum_random, scaled(1), context_length=4, seed=0)
    for name in ("observations", "actions", "rewards"):
        assert np.shares_memory(getattr(sampler, f"_{name}"), getattr(pendulum_random, name))
    sampler.batch(0, 8)


def test_windows_do_not_write_into_the_data():
    data = make_dataset([5])
    before = data.observations.copy()
    batch = WindowSampler(data, IDENTITY_WITH_ACTIONS, context_length=3, seed=0).windows(np.array([4]))
    batch.observations.fill_(9.0)
    np.testing.assert_array_equal(data.observations, before)


IDENTITY_WITH_ACTIONS = scaled(return_scale=1.0)


def test_images_are_scaled_to_the_unit_interval():
    shape = SequenceShape(observation_shape=(2, 2, 3), action_dim=2, discrete=True, max_timesteps=3)
    images = np.random.default_rng(0).integers(0, 256, (3, 2, 2, 3), dtype=np.uint8)
    data = make_dataset([3], shape=shape, observations=images)
    normalization = type(IDENTITY).fit(data, None)
    batch = WindowSampler(data, normalization, context_length=3, seed=0).windows(np.array([2]))
    np.testing.assert_allclose(batch.observations[0], images / 255.0, atol=1e-6)


def _numbered(*, known=True, **asked):
    """A sampler of episodes of 3, 1 and 6 timesteps; observations are their row's number, what follows half more."""
    rows = np.arange(10, dtype=np.float32)[:, None]
    data = make_dataset([3, 1, 6], observations=rows, next_observations=rows + 0.5 if known else None)
    return WindowSampler(data, scaled(), context_length=2, seed=0, **asked)


def test_goals_lie_behind_a_windows_end_up_to_its_episodes_final_observation():
    last, later = np.array([0, 0, 2, 3, 4, 4, 4, 9]), np.array([0.0, 0.999, 0.999, 0.5, 0.0, 0.5, 0.999, 0.999])
    batch = _numbered(goals=True).windows(last, later)
    assert batch.goals.dtype == torch.float32
    assert (2 * batch.goals + 1).tolist() == [[0.5], [2.5], [2.5], [3.5], [4.5], [7.5], [9.5], [9.5]]
    assert _numbered().windows(last).goals is None
    assert _numbered().batch(0, 4).goals is None


def test_a_final_observation_that_is_not_known_is_no_goal():
    """The one before it stands for it; only from there on there is none later than the present one."""
    last, later = np.array([0, 0, 2, 3, 4, 4, 4, 9]), np.array([0.0, 0.999, 0.999, 0.5, 0.0, 0.5, 0.999, 0.999])
    batch = _numbered(known=False, goals=True).windows(last, later)
    assert (2 * batch.goals + 1).tolist() == [[1.0], [2.0], [2.0], [3.0], [5.0], [8.0], [9.0], [9.0]]


def test_every_later_observation_is_as_likely_a_goal():
    batches = [_numbered(goals=True).batch(update, 400) for update in range(30)]
    ends = np.concatenate([2 * batch.observations[:, -1, 0] + 1 for batch in batches]).astype(int)
    goals = np.concatenate([2 * batch.goals[:, 0] + 1 for batch in batches])
    assert set((goals % 1).tolist()) == {0.5}
    goals = goals.astype(int)
    for row, among in ((0, range(3)), (3, [3]), (4, range(4, 10)), (8, (8, 9))):
        counts = np.bincount(goals[ends == row], minlength=10)
        assert counts.sum() == counts[list(among)].sum() > 1000
        assert len(among) == 1 or scipy.stats.chisquare(counts[list(among)]).pvalue > 1e-4


def test_goals_are_a_function_of_seed_and_update_and_change_nothing_else():
    plain, first, again = _numbered().batch(3, 16), _numbered(goals=True).batch(3, 16), _numbered(goals=True)
    again.batch(0, 16)
    assert torch.equal(again.batch(3, 16).goals, first.goals)
    assert not torch.equal(again.batch(4, 16).goals, first.goals)
    for name, value in vars(plain).items():
        assert name == "goals" or torch.equal(value, getattr(first, name)), name


def test_context_length_below_one_is_refused():
    with pytest.raises(UsageError, match="at least 1"):
        WindowSampler(make_dataset([2]), scaled(), context_length=0, seed=0)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_images_are_scaled_in_one_piece_of_memory(dtype):
    shape = SequenceShape(observation_shape=(3, 40, 40), action_dim=2, discrete=True, max_timesteps=20)
    seen = np.random.default_rng(0).integers(0, 256, (200, 3, 40, 40)).astype(dtype)
    data = make_dataset([20] * 10, shape=shape, observations=seen)
    normalization = Normalization.fit(data, None)
    sampler = WindowSampler(data, normalization, context_length=15, seed=0)
    sampler.batch(0, 8)
    tracemalloc.start()
    found = sampler.batch(100, 8)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert not found.mask.all()
    assert most < 1.5 * found.observations.nbytes
    by_hand = (seen.astype(np.float32) - np.float32(0)) / np.float32(255 if dtype == np.uint8 else 1)
    ends = sampler.draw(100, 8)[0]
    for window, mask, last in zip(found.observations.numpy(), found.mask.numpy(), ends, strict=True):
        np.testing.assert_array_equal(window[mask], by_hand[last + 1 - mask.sum() : last + 1], strict=True)
        assert not window[~mask].any()
