from __future__ import annotations

import numpy as np

from foretell.values import ending as ending_module
from foretell.values.ending import Ending


def _recorded(rows=2_000, seed=0):
    rng = np.random.default_rng(seed)
    observations = rng.normal(size=(rows, 3)) * [1.0, 0.1, 30.0] + [0.0, 5.0, 0.0]
    return observations, np.abs(observations[:, 0]) > 1.5


def test_a_bound_on_both_sides_is_found():
    ending = Ending(*_recorded())
    fresh, expected = _recorded(seed=1)
    assert 0.1 < expected.mean() < 0.2
    assert (ending(fresh) != expected).mean() < 0.005
    assert ending(np.array([[1.7, 5.0, 0.0], [-1.7, 5.0, 0.0], [1.3, 5.0, 0.0]])).tolist() == [True, True, False]


def test_data_without_terminations_never_end():
    observations, _ = _recorded(50)
    assert not Ending(observations, np.zeros(50, bool))(100 * observations).any()


def test_data_of_terminations_alone_always_end():
    observations, _ = _recorded(50)
    assert Ending(observations, np.ones(50, bool))(observations).all()


def test_wide_observations_are_read_without_products():
    rng = np.random.default_rng(0)
    observations = rng.normal(size=(400, 40))
    ended = observations[:, 3] > 1
    ending = Ending(observations, ended)
    assert [weights.shape for weights in ending.reasons] == [(41,)]
    assert (ending(observations) == ended).mean() > 0.97


def _of_two_reasons(rows=6000):
    """A point ends in a small circle in the middle, or outside of a box: no quadratic says both, nor the box."""
    rng = np.random.default_rng(1)
    points = np.concatenate([rng.uniform(-2.4, 2.4, (rows, 2)), rng.normal(0, 0.25, (rows // 10, 2))])
    goal, wall = np.linalg.norm(points, axis=1) < 0.25, np.abs(points).max(1) > 2
    return np.concatenate([points, rng.normal(size=(len(points), 2))], 1), goal, wall


def test_a_task_that_ends_for_several_reasons_has_a_regression_for_each():
    observations, goal, wall = _of_two_reasons()
    ending = Ending(observations, goal | wall)
    fresh, goal, wall = (part[::2] for part in _of_two_reasons(9000))
    found = ending(fresh)
    assert len(ending.reasons) > 1
    assert found[goal].mean() > 0.9
    assert found[wall].mean() > 0.9
    assert found[~(goal | wall)].mean() < 0.02
    assert ending.recognised > 0.95


def test_one_regression_alone_would_miss_the_circle(monkeypatch):
    monkeypatch.setattr(ending_module, "MOST_REASONS", 1)
    observations, goal, wall = _of_two_reasons()
    ending = Ending(observations, goal | wall)
    assert ending(observations)[goal].mean() < 0.2
    assert ending.recognised < 0.95


def test_where_one_reason_is_enough_there_is_one():
    observations, ended = _recorded(2000)
    assert len(Ending(observations, ended).reasons) == 1


def test_small_units_change_no_answer():
    observations, ended = _recorded()
    small = Ending(1e-8 * observations, ended)
    assert (small(1e-8 * observations) == Ending(observations, ended)(observations)).all()
