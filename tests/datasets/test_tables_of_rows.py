"""A table with a row a timestep, a log of a plant or a parquet file, becomes a dataset as the page says."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import foretell
from foretell.core.errors import DatasetError
from foretell.datasets.doctor import diagnose

PAGE = Path(__file__).parents[2] / "docs/datasets.md"
HEADER = "batch,temperature,pressure,valve,heater,profit"
ROWS = """7,20,1.0,0.1,0.5,0
7,21,,0.2,0.6,1
7,22,1.2,0.3,0.7,2
9,,2.0,0.4,0.8,3
9,31,2.1,0.5,0.9,4
9,32,,0.6,1.0,5
9,33,2.3,0.7,1.1,6
"""


def _block_with(words):
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    (found,) = [block for block in blocks if words in block]
    return compile(found, str(PAGE), "exec")


def test_a_log_becomes_a_file_as_the_page_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("log.csv").write_text(f"{HEADER}\n{ROWS}")
    exec(_block_with("genfromtxt"), {})
    dataset = foretell.open_dataset("log.hdf5")
    assert dataset.episode_lengths.tolist() == [2, 3]
    assert np.flatnonzero(dataset.truncations).tolist() == [1, 4]
    assert not dataset.terminations.any()
    np.testing.assert_allclose(dataset.observations, [[20, 1], [21, 1], [31, 2], [31, 2.1], [32, 2.1]], rtol=1e-6)
    np.testing.assert_allclose(dataset.next_observations[[1, 4]], [[22, 1.2], [33, 2.3]], rtol=1e-6)
    np.testing.assert_allclose(dataset.actions[:, 0], [0.1, 0.2, 0.4, 0.5, 0.6], rtol=1e-6)
    assert dataset.rewards.tolist() == [1, 2, 4, 5, 6]  # what was measured behind each action
    assert not [finding for finding in diagnose(dataset) if finding.severity == "error"]


def test_rows_of_an_episode_that_lie_apart_are_seen(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, *others = ROWS.splitlines()
    Path("log.csv").write_text("\n".join([HEADER, *others, first]))
    with pytest.raises(AssertionError, match="sort"):
        exec(_block_with("genfromtxt"), {})


def _frames():
    """Return what pandas has of LeRobot's frames: three episodes, the second a success, each counting on."""
    episode = np.repeat([0, 1, 2], [4, 2, 3])
    frame = np.concatenate([np.arange(steps) for steps in (4, 2, 3)])
    states, actions = (np.empty(9, object) for _ in range(2))
    states[:] = [np.array([10 * number + time, 1], np.float32) for number, time in zip(episode, frame)]
    actions[:] = [np.array([time], np.float32) for time in frame]
    done = np.append(episode[1:] != episode[:-1], True)
    return {
        "observation.state": states, "action": actions, "episode_index": episode, "frame_index": frame,
        "next.reward": (done & (episode == 1)).astype(np.float32), "next.done": done,
        "next.success": done & (episode == 1), "index": np.arange(9),
    }  # fmt: skip


def _pandas(monkeypatch, frames):
    theirs = ModuleType("pandas")
    theirs.read_parquet = {"data": frames}.__getitem__
    monkeypatch.setitem(sys.modules, "pandas", theirs)


def test_frames_of_lerobot_become_a_file_as_the_page_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _pandas(monkeypatch, _frames())
    exec(_block_with('read_parquet("data")'), {})
    dataset = foretell.open_dataset("lerobot.hdf5")
    assert dataset.episode_lengths.tolist() == [4, 2, 3]
    assert dataset.episode_returns().tolist() == [0, 1, 0]
    assert np.flatnonzero(dataset.terminations).tolist() == [5]
    assert np.flatnonzero(dataset.truncations).tolist() == [3, 8]
    assert dataset.observations[:, 0].tolist() == [0, 1, 2, 3, 10, 11, 20, 21, 22]
    assert dataset.actions[:, 0].tolist() == [0, 1, 2, 3, 0, 1, 0, 1, 2]


def test_frames_of_an_episode_that_lie_apart_are_seen(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _pandas(monkeypatch, {name: np.roll(values, 1) for name, values in _frames().items()})
    with pytest.raises(AssertionError, match="sort"):
        exec(_block_with('read_parquet("data")'), {})


def _columns(**others):
    rows = {
        "observations": np.zeros((4, 3)), "actions": np.zeros((4, 1)), "rewards": np.zeros(4),
        "terminations": np.zeros(4), "truncations": np.arange(4) == 3, "next_observations": None, "episode_ends": [4],
    }  # fmt: skip
    return {**rows, **others}


def test_missing_values_are_counted_and_what_to_do_is_said():
    holes = np.zeros((4, 3))
    holes[1:, 2] = holes[2, 0] = np.nan
    with pytest.raises(DatasetError, match=r"'observations' holds nan at timestep 1 \(3 such of 4 timesteps.*"
                       r"dimensions 0, 2\).*Fill"):  # fmt: skip
        foretell.Dataset(name="log", **_columns(observations=holes))
    with pytest.raises(DatasetError, match=r"'rewards' holds nan at timestep 3 \(1 such of 4 timesteps\)"):
        foretell.Dataset(name="log", **_columns(rewards=np.array([0, 0, 0, np.nan])))
    with pytest.raises(DatasetError, match=r"(?s)^((?!dimension).)*$"):
        foretell.Dataset(name="log", **_columns(actions=np.full((4, 1), np.inf)))


def _cells(width):
    """Return what pandas has of a parquet column of lists: an array a cell."""
    cells = np.empty(4, object)
    cells[:] = [np.zeros(width, np.float32) for _ in range(4)]
    return cells


@pytest.mark.parametrize(("name", "width"), [("observations", 3), ("next_observations", 3), ("actions", 1)])
def test_a_column_with_an_array_a_cell_is_to_be_stacked(name, width):
    with pytest.raises(DatasetError, match=rf"'{name}' .*numpy\.stack"):
        foretell.Dataset(name="rows", **_columns(**{name: _cells(width)}))


def test_an_episode_of_such_cells_is_to_be_stacked():
    with pytest.raises(DatasetError, match=r"observations.*numpy\.stack"):
        foretell.Episode(
            observations=_cells(3), actions=np.zeros((3, 1)), rewards=np.zeros(3), terminations=np.zeros(3),
            truncations=np.arange(3) == 2,
        )  # fmt: skip
