"""Windows gathered in C beside NumPy's, bit for bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conformance.checks import notices
from foretell.sequences import windows
from foretell.sequences.native import gathering
from foretell.sequences.windows import TOGETHER_BYTES, WindowSampler
from reference.making import CHOICES, IDENTITY, VECTOR, make_dataset, scaled
from reference.windows import assert_equal


@pytest.fixture(autouse=True)
def library():
    found = gathering._library()
    assert found is not None, "no C compiler on this machine"
    return found


def _pair(data, **asked):
    """A sampler in C, and one by NumPy."""
    normalization = IDENTITY if data.discrete else scaled()
    ours, plain = (WindowSampler(data, normalization, seed=3, **asked) for _ in range(2))
    assert ours._gathering is not None
    plain._gathering = None
    return ours, plain


@settings(deadline=None, max_examples=60)
@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=6), context_length=st.integers(1, 15),
    seed=st.integers(0, 99), shape=st.sampled_from([VECTOR, CHOICES]), told=st.booleans(), goals=st.booleans(),
)  # fmt: skip
def test_batches_are_those_of_numpy(lengths, context_length, seed, shape, told, goals):
    data = make_dataset(lengths, seed=seed, shape=shape)
    falls = np.zeros(data.num_steps, bool)
    falls[data.episode_ends[::2] - 1] = True
    data = replace(data, terminations=falls, truncations=data.truncations & ~falls)
    numbers = np.random.default_rng(seed).normal(size=data.num_steps).astype(np.float32) if told else None
    ours, plain = _pair(data, context_length=context_length, told=numbers, goals=goals)
    for update in (0, 1, 5000, 3, 2):
        assert_equal(ours.batch(update, 7), plain.batch(update, 7))
        assert_equal(ours.batch(update, 7), plain.windows(*plain.draw(update, 7)))


@pytest.mark.parametrize("together", [0.5, 1.0, 3.5, 40.0])
def test_batches_are_the_same_alone_and_with_those_beside_them(together):
    ours, plain = _pair(make_dataset([3, 5, 2]), context_length=2)
    size = int(TOGETHER_BYTES / ours._window_bytes / together)
    for update in (0, 1, 2, 3, 2, 7, 1):
        assert_equal(ours.batch(update, size), plain.windows(*plain.draw(update, size)))


@pytest.mark.parametrize("dtype", [np.float64, np.uint8])
def test_columns_of_other_types_are_gathered_as_they_lie(dtype):
    data = make_dataset([3, 5, 2])
    data = replace(
        data, observations=(10 * data.observations).astype(dtype), rewards=data.rewards.astype(np.float64)
    )  # fmt: skip
    ours, plain = _pair(data, context_length=4)
    rows = np.arange(data.num_steps)
    assert_equal(ours.windows(rows), plain.windows(rows))


def test_columns_that_are_not_aligned_are_left_to_numpy():
    data = make_dataset([3, 5, 2])
    bytes_of = np.frombuffer(b" " + data.rewards.tobytes(), np.uint8)[1:]
    data = replace(data, rewards=bytes_of.view(np.float32))
    assert not data.rewards.flags.aligned
    sampler = WindowSampler(data, scaled(), context_length=2, seed=0)
    assert sampler._gathering is None
    assert sampler.batch(0, 4).rewards.shape == (4, 2)


@pytest.mark.parametrize("rows", [[0, 10], [-1]])
def test_rows_that_are_not_there_are_an_error(rows):
    ours, _ = _pair(make_dataset([3, 5, 2]), context_length=2)
    with pytest.raises(IndexError, match="the dataset has 0 to 9"):
        ours.windows(np.array(rows))
    assert ours._gathering is not None
    ours._gathering.bring(np.array(rows))  # a hint: what is not there is not asked for


def test_without_a_library_numpy_gathers(monkeypatch):
    monkeypatch.setattr(gathering, "_library", lambda: None)
    sampler = WindowSampler(make_dataset([3, 5, 2]), scaled(), context_length=2, seed=0)
    assert sampler._gathering is None
    assert sampler.batch(0, 6).rewards.shape == (6, 2)


def check_a_part_draws_its_own():
    sampler = WindowSampler(make_dataset([3, 5, 2]), scaled(), context_length=2, seed=0)
    whole = sampler.batch(0, 6)
    part = sampler.part(1, 2).batch(0, 6)
    assert torch.equal(part.observations, whole.observations[3:])


def test_what_was_drawn_for_the_whole_is_not_a_parts():
    check_a_part_draws_its_own()


def test_a_draw_that_a_part_inherits_is_noticed(monkeypatch):
    def part(self, number, count):
        found = windows.copy.copy(self)
        found._part = (number, count)
        return found

    monkeypatch.setattr(WindowSampler, "part", part)
    notices(check_a_part_draws_its_own)
