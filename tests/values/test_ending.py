from __future__ import annotations

import numpy as np

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
    assert ending.weights.shape == (41,)
    assert (ending(observations) == ended).mean() > 0.97
