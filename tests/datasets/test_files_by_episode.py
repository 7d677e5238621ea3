"""Files that others publish an episode at a time become a dataset as the page says; whoever opens one is told so."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import h5py
import numpy as np
import pytest

from foretell.core.errors import DatasetError
from foretell.datasets.d4rl import read_d4rl
from foretell.datasets.doctor import diagnose
from foretell.datasets.registry import open_dataset

PAGE = Path(__file__).parents[2] / "docs/datasets.md"
LENGTHS = (4, 2, 3)
KEYS = ("object", "robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos")


def block_with(words):
    """Return the one block of the page that has these words."""
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    (found,) = [block for block in blocks if words in block]
    return compile(found, str(PAGE), "exec")


def errors_of(dataset):
    return [finding for finding in diagnose(dataset) if finding.severity == "error"]


def _demos(path, *, following=True, mask=True, reward=1.0):
    """Write demonstrations as robomimic does: each counts on, in four parts, and succeeds at its end; not the last."""
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"], data.attrs["total"] = "{}", sum(LENGTHS)
        for number, steps in enumerate(LENGTHS):
            demo = data.create_group(f"demo_{number}")
            demo.attrs["num_samples"], demo.attrs["model_file"] = steps, "<mujoco/>"
            demo["actions"] = np.full((steps, 7), 0.1 * number)
            demo["rewards"] = np.where(np.arange(steps) == steps - 1, reward * (number < 2), 0)
            demo["dones"] = (np.arange(steps) == steps - 1).astype(int)
            demo["states"] = np.zeros((steps, 32))
            walk = 10.0 * number + np.arange(steps + 1.0)
            for place, key in enumerate(KEYS):
                demo[f"obs/{key}"] = walk[:-1, None] + 100 * place
                if following:
                    demo[f"next_obs/{key}"] = walk[1:, None] + 100 * place
        if mask:
            file["mask/train"] = np.array(["demo_0", "demo_2"], "S8")
            file["mask/valid"] = np.array(["demo_1"], "S8")


@pytest.mark.parametrize("mask", [True, False])
def test_demonstrations_of_robomimic_are_recognised(tmp_path, mask):
    _demos(tmp_path / "low_dim.hdf5", mask=mask)
    with pytest.raises(DatasetError, match=r"robomimic's .*data/demo_0.*expected D4RL's form.*docs/datasets\.md"):
        read_d4rl(tmp_path / "low_dim.hdf5")


def test_a_group_of_data_that_is_no_demonstration_is_read_on(tmp_path):
    with h5py.File(tmp_path / "other.hdf5", "w") as file:
        file["data/actions"] = np.zeros((3, 1))
    with pytest.raises(DatasetError, match=r"key 'observations' is missing \(found: data/actions\)"):
        read_d4rl(tmp_path / "other.hdf5")


@pytest.mark.parametrize("following", [True, False])
def test_demonstrations_of_robomimic_become_a_file_as_the_page_says(tmp_path, monkeypatch, following):
    monkeypatch.chdir(tmp_path)
    _demos(tmp_path / "low_dim.hdf5", following=following)
    exec(block_with("low_dim.hdf5"), {})
    dataset = open_dataset("lift.hdf5")
    assert dataset.episode_lengths.tolist() == [4, 3]
    assert dataset.episode_returns().tolist() == [1, 0]
    assert np.flatnonzero(dataset.terminations).tolist() == [3]
    assert np.flatnonzero(dataset.truncations).tolist() == [6]
    np.testing.assert_array_equal(dataset.observations[5], [21, 121, 221, 321])
    assert (dataset.next_observations is not None) == following
    if following:
        np.testing.assert_array_equal(dataset.next_observations[[3, 6], 0], [4, 23])
    assert not errors_of(dataset)


def test_without_a_mask_all_demonstrations_are_taken(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _demos(tmp_path / "low_dim.hdf5", mask=False)
    exec(block_with("low_dim.hdf5"), {})
    assert open_dataset("lift.hdf5").episode_lengths.tolist() == list(LENGTHS)


def _steps(number, steps, terminal):
    """Return what RLDS has of an episode: a step more than actions, the last with nothing but what was seen."""
    for time in range(steps + 1):
        last = time == steps
        yield {
            "observation": np.array([10.0 * number + time, 0.5], np.float32),
            "action": np.array([0.0 if last else time + 1], np.float32), "reward": np.float32(99 if last else time),
            "discount": np.float32(1), "is_first": time == 0, "is_last": last, "is_terminal": last and terminal,
        }  # fmt: skip


def test_steps_of_rlds_become_a_file_as_the_page_says(tmp_path, monkeypatch):
    theirs = ModuleType("tensorflow_datasets")
    theirs.load = lambda name, split: [{"steps": _steps(*one)} for one in ((0, 4, True), (1, 2, False), (2, 3, True))]
    theirs.as_numpy = iter
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", theirs)
    monkeypatch.chdir(tmp_path)
    exec(block_with("tensorflow_datasets"), {})
    dataset = open_dataset("steps.hdf5")
    assert dataset.episode_lengths.tolist() == list(LENGTHS)
    assert dataset.episode_returns().tolist() == [6, 1, 3]  # none of the 99 that mean nothing
    assert dataset.actions[:, 0].tolist() == [1, 2, 3, 4, 1, 2, 1, 2, 3]
    assert np.flatnonzero(dataset.terminations).tolist() == [3, 8]
    assert np.flatnonzero(dataset.truncations).tolist() == [5]
    assert dataset.next_observations[:, 0].tolist() == [1, 2, 3, 4, 11, 12, 21, 22, 23]
    assert not errors_of(dataset)


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_a_row_an_episode_becomes_a_file_as_the_page_says(tmp_path, monkeypatch, shape):
    rng, rows = np.random.default_rng(0), []
    for number, steps in enumerate(LENGTHS):
        done = (np.arange(steps) == steps - 1) & (number == 1)
        rows.append({
            "observations": rng.normal(size=(steps, 11)).cumsum(0).tolist(),
            "actions": rng.uniform(-1, 1, (steps, 3)).tolist(),
            "rewards": np.full(steps, float(number)).reshape(shape).tolist(), "dones": done.reshape(shape).tolist(),
        })  # fmt: skip
    theirs = ModuleType("datasets")
    theirs.load_dataset = lambda *names, split: rows
    monkeypatch.setitem(sys.modules, "datasets", theirs)
    monkeypatch.chdir(tmp_path)
    exec(block_with("load_dataset"), {})
    dataset = open_dataset("hopper-expert.hdf5")
    assert dataset.metadata.environment == "Hopper-v4"
    assert dataset.episode_lengths.tolist() == list(LENGTHS)
    assert dataset.episode_returns().tolist() == [0, 2, 6]
    assert np.flatnonzero(dataset.terminations).tolist() == [5]
    assert np.flatnonzero(dataset.truncations).tolist() == [3, 8]
    np.testing.assert_allclose(dataset.observations[4:6], rows[1]["observations"], rtol=1e-6)
    assert not errors_of(dataset)


def test_a_dictionary_of_arrays_becomes_a_file_as_the_page_says(tmp_path, monkeypatch):
    walk = np.concatenate([10.0 * number + np.arange(steps + 1) for number, steps in enumerate(LENGTHS)])[:, None]
    inner = np.setdiff1d(np.arange(len(walk)), np.cumsum(np.add(LENGTHS, 1)) - 1)
    monkeypatch.chdir(tmp_path)
    np.savez(
        "buffer.npz", observations=walk[inner], next_observations=walk[inner + 1], actions=np.ones((9, 1)),
        rewards=np.arange(9.0)[:, None], terminals=(np.arange(9) == 5)[:, None],
    )  # fmt: skip
    exec(block_with("np.load"), {})
    dataset = open_dataset("buffer.hdf5")
    assert dataset.episode_lengths.tolist() == list(LENGTHS)
    assert np.flatnonzero(dataset.terminations).tolist() == [5]
    assert np.flatnonzero(dataset.truncations).tolist() == [3, 8]
    assert not errors_of(dataset)
