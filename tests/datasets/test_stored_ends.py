from __future__ import annotations

import numpy as np
import pytest

from foretell.datasets.boundaries import SPOT_CHECKS, trusted_ends

ENDS = np.array([2, 3, 6])


def _flags(*rows, steps=6):
    found = np.zeros(steps, bool)
    found[list(rows)] = True
    return found


@pytest.mark.parametrize(
    ("terminations", "truncations", "expected"),
    [
        ((1, 2, 5), (), True), ((), (1, 2, 5), True), ((2,), (1, 5), True), ((1, 2), (2, 5), True),
        ((2,), (5,), False), ((), (1, 2), False), ((1, 5), (), False), ((0, 3), (1, 2, 4), False), ((), (), False),
    ],
)  # fmt: skip
def test_each_end_is_flagged_by_one_column_or_the_other(terminations, truncations, expected):
    assert trusted_ends(ENDS, _flags(*terminations), _flags(*truncations)) is expected


def test_many_ends_are_looked_at_here_and_there():
    steps = 3 * SPOT_CHECKS
    ends, nothing, everything = np.arange(1, steps + 1), np.zeros(steps, bool), np.ones(steps, bool)
    assert trusted_ends(ends, nothing, everything)
    assert trusted_ends(ends, everything, nothing)
    assert not trusted_ends(ends, nothing, _flags(*range(steps - 1), steps=steps))


class _Counted:
    """A column that counts the rows it is asked for."""

    def __init__(self, values):
        self.values, self.asked = values, 0

    def __len__(self):
        return len(self.values)

    def __getitem__(self, rows):
        self.asked += len(rows)
        return self.values[rows]


def test_terminations_are_read_only_where_no_timeout_says_it():
    terminations = _Counted(_flags(2))
    assert trusted_ends(ENDS, terminations, _flags(1, 5))
    assert terminations.asked == 1
