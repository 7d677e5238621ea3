"""Each rule of what an HDF5 file may hold refuses what it is for, and says so: a file for each, without a watchdog."""

from __future__ import annotations

import pytest

from faults.hostile_hdf5 import build
from foretell.core.errors import DatasetError
from foretell.datasets.d4rl import read_d4rl

WORDS = {
    "hard link to another column": "is the same object as",
    "a name that clears the screen": "is no name",
    "more objects than anyone needs": "more than 10000 objects",
    "an array without a shape": "holds nothing",
    "compound": "has type .* expected integers, floats of 16 to 64 bits",
    "floats with another exponent": "is stored as no machine stores it",
    "a filter with a number that nobody has": "HDF5 filter 511",
    "gzip in gzip": "is compressed more than once",
    "declared and never written": "was never written",
    "a chunk of which most is missing": "holds 1 of its 4 chunks",
}


@pytest.mark.parametrize("name", WORDS)
def test_a_rule_says_what_it_refuses(name, tmp_path):
    with pytest.raises(DatasetError, match=WORDS[name]):
        read_d4rl(build(name, tmp_path, tmp_path / "none"))
