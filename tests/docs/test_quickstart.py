"""`docs/quickstart.md` as a reader follows it: every block, in order, in one empty folder."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import foretell

QUICKSTART = Path(__file__).parents[2] / "docs" / "quickstart.md"
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def test_every_block_runs(tmp_path):
    blocks = BLOCK.findall(QUICKSTART.read_text(encoding="utf-8"))
    assert {"bash", "python"} == {language for language, _ in blocks}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "MINARI_DATASETS_PATH": str(tmp_path / "minari"), "OMP_NUM_THREADS": "1"}
    for language, block in blocks:
        command = ["bash", "-euo", "pipefail", "-c", block] if language == "bash" else [sys.executable, "-c", block]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{block}\n{done.stderr}"
        assert "Traceback" not in done.stderr
    records = [json.loads(line) for line in (tmp_path / "runs/mine/evaluations.jsonl").read_text().splitlines()]
    assert [record["target"] for record in records] == [None] * 10 + [-1200] * 10 + [-800] * 10 + [-400] * 10
    assert (tmp_path / "comparison/report.html").stat().st_size > 10_000


@pytest.mark.parametrize("language", ["bash", "python"])
def test_no_block_is_passed_over(language):
    text = QUICKSTART.read_text(encoding="utf-8")
    assert text.count("```" + language) == sum(found == language for found, _ in BLOCK.findall(text))
    assert text.count("```") == 2 * len(BLOCK.findall(text))


def _by_recipe(replay):
    """Return the dataset that the recipe makes of a buffer of Stable-Baselines3."""
    (block,) = [block for _, block in BLOCK.findall(QUICKSTART.read_text(encoding="utf-8")) if "def column(" in block]
    names = {"np": np, "foretell": foretell, "replay": replay}
    exec(block[block.index("def column(") : block.index("foretell.write_dataset(")], names)
    return names["data"]


def _buffer(steps=12, envs=2):
    """Two environments that count in each of their episodes, of five timesteps, in a ring that has not wrapped."""
    time = np.arange(steps)
    values = (100 * np.arange(envs) + (10 * (time // 5) + time % 5)[:, None]).astype(np.float32)[..., None]
    done = np.repeat((time % 5 == 4)[:, None], envs, axis=1).astype(np.float32)
    return SimpleNamespace(
        pos=steps, full=False, observations=values, next_observations=values + 1, actions=values / 1000,
        rewards=values[..., 0], dones=done, timeouts=done * (time < 5)[:, None],
    )  # fmt: skip


def test_a_second_learn_ends_the_episode_before_it():
    replay = _buffer()
    assert _by_recipe(replay).episode_lengths.tolist() == [5, 5, 2] * 2
    replay.observations[7:] += 3  # the environments were reset in front of timestep 7
    replay.next_observations[7:] += 3
    data = _by_recipe(replay)
    assert data.episode_lengths.tolist() == [5, 2, 3, 2] * 2
    assert np.flatnonzero(data.truncations).tolist() == [4, 6, 11, 16, 18, 23]
    assert np.flatnonzero(data.terminations).tolist() == [9, 21]


def test_parts_of_a_dictionary_lie_in_the_order_of_their_names():
    replay, plain = _buffer(), _by_recipe(_buffer())
    for key in ("observations", "next_observations"):
        values = getattr(replay, key)
        setattr(replay, key, {"observation": values, "achieved_goal": np.concatenate([-values, 2 * values], axis=-1)})
    data = _by_recipe(replay)
    for column, of_plain in (
        (data.observations, plain.observations),
        (data.next_observations, plain.next_observations),
    ):
        np.testing.assert_array_equal(column, np.concatenate([-of_plain, 2 * of_plain, of_plain], axis=1))
    assert data.episode_lengths.tolist() == plain.episode_lengths.tolist()
