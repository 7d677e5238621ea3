"""Returns-to-go of long episodes: the bits of whole sums, for the cost of short ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell.sequences import behind
from foretell.sequences.behind import SumsBehind
from foretell.sequences.windows import WindowSampler
from reference.making import IDENTITY, make_dataset


def _whole(data):
    """Every row's return-to-go, each summed anew to its episode's end."""
    found = np.empty(data.num_steps)
    for start, end in zip(data.episode_starts, data.episode_ends):
        found[start:end] = np.cumsum(data.rewards[start:end][::-1], dtype=np.float64)[::-1]
    return found


@settings(deadline=None, max_examples=40)
@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=4), context_length=st.integers(1, 9),
    seed=st.integers(0, 99), native=st.booleans(), piece=st.sampled_from([4, 8, 20, 200]), double=st.booleans(),
)  # fmt: skip
def test_sums_are_those_to_the_end_bit_for_bit(lengths, context_length, seed, native, piece, double):
    rewards = np.random.default_rng(seed).normal(size=sum(lengths)) * 10.0 ** (seed % 7)
    data = make_dataset(lengths, seed=seed, rewards=rewards.astype(np.float64 if double else np.float32))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(behind, "SPAN", 4)
        patch.setattr(behind, "PIECE", piece)
        sampler = WindowSampler(data, IDENTITY, context_length=context_length, seed=seed)
        assert sampler._behind._needed == (max(lengths) > 4)
        if not native:
            sampler._gathering = None
        expected = _whole(data)
        rows = np.random.default_rng(seed).permutation(data.num_steps)
        columns, _, ends, mask, _ = sampler._read(rows)
        found = sampler._returns_to_go(columns[2] * mask, rows, ends)
        for row, returns, real in zip(rows, found, mask):
            assert returns[real].tolist() == expected[row + 1 - real.sum() : row + 1].tolist()
        plain = np.concatenate([
            sampler.told_rows(slice(first, min(first + 7, data.num_steps))) for first in range(0, data.num_steps, 7)
        ])  # fmt: skip
        assert plain.tolist() == sampler.normalization.returns(expected).tolist()


def test_sums_are_those_to_the_end_at_the_real_span():
    data = make_dataset([3 * behind.PIECE + 17, 5, behind.SPAN, behind.SPAN + 1])
    sampler, expected = WindowSampler(data, IDENTITY, context_length=1, seed=0), _whole(data)
    ends = data.episode_ends
    near = [behind.SPAN * np.arange(1, 40) + shift for shift in (0, 1, 2)]  # of the first end, around whole spans
    rows = np.concatenate([data.episode_starts, ends - 1, *(ends[0] - distance for distance in near)])
    found = sampler.windows(rows).returns_to_go[:, 0, 0].numpy()
    assert found.tolist() == sampler.normalization.returns(expected[rows]).tolist()


def test_no_more_than_a_span_is_left_to_add_up():
    rewards = np.ones(10 * behind.SPAN, np.float32)
    sums = SumsBehind(rewards, np.array([0, 10]), np.array([10, len(rewards)]))
    rows = np.array([0, 9, 10, 11, len(rewards) - 1, len(rewards) - 1 - behind.SPAN])
    ends = np.array([10, 10, *[len(rewards)] * 4])
    near, kept = sums.nearest(rows, ends)
    assert kept is not None
    assert ((near > rows) & (near <= rows + behind.SPAN)).all()
    assert kept.tolist() == (ends - near).tolist()
    assert len(sums._kept) == 1, "an episode's rewards are added up once"
    assert sums.nearest(rows, ends)[1].tolist() == kept.tolist()


def test_short_episodes_keep_nothing():
    sums = SumsBehind(np.ones(20, np.float32), np.array([0, 10]), np.array([10, 20]))
    ends = np.array([10, 20])
    near, kept = sums.nearest(np.array([3, 12]), ends)
    assert near is ends
    assert kept is None
    assert not sums._kept
