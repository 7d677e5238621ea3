"""Sums of bells and cosines in C beside NumPy's, term by term."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from foretell.values import gaussian_process
from foretell.values.gaussian_process import GaussianProcess, PosteriorDraws
from foretell.values.native import bells
from foretell.values.native.bells import sum_of_bells, sum_of_cosines


@pytest.fixture(autouse=True)
def _the_library_is_there():
    assert bells._function() is not None, "no C compiler on this machine"


def _numbers(*shape, seed=0, size=1.0):
    return torch.from_numpy(size * np.random.default_rng(seed).normal(size=shape))


SHAPES = [(1, 1, 1, 1), (3, 2, 7, 1), (5, 6, 8, 5), (4, 6, 9, 8), (6, 3, 100, 9), (2, 5, 1_003, 17)]


@pytest.mark.parametrize(("rows", "terms", "others", "members"), SHAPES)
def test_bells_are_the_formula(rows, terms, others, members):
    inputs, columns, weights = _numbers(rows, terms), _numbers(terms, others, seed=1), _numbers(members, others, seed=2)
    exponents = (inputs.numpy()[:, :, None] * columns.numpy()).sum(1).clip(-3.0, 2.0)
    expected = (np.exp(exponents)[:, None] * weights.numpy()).sum(2)
    found = sum_of_bells(inputs, columns, weights, -3.0, 2.0)
    np.testing.assert_allclose(found, expected, rtol=0.0, atol=1e-13 * np.exp(2.0) * others)


@pytest.mark.parametrize(("rows", "terms", "others", "members"), SHAPES)
def test_cosines_are_the_formula(rows, terms, others, members):
    inputs, columns, weights = _numbers(rows, terms), _numbers(terms, others, seed=1), _numbers(members, others, seed=2)
    angles = 30 * (inputs.numpy()[:, :, None] * columns.numpy()).sum(1)
    expected = (np.cos(angles)[:, None] * weights.numpy()).sum(2)
    np.testing.assert_allclose(sum_of_cosines(30 * inputs, columns, weights), expected, rtol=0.0, atol=1e-12 * others)


@pytest.mark.parametrize("exponent", [-708.0, -700.0, -36.04, -1e-300, 0.0, 0.34657359, 0.3466, 1.0, 88.7, 708.0])
def test_an_exponential_is_good_to_two_units_in_the_last_place(exponent):
    one = torch.ones(1, 1, dtype=torch.float64)
    found = float(sum_of_bells(one * exponent, one, one, -708.0, 708.0))
    assert abs(found - math.exp(exponent)) <= 2 * np.spacing(math.exp(exponent))


@pytest.mark.parametrize("angle", [0.0, 1e-9, math.pi / 2, -math.pi, 3.0, 1e3, -99_999.0])
def test_a_cosine_is_good_to_1e_15(angle):
    one = torch.ones(1, 1, dtype=torch.float64)
    assert abs(float(sum_of_cosines(one * angle, one, one)) - math.cos(angle)) <= 1.2e-15


def test_what_is_not_a_number_stays_so():
    inputs = torch.tensor([[math.nan], [1.0]], dtype=torch.float64)
    columns, weights = _numbers(1, 9), _numbers(2, 9, seed=1)
    found = sum_of_bells(inputs, columns, weights, -9.0, 9.0)
    assert found.isnan().tolist() == [[True, True], [False, False]]


def test_what_it_does_not_know_is_left_to_pytorch():
    inputs, columns, weights = _numbers(3, 2), _numbers(2, 9), _numbers(1, 9)
    assert sum_of_bells(inputs.float(), columns.float(), weights.float(), -1.0, 1.0) is None
    assert sum_of_bells(inputs, columns.T.contiguous().T, weights, -1.0, 1.0) is None
    assert sum_of_bells(inputs, columns, weights, -709.0, 1.0) is None
    assert sum_of_cosines(1e6 * inputs, columns, weights) is None
    assert sum_of_cosines(math.nan * inputs, columns, weights) is None


def test_no_rows_have_no_sums():
    inputs, columns, weights = _numbers(0, 2), _numbers(2, 9), _numbers(3, 9)
    assert sum_of_bells(inputs, columns, weights, -1.0, 1.0).shape == (0, 3)
    assert sum_of_cosines(inputs, columns, weights) is None
    process = GaussianProcess(2, 3, 2)
    process.scale_features(known := _numbers(10, 2))
    worlds = PosteriorDraws(
        process, known, _numbers(10, 3, seed=1), members=4, cosines=5, generator=torch.Generator().manual_seed(0)
    )
    assert worlds(inputs).shape == (3, 0, 4)


def test_a_row_depends_on_no_other_and_on_no_number_of_threads():
    inputs, columns, weights = _numbers(11, 4), _numbers(4, 70), _numbers(3, 70)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = torch.cat([sum_of_bells(row[None], columns, weights, -9.0, 9.0) for row in inputs])
        torch.set_num_threads(3)
        assert torch.equal(sum_of_bells(inputs, columns, weights, -9.0, 9.0), alone)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("without", ["sum_of_bells", "sum_of_cosines"])
def test_worlds_answer_the_same_without_the_library(without, monkeypatch):
    process = GaussianProcess(2, 3, 2)
    process.scale_features(inputs := _numbers(40, 2))
    worlds = PosteriorDraws(
        process, inputs, _numbers(40, 3, seed=1), members=4, cosines=33, generator=torch.Generator().manual_seed(0)
    )
    asked = 2 * _numbers(700, 2, seed=2)
    found = worlds(asked)
    monkeypatch.setattr(gaussian_process, without, lambda *_: None)
    expected = worlds(asked)
    assert not torch.equal(found, expected)  # the library was asked
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
