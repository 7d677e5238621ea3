from __future__ import annotations

import hashlib

import numpy as np
import pytest

from foretell.core.seeding import derive_seed, stream


@pytest.mark.parametrize("root_seed", [0, 3, 2**32 - 1, 2**32, 2**70])
@pytest.mark.parametrize("indices", [(), (0,), (7, 2**32 - 1), (2**32,), (np.int64(5), 2**40)])
def test_streams_are_those_of_numpys_own_reading_of_large_numbers(root_seed, indices):
    words = np.frombuffer(hashlib.sha256(b"name").digest()[:16], dtype="<u4")
    sequence = np.random.SeedSequence([root_seed, *map(int, words), *map(int, indices)])
    assert derive_seed(root_seed, "name", *indices) == int(sequence.generate_state(1, np.uint64)[0] >> 1)
    assert stream(root_seed, "name", *indices).random() == np.random.Generator(np.random.PCG64(sequence)).random()
