"""For every test: shapes and types checked at run time, one thread of arithmetic, no network, no window."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")

import pytest
from jaxtyping import install_import_hook

import reference.typechecker  # noqa: F401  the hook looks it up by name

STAGES = ("environments", "collection", "datasets", "sequences", "models", "training", "evaluation")
CHECKED = (*STAGES, "core", "agents", "values")
install_import_hook([f"foretell.{room}" for room in CHECKED], "reference.typechecker.check")  # foretell comes later


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _one_thread_again(_one_thread):
    """What a command in the test before has set is no part of the next."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def pendulum_random(tmp_path_factory):
    """2,000 random timesteps of Pendulum-v1: 10 whole episodes."""
    from foretell.collection.recipes import collect_random

    return collect_random("Pendulum-v1", 2_000, 0, tmp_path_factory.mktemp("data") / "pendulum-random.hdf5")


@pytest.fixture(scope="session")
def cartpole_random(tmp_path_factory):
    """2,000 random timesteps of CartPole-v1: some 90 episodes of different lengths."""
    from foretell.collection.recipes import collect_random

    return collect_random("CartPole-v1", 2_000, 0, tmp_path_factory.mktemp("data") / "cartpole-random.hdf5")


@pytest.fixture(scope="session")
def pendulum_run(pendulum_random, tmp_path_factory):
    """A run folder of a small model, trained for 20 updates on `pendulum_random`."""
    return _tiny_run(pendulum_random, tmp_path_factory)


@pytest.fixture(scope="session")
def cartpole_run(cartpole_random, tmp_path_factory):
    """The same on `cartpole_random`: discrete actions."""
    return _tiny_run(cartpole_random, tmp_path_factory)


def _tiny_run(dataset, tmp_path_factory):
    from foretell import facade
    from foretell.training.configs import TrainingConfig
    from reference.making import small_config

    training = TrainingConfig(updates=20, batch_size=8, warmup_updates=2, log_every=10)
    model = small_config("decision-transformer")
    return facade.train(dataset, tmp_path_factory.mktemp("runs") / "run", model=model, training=training)
