"""`--threads`: how many are asked for is how many compute, for every verb that computes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from cli_helpers import SMALL

from foretell.cli.experiment_run import ExperimentRun
from foretell.cli.experiment_story import describe
from foretell.core import system
from foretell.presets.pendulum import pendulum, quick

VERBS = {
    "collect an agent": ("collect", "sac-agent", "--agent", "agent", "--steps", 200, "--out", "more.hdf5"),
    "collect a run": ("collect", "policy", "--agent", "run", "--steps", 200, "--out", "more.hdf5"),
    "imagine": ("collect", "imagined", "--source", "data.hdf5", "--steps", 200, "--out", "more.hdf5"),
    "train": ("train", "data.hdf5", "--out", "trained", *SMALL),
    "evaluate": ("evaluate", "run", "--episodes", 1),
}


@pytest.fixture
def asked(foretell, data, run_copy, agents, tmp_path, monkeypatch):
    data.rename(tmp_path / "data.hdf5")
    (tmp_path / "agent").symlink_to(agents[0])
    counts = []
    monkeypatch.setattr(torch, "set_num_threads", counts.append)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    return counts


@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
def test_as_many_as_are_asked_for(foretell, asked, verb):
    assert foretell(*verb, "--threads", 3).code == 0
    assert asked[0] == 3
    assert set(asked[1:]) <= {1}, "a world is learned on one"


@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
def test_one_a_core_where_nobody_asks(foretell, asked, verb, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(5), raising=False)
    assert foretell(*verb).code == 0
    assert asked[0] == 5
    assert set(asked[1:]) <= {1}


def test_who_has_set_omp_num_threads_has_asked(foretell, asked, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert foretell(*VERBS["train"]).code == 0
    assert asked == []
    assert foretell(*VERBS["evaluate"], "--threads", 2).code == 0
    assert asked == [2]


def test_cores_are_those_that_may_be_used(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 7)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {3, 5}, raising=False)
    assert system.cores() == 2
    monkeypatch.delattr("os.sched_getaffinity")
    assert system.cores() == 7, "as on macOS and Windows"


@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
def test_none_is_too_few(foretell, asked, verb):
    foretell(*verb, "--threads", 0).refusal(2, "--threads 0", "at least 1")


def test_what_an_experiment_computes_it_computes_on_one(tmp_path):
    jobs = ExperimentRun(pendulum(), tmp_path / "experiment", [0, 1], 0, league=True).jobs()
    computing = [job.arguments for job in jobs if job.arguments[0] in ("collect", "train", "evaluate")]
    assert {arguments[0] for arguments in computing} == {"collect", "train", "evaluate"}
    assert all(arguments[arguments.index("--threads") + 1] == "1" for arguments in computing)


def test_so_does_what_it_says_of_itself(tmp_path, agents, monkeypatch):
    run = ExperimentRun(quick(pendulum()), tmp_path, [0], 0)
    run.run_path("sac", 0).parent.mkdir(parents=True)
    run.run_path("sac", 0).symlink_to(agents[0])
    counts = []
    monkeypatch.setattr(torch, "set_num_threads", counts.append)
    assert describe(run)["validation_levels"].keys() == {"random", "sac"}
    assert set(counts) == {1}


@pytest.mark.parametrize(
    ("said", "then"), [({}, "10000"), ({"OMP_WAIT_POLICY": "active"}, None), ({"GOMP_SPINCOUNT": "7"}, "7")]
)
def test_threads_that_wait_sleep_soon_unless_somebody_said_how(said, then, tmp_path):
    """It is read once, when PyTorch brings OpenMP along: it has to be there before."""
    (tmp_path / "early.py").write_text(
        "import os, sys\nassert 'torch' not in sys.modules\n"
        "print('spins', os.environ.get('GOMP_SPINCOUNT'), file=sys.stderr)"
    )
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    done = subprocess.run(
        [sys.executable, "-m", "foretell", "inspect", "none.hdf5"], cwd=tmp_path, capture_output=True, text=True,
        env={**environment, **said, "FORETELL_MODULES": "early"}, timeout=200, check=False,
    )  # fmt: skip
    assert f"spins {then}" in done.stderr
