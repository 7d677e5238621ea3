"""Images: what the doctor says of them, and in how much memory they are looked at and written."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from foretell.core.episode import Episode
from foretell.datasets import doctor_values, fingerprint
from foretell.datasets.boundaries import truncations_at_breaks
from foretell.datasets.d4rl_writer import write_d4rl
from foretell.datasets.dataset import Dataset
from foretell.datasets.doctor import diagnose

SHAPE = (4, 40, 40)
LENGTHS = [20] * 30


def images(dtype=np.uint8, shape=SHAPE, lengths=LENGTHS):
    """Noise, of bytes or of floats from 0 to 1, with the final observations."""
    rng = np.random.default_rng(0)
    ends, steps = np.cumsum(lengths), sum(lengths)
    seen = rng.integers(0, 256, (steps, *shape), dtype=np.uint8)
    following = np.roll(seen, -1, axis=0)
    following[ends - 1] = rng.integers(0, 256, (len(ends), *shape), dtype=np.uint8)
    if dtype != np.uint8:
        seen, following = (part.astype(dtype) / dtype(255) for part in (seen, following))
    truncations = np.zeros(steps, bool)
    truncations[ends - 1] = True
    return Dataset(
        name="frames", observations=seen, next_observations=following, actions=rng.integers(0, 3, steps),
        rewards=rng.normal(size=steps).astype(np.float32), terminations=np.zeros(steps, bool), truncations=truncations,
        episode_ends=ends,
    )  # fmt: skip


def peak_of(function):
    """Return what a function gives, and the bytes that it took beyond what was there."""
    tracemalloc.start()
    try:
        return function(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(fingerprint, "BLOCK_NUMBERS", 1 << 16)
    monkeypatch.setattr(doctor_values, "SAMPLE_NUMBERS", 1 << 16)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.usefixtures("small_blocks")
def test_images_are_looked_at_a_few_at_a_time(dtype):
    data = images(dtype)
    broken = data.next_observations.copy()
    broken[7] = 0
    found, peak = peak_of(lambda: diagnose(replace(data, next_observations=broken)))
    assert [(one.severity, one.check) for one in found] == [("warning", "transitions")]
    assert "episode 0, timestep 7 " in found[0].message
    assert peak < data.observations.size * 4 / 2


@pytest.mark.usefixtures("small_blocks")
def test_ends_of_images_are_told_a_few_at_a_time():
    data = images()
    found, peak = peak_of(
        lambda: truncations_at_breaks(data.observations, data.next_observations, data.terminations)
    )  # fmt: skip
    np.testing.assert_array_equal(np.flatnonzero(found), data.episode_ends[:-1] - 1)
    assert peak < data.observations.nbytes / 8


@pytest.mark.usefixtures("small_blocks")
def test_episodes_of_images_are_written_a_few_at_a_time(tmp_path, metadata):
    rng = np.random.default_rng(0)
    seen = rng.integers(0, 256, (len(LENGTHS), 21, *SHAPE), dtype=np.uint8)
    ended = np.arange(20) == 19
    episodes = [
        Episode(observations=one, actions=np.zeros(20, np.int64), rewards=np.zeros(20), terminations=ended,
                truncations=np.zeros(20, bool))
        for one in seen
    ]  # fmt: skip
    _, peak = peak_of(lambda: write_d4rl(tmp_path / "frames.hdf5", episodes, metadata))
    assert peak < seen.nbytes / 4
