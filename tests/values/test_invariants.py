from __future__ import annotations

import numpy as np

from foretell.values import invariants
from foretell.values.invariants import Invariants


def _circle(rows=200, seed=0):
    rng = np.random.default_rng(seed)
    angle, speed = rng.uniform(-1, 1, rows), 5 * rng.normal(size=rows)
    return np.stack([np.cos(angle), np.sin(angle), speed], 1).astype(np.float32)


def test_the_circle_is_found_in_part_of_it_and_projected_on():
    laws = Invariants(_circle())
    assert len(laws.laws) == 1
    radius = np.array([0.95, 1.03, 1.0, 1.05])
    angle = np.array([0.3, 2.8, -1.9, np.pi])  # the data keep within 1 radian
    off = np.stack([radius * np.cos(angle), radius * np.sin(angle), [3.0, -9.0, 0.0, 40.0]], 1)
    found = laws.project(off)
    np.testing.assert_allclose((found[:, :2] ** 2).sum(1), 1.0, atol=2e-3)
    np.testing.assert_allclose(found[:, 2], off[:, 2], atol=1e-9)  # the law says nothing of the speed
    np.testing.assert_allclose(laws.violations(found), 0, atol=2e-2)
    np.testing.assert_allclose(found[2], off[2], atol=1e-6)


def test_recorded_observations_stay_where_they_are():
    rows = _circle()
    laws = Invariants(rows)
    assert np.abs(laws.violations(rows)).max() < 1e-4
    np.testing.assert_allclose(laws.project(rows), rows, atol=1e-5)


def test_slopes_are_the_derivatives():
    laws, numbers = Invariants(_circle()), np.random.default_rng(1).normal(size=(5, 3))
    found = laws._slopes(numbers)
    for i in range(3):
        step = np.zeros(3)
        step[i] = 1e-6
        change = (laws._terms(numbers + step) - laws._terms(numbers - step)) @ laws.laws.T / 2e-6
        np.testing.assert_allclose(found[:, :, i], change, atol=1e-6)


def test_noise_few_rows_and_many_components_keep_no_law():
    noisy = _circle() + 0.01 * np.random.default_rng(2).normal(size=(200, 3)).astype(np.float32)
    wide = np.repeat(_circle(3_000), 11, axis=1)
    for rows in (noisy, _circle(17), wide):
        laws = Invariants(rows)
        assert laws.laws.shape[0] == 0
        np.testing.assert_allclose(laws.project(rows[:5] + 0.3), rows[:5] + 0.3, atol=1e-6)
    assert len(Invariants(_circle(18)).laws) == 1


def test_a_component_that_never_changes_is_put_back():
    rows = np.random.default_rng(0).normal(size=(100, 2)).astype(np.float32)
    rows[:, 1] = 7.0
    found = Invariants(rows).project(np.array([[0.4, 7.02]]))
    np.testing.assert_allclose(found, [[0.4, 7.0]], atol=1e-3)


def test_the_step_to_one_law_is_that_of_the_pseudoinverse():
    rng = np.random.default_rng(0)
    slopes, off = rng.normal(size=(20, 1, 3)), rng.normal(size=(20, 1))
    slopes[3] = 0.0  # no direction changes the law: no step
    expected = (np.linalg.pinv(slopes, rcond=1e-6) @ off[:, :, None])[:, :, 0]
    np.testing.assert_allclose(invariants._shortest(slopes, off), expected, rtol=1e-12, atol=1e-15)
