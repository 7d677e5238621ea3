"""What d3rlpy dumps: of its version 2 an array an episode, which is recognised and can be joined as the page says."""

from __future__ import annotations

import re
from pathlib import Path

import h5py
import numpy as np
import pytest

from foretell.core.errors import DatasetError
from foretell.datasets.d4rl import read_d4rl
from foretell.datasets.doctor import diagnose

PAGE = Path(__file__).parents[2] / "docs/datasets.md"
LENGTHS = (4, 2, 3)


def _dump(path, *, strings=True):
    """Write what `ReplayBuffer.dump` does: three episodes, of which the second ends in a terminal."""
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        for episode, steps in enumerate(LENGTHS):
            file[f"observations_{episode}"] = rng.normal(size=(steps, 3)).astype(np.float32)
            file[f"actions_{episode}"] = rng.normal(size=(steps, 1)).astype(np.float32)
            file[f"rewards_{episode}"] = np.full((steps, 1), episode, np.float32)
            file[f"terminated_{episode}"] = episode == 1
        if strings:  # of a type that is refused
            file["columns"] = ["observations", "actions", "rewards", "terminated"]
        file["total_size"] = len(LENGTHS)


@pytest.mark.parametrize("strings", [True, False])
def test_a_replay_buffer_is_recognised(tmp_path, strings):
    _dump(tmp_path / "buffer.h5", strings=strings)
    with pytest.raises(DatasetError, match=r"a ReplayBuffer of d3rlpy .*expected D4RL's .*foretell\.Dataset"):
        read_d4rl(tmp_path / "buffer.h5")


def test_it_is_joined_as_the_page_says(tmp_path, monkeypatch):
    (block,) = re.findall(r"^```python\n([^`]*d3rlpy[^`]*)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    _dump(tmp_path / "buffer.h5")
    exec(compile(block, str(PAGE), "exec"), {})
    dataset = read_d4rl(tmp_path / "buffer.hdf5")
    assert dataset.episode_lengths.tolist() == list(LENGTHS)
    assert dataset.episode_returns().tolist() == [0, 2, 6]
    assert dataset.terminations.tolist() == [False] * 5 + [True] + [False] * 3
    assert np.flatnonzero(dataset.truncations).tolist() == [3, 8]
    with h5py.File(tmp_path / "buffer.h5") as file:
        np.testing.assert_array_equal(dataset.observations[4:6], file["observations_1"][()])
    assert not [found for found in diagnose(dataset) if found.severity == "error"]
