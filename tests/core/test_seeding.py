from __future__ import annotations

import hashlib

import numpy as np
import pytest

from foretell.core.errors import UsageError
from foretell.core.seeding import derive_seed, derive_seeds, stream


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1, 2**32, 2**63 - 1, 2**70])
@pytest.mark.parametrize("indices", [(), (0,), (7, 0), (2**32 - 1,), (2**32,), (np.int64(5), 2**40)])
def test_a_stream_is_that_of_a_list_of_numbers(seed, indices):
    """Runs of earlier versions draw the same: root seed, the first 16 bytes of the name's SHA-256, indices."""
    digest = hashlib.sha256(b"windows").digest()
    name = [int.from_bytes(digest[start : start + 4], "little") for start in range(0, 16, 4)]
    sequence = np.random.SeedSequence([seed, *name, *map(int, indices)])
    expected = np.random.Generator(np.random.PCG64(sequence)).integers(2**62, size=5)
    assert stream(seed, "windows", *indices).integers(2**62, size=5).tolist() == expected.tolist()
    assert derive_seed(seed, "windows", *indices) == int(sequence.generate_state(1, np.uint64)[0]) // 2


def test_streams_of_other_names_and_indices_differ():
    firsts = [stream(*asked).integers(2**62) for asked in ((0, "a"), (0, "b"), (1, "a"), (0, "a", 0), (0, "a", 1))]
    assert len(set(firsts)) == len(firsts)


def test_seeds_below_zero_are_refused():
    with pytest.raises(UsageError, match="seed -1"):
        stream(-1, "windows")


@pytest.mark.parametrize("count", [1, 199, 200, 201, 300, 1000])
def test_a_shorter_list_of_seeds_is_the_beginning_of_a_longer_one(count):
    longest = derive_seeds(3, "evaluation-starts", 1200)
    assert derive_seeds(3, "evaluation-starts", count) == longest[:count]
    assert len(set(longest)) == 1200
    assert all(0 <= seed < 2**31 - 1 for seed in longest)


def test_the_first_200_seeds_are_those_of_one_draw():
    """Which all recorded evaluations have."""
    drawn = stream(0, "evaluation-starts").choice(2**31 - 1, size=200, replace=False)
    assert derive_seeds(0, "evaluation-starts", 1000)[:200] == drawn.tolist()


def test_lists_of_other_names_and_roots_share_no_seeds_beyond_the_first_draw_either():
    lists = [derive_seeds(*asked, 400)[200:] for asked in ((0, "evaluation"), (0, "validation"), (1, "evaluation"))]
    assert len({seed for found in lists for seed in found}) == 600
    assert max(map(max, lists)) > 2**30
