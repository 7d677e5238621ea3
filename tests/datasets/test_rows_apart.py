"""Transitions in any order, as sampled from a replay buffer: episodes of a single timestep that go on elsewhere."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import foretell
from foretell.datasets import doctor_episodes
from foretell.datasets.d4rl import with_episodes
from foretell.datasets.dataset import Dataset
from foretell.datasets.doctor import diagnose

APART = "out of order"


def _read(data, rows, **others):
    """Return these rows as a file without timeouts is read."""
    columns = {"observations": data.observations, "actions": data.actions, "rewards": data.rewards,
               "terminals": data.terminations, "next_observations": data.next_observations}  # fmt: skip
    table = {key: np.asarray(values[rows]) for key, values in columns.items()} | others
    return Dataset(name="rows", **with_episodes(table, None, environment=None, horizon=None, where="rows"))


def _said(data):
    return [finding.message for finding in diagnose(data) if finding.check == "lengths"]


@pytest.mark.parametrize("most", [100, 200_000])
def test_rows_that_go_on_elsewhere_are_named(pendulum_random, monkeypatch, most):
    monkeypatch.setattr(doctor_episodes, "COMPARED_ROWS", most)
    data = foretell.open_dataset(pendulum_random.path)
    (found,) = _said(_read(data, np.random.default_rng(0).permutation(data.num_steps)))
    assert "have a single timestep" in found
    assert APART in found
    assert "sequence model" in found


def test_in_order_or_of_single_choices_nothing_of_the_kind_is_said(pendulum_random):
    data = foretell.open_dataset(pendulum_random.path)
    assert _said(_read(data, np.arange(data.num_steps))) == []
    far = _read(data, np.arange(0, data.num_steps, 7))  # their next observations are nowhere
    assert not [one for one in _said(far) if APART in one]
    bandit = replace(far, terminations=np.ones(far.num_steps, bool), truncations=np.zeros(far.num_steps, bool))
    assert not [one for one in _said(bandit) if APART in one]
    assert not [one for one in _said(replace(far, next_observations=None)) if APART in one]
