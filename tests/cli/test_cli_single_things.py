"""One timestep, one episode, one seed: said of one thing as of one."""

from __future__ import annotations

import re

import numpy as np
import pytest
from cli_helpers import SMALL

from foretell.core.episode import Episode
from foretell.core.errors import DatasetError
from foretell.core.stepping import sizes_in_words
from foretell.datasets.composing import select_episodes
from foretell.reporting.page import card_line

ONE_AS_MANY = re.compile(r"(?<![\d.,:x-])1 (such )?[a-z]{2,}[a-rt-z]s\b")


def test_a_recording_of_one_timestep_from_its_collection_to_its_run(foretell, tmp_path):
    said = []

    def told(*command):
        answer = foretell(*command)
        assert answer.code == 0
        said.append(answer.out + answer.err)
        return answer.out

    found = told("collect", "random", "--environment", "Pendulum-v1", "--steps", 1, "--out", "one.hdf5")
    assert "one.hdf5: 1 timestep in 1 episode, mean return" in found
    card = told("inspect", "one.hdf5")
    assert "one: 1 timestep in 1 episode of 1 timestep\n" in card
    assert "0 terminations, 1 truncation\n" in card
    assert "warning: 1 episode has a single timestep (first: episode 0)" in card
    told("train", "one.hdf5", "--out", "run", *SMALL, "--updates", 1)
    assert "trained      1 update, seed 0" in told("inspect", "run")
    told("evaluate", "run", "--episodes", 1)
    assert "on average over 1 episode\n" in told("inspect", "run") + "\n"
    told("report", "run", "--out", "comparison")
    for written in ("comparison/table.md", "comparison/report.html"):
        said.append((tmp_path / written).read_text())
    assert [found[0] for text in said for found in ONE_AS_MANY.finditer(text)] == []


def test_one_thing_in_python(pendulum_random):
    assert ": 200 timesteps in 1 episode, observations" in repr(select_episodes(pendulum_random, [0]))
    assert repr(_episode(rows=2)).startswith("Episode(1 timestep, truncated")
    assert sizes_in_words([3], 1, False) == "[3] and 1 choice of action"
    with pytest.raises(DatasetError, match="has 1 observation for 1 action; expected 2"):
        _episode(rows=1)
    card = {"steps": 1, "episodes": 1, "warnings": [{}]}
    assert card_line(card) == "1 step, 1 episode, 1 warning"


def _episode(rows):
    return Episode(
        observations=np.zeros((rows, 1)), actions=np.zeros((1, 1)), rewards=np.zeros(1), terminations=np.zeros(1, bool),
        truncations=np.ones(1, bool),
    )  # fmt: skip
