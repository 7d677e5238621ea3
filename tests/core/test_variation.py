"""What varies has a deviation, in whatever units it comes."""

from __future__ import annotations

import numpy as np
import pytest

from foretell.core.variation import deviation_and_variation


@pytest.mark.parametrize("unit", [1e-30, 1e-9, 1e-6, 1.0, 1e12])
def test_a_unit_changes_no_answer(unit):
    rng = np.random.default_rng(0)
    columns = unit * np.stack([rng.normal(size=50), np.full(50, 0.3), rng.normal(3.0, 0.01, 50)], 1)
    deviation, varies = deviation_and_variation(columns)
    assert varies.tolist() == [True, False, True]
    np.testing.assert_allclose(deviation[[0, 2]], columns.std(0)[[0, 2]])
    assert deviation[1] == 1.0


def test_rounding_is_no_variation():
    """Of numbers of 1 and more as before: what deviates by a millionth of 1."""
    rng = np.random.default_rng(0)
    for around in (0.01, 1.0):
        assert not deviation_and_variation(around + 1e-7 * around * rng.normal(size=100))[1]
    assert deviation_and_variation(1000 + 1e-5 * rng.normal(size=100))[1]
    assert not deviation_and_variation(np.zeros(5))[1]


def test_negative_numbers_are_as_large_as_positive_ones():
    around = -1e-3 + 1e-12 * np.random.default_rng(0).normal(size=100)
    assert not deviation_and_variation(around)[1]
    assert not deviation_and_variation(-around)[1]
    assert deviation_and_variation(np.array([-1e-9, 1e-9]))[1]
