from __future__ import annotations

import h5py
import numpy as np
import pytest

from foretell.core.episode import Episode
from foretell.datasets.dataset import DatasetMetadata


@pytest.fixture(scope="session")
def make_episode():
    """An episode of random content: `make_episode(rng, steps, terminated=, discrete=, both=)`."""

    def make(rng, steps, *, terminated=False, discrete=False, both=False, width=3):
        last = np.arange(steps) == steps - 1
        return Episode(
            observations=rng.normal(size=(steps + 1, width)).astype(np.float32),
            actions=rng.integers(3, size=steps) if discrete else rng.uniform(-2, 2, (steps, 1)).astype(np.float32),
            rewards=rng.normal(size=steps).astype(np.float32),
            terminations=last & (terminated or both),
            truncations=last & (not terminated or both),
            infos={
                "action_log_probs": rng.normal(size=steps).astype(np.float32),
                "qpos": rng.normal(size=(steps, 2)),
            },
        )

    return make


@pytest.fixture(scope="session")
def metadata():
    return DatasetMetadata(
        environment="Pendulum-v1",
        algorithm="SAC",
        seed=7,
        description="Ein Test – with two words. D4RL would call this an expert dataset.",
        hyperparameters={"learning_rate": 1e-3, "widths": [256, 256]},
        versions={"foretell": "0.1.0"},
        extra={"policy/actor.0.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "iteration": np.asarray(3)},
    )


@pytest.fixture
def foreign(tmp_path):
    """Write a D4RL file as another program would: two episodes, of 3 and 2 steps; `foreign(key=array or None)`."""

    def write(name="foreign.hdf5", options=None, **changed):
        observations = np.arange(14, dtype=np.float32).reshape(7, 2)
        columns = {
            "observations": np.delete(observations, [3, 6], axis=0),
            "next_observations": np.delete(observations, [0, 4], axis=0),
            "actions": np.linspace(-1, 1, 5, dtype=np.float32).reshape(5, 1),
            "rewards": np.arange(5, dtype=np.float32),
            "terminals": np.array([0, 0, 1, 0, 0], bool),
            "timeouts": np.array([0, 0, 0, 0, 1], bool),
        } | changed
        path = tmp_path / name
        with h5py.File(path, "w") as file:
            for key, values in columns.items():
                if values is not None:
                    file.create_dataset(key.replace("__", "/"), data=values, **(options or {}))
        return path

    return write


def assert_same(one, other):
    """Columns, infos, extras and metadata are equal, types included."""
    assert one.columns().keys() == other.columns().keys()
    for key, values in one.columns().items():
        np.testing.assert_array_equal(values, other.columns()[key], strict=True, err_msg=key)
    np.testing.assert_array_equal(one.episode_ends, other.episode_ends)
    for mine, theirs in ((one.extras, other.extras), (one.metadata.extra, other.metadata.extra)):
        assert mine.keys() == theirs.keys()
        for key, values in mine.items():
            np.testing.assert_array_equal(values, theirs[key], strict=True, err_msg=key)
    for field in ("environment", "algorithm", "seed", "description", "hyperparameters", "versions"):
        assert getattr(one.metadata, field) == getattr(other.metadata, field), field
    assert one.fingerprint() == other.fingerprint()


@pytest.fixture(scope="session")
def same():
    return assert_same


@pytest.fixture
def minari_storage(tmp_path, monkeypatch):
    """A local Minari storage of the test's own."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
