from __future__ import annotations

import numpy as np
import pytest

from foretell.core.numbers import as_float32
from foretell.datasets.dataset import Dataset, DatasetMetadata
from foretell.datasets.doctor import diagnose

TINY = [0.5, -1e-41, 0.0, 1.2e-38, -1.1e-38, 1e-300]


def test_what_has_died_away_in_wider_numbers_is_nothing():
    assert as_float32(np.array(TINY)).tolist() == [0.5, 0.0, 0.0, float(np.float32(1.2e-38)), 0.0, 0.0]


@pytest.mark.parametrize("kind", [np.float32, np.float16, np.int64, bool, ">f4"])
def test_other_numbers_are_what_numpy_makes_of_them(kind):
    values = np.array([1.0, 0.0, 1e-40, 3.0]).astype(kind)
    np.testing.assert_array_equal(as_float32(values).view(np.uint32), values.astype(np.float32).view(np.uint32))
    assert as_float32(values).dtype == np.float32


def test_a_zero_keeps_its_sign():
    assert np.signbit(as_float32(np.array([-0.0, 0.0, -1e-41]))).tolist() == [True, False, False]


def test_too_large_becomes_infinite_without_a_warning():
    assert as_float32(np.array([1e300, -1e300])).tolist() == [np.inf, -np.inf]


@pytest.mark.parametrize(("kind", "warned"), [(np.float64, False), (np.float32, True)])
def test_only_denormals_that_a_file_holds_are_taken_for_misread_bytes(kind, warned):
    observations = np.random.default_rng(0).normal(size=(6, 2)).astype(kind)
    observations[3, 1] = -4.5e-41
    data = Dataset(
        name="data", observations=observations, actions=np.zeros((6, 1)), rewards=np.arange(6.0),
        terminations=np.zeros(6, bool), truncations=np.arange(6) == 5, next_observations=None,
        episode_ends=np.array([6]), metadata=DatasetMetadata(),
    )  # fmt: skip
    assert ("magnitude" in [one.check for one in diagnose(data)]) is warned
