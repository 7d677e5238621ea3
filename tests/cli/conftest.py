"""Running the command line in this process, and the artefacts that its tests start from."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import pytest
from cli_helpers import Answer

from foretell.cli import main as command_line


@pytest.fixture
def foretell(capsys, tmp_path, monkeypatch):
    """Run one command in this process, in an empty folder: `foretell("inspect", path) -> Answer`."""
    import torch

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)  # one thread in all tests: the verbs would set it

    def run(*arguments) -> Answer:
        capsys.readouterr()
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            try:
                code = command_line.main([str(argument) for argument in arguments])
            except SystemExit as stop:  # the parser's: help, or a flag that is unknown
                code = int(stop.code or 0)
        captured = capsys.readouterr()
        return Answer(code=code, out=captured.out, err=captured.err)

    return run


@pytest.fixture
def data(pendulum_random, tmp_path):
    """A copy of 2,000 random timesteps of Pendulum-v1, ten episodes, that a test may damage."""
    return Path(shutil.copy(pendulum_random.path, tmp_path / "pendulum.hdf5"))


@pytest.fixture
def run_copy(pendulum_run, tmp_path):
    """A copy of a finished run folder that a test may damage."""
    return Path(shutil.copytree(pendulum_run, tmp_path / "run"))


def _train_tiny_agent(path, seed):
    from foretell import facade
    from foretell.agents.configs import SACConfig

    config = SACConfig(total_steps=260, learning_starts=250, hidden_sizes=(8,), batch_size=8, evaluate_every=0)
    return facade.train_sac("Pendulum-v1", path, config=config, seed=seed)


@pytest.fixture(scope="session")
def agents(tmp_path_factory):
    """Run folders of two SAC agents that differ in their seed."""
    folder = tmp_path_factory.mktemp("agents")
    return [_train_tiny_agent(folder / f"seed-{seed}", seed) for seed in (0, 1)]
