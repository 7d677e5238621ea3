"""Pickled lists of episodes, as the Decision Transformer's published code has them, become a file as the page says."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import numpy as np
import pytest

from foretell.core.errors import UsageError
from foretell.datasets.doctor import diagnose
from foretell.datasets.registry import open_dataset

PAGE = Path(__file__).parents[2] / "docs/datasets.md"
LENGTHS = (4, 2, 3)
NAME = "hopper-medium-v2.pkl"


def _trajectories():
    """Return three episodes of a walk, of which the second ends in a terminal."""
    rng = np.random.default_rng(0)
    found = []
    for number, steps in enumerate(LENGTHS):
        walk = rng.normal(size=(steps + 1, 11)).cumsum(0)
        found.append({
            "observations": walk[:-1], "next_observations": walk[1:], "actions": rng.uniform(-1, 1, (steps, 3)),
            "rewards": np.full(steps, number, np.float32), "terminals": (np.arange(steps) == steps - 1) & (number == 1),
        })  # fmt: skip
    return found


def test_they_become_a_file_as_the_page_says(tmp_path, monkeypatch):
    (block,) = re.findall(r"^```python\n([^`]*pickle[^`]*)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    (tmp_path / NAME).write_bytes(pickle.dumps(_trajectories()))
    exec(compile(block, str(PAGE), "exec"), {})
    dataset = open_dataset(tmp_path / "hopper-medium.hdf5")
    assert dataset.episode_lengths.tolist() == list(LENGTHS)
    assert dataset.episode_returns().tolist() == [0, 2, 6]
    assert np.flatnonzero(dataset.terminations).tolist() == [5]
    assert np.flatnonzero(dataset.truncations).tolist() == [3, 8]
    for episode, recorded in zip(dataset.episodes(), _trajectories(), strict=True):
        np.testing.assert_allclose(episode.observations[-1], recorded["next_observations"][-1], rtol=1e-6)
    assert not [found for found in diagnose(dataset) if found.severity == "error"]


def test_whoever_opens_them_is_told_the_way(tmp_path):
    (tmp_path / NAME).write_bytes(pickle.dumps(_trajectories()))
    with pytest.raises(
        UsageError,
        match=r"expected a path that ends in \.hdf5 .* written by foretell\.write_d4rl \(docs/datasets\.md\)",
    ):
        open_dataset(tmp_path / NAME)
