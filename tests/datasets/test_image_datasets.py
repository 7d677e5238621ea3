"""Images: what the doctor says of them, and in how much memory they are looked at and written."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import gymnasium
import numpy as np
import pytest

from foretell.core.episode import Episode
from foretell.datasets import doctor_values, fingerprint
from foretell.datasets.boundaries import truncations_at_breaks
from foretell.datasets.d4rl_writer import write_d4rl
from foretell.datasets.dataset import Dataset
from foretell.datasets.doctor import diagnose
from foretell.environments.making import EnvironmentSpec

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


def of_units(values, name="Frames-v0"):
    """What is said of images with these values, beside an environment that gives bytes."""
    data = replace(images(), observations=values, next_observations=None)
    spec = EnvironmentSpec(
        name=name, observation_shape=SHAPE, action_dim=3, action_low=None, action_high=None, num_actions=3,
        horizon=None,
    )  # fmt: skip
    alone, beside = (
        [one.message for one in diagnose(data, given) if one.check == "observations"] for given in (None, spec)
    )  # fmt: skip
    return alone, beside


class Frames(gymnasium.Env):
    """Only its spaces matter."""

    action_space = gymnasium.spaces.Discrete(3)

    def __init__(self, dtype=np.uint8, high=255):
        self.observation_space = gymnasium.spaces.Box(0, high, SHAPE, dtype)


@pytest.fixture(autouse=True, scope="module")
def frames():
    gymnasium.register("Frames-v0", Frames)
    gymnasium.register("FloatFrames-v0", Frames, kwargs={"dtype": np.float32, "high": 1})
    yield
    for name in ("Frames-v0", "FloatFrames-v0"):
        del gymnasium.registry[name]


BYTES = images().observations
FLOATS = BYTES.astype(np.float32)
GIVES = "Frames-v0 gives 0 to 255. A policy that learned from them needs the same change."


@pytest.mark.parametrize(("values", "alone", "beside"), [
    (BYTES, "", ""),
    (FLOATS / 255, "", f"images are float32 from 0 to 1; {GIVES}"),
    (FLOATS, "images are floats from 0 to 255, which networks take as they are", "images are floats from 0 to 255"),
    (FLOATS / 255 / 255, "divided by 255 twice?", f"from 0 to 0.00392157; {GIVES}"),
    ((FLOATS - 100) / 60, "", f"from -1.66667 to 2.58333; {GIVES}"),
    (BYTES // 255, "images are bytes of at most 1, which networks divide by 255", f"uint8 from 0 to 1; {GIVES}"),
    (BYTES % 11, "images are bytes of at most 10", "images are bytes of at most 10"),
    (BYTES * np.uint8(0), "", ""),
])  # fmt: skip
def test_images_in_other_units_are_warned_of(values, alone, beside):
    for found, expected in zip(of_units(values), (alone, beside), strict=True):
        assert len(found) == bool(expected)
        assert all(expected in message for message in found)


def test_images_of_floats_are_held_against_what_the_environment_gives():
    assert of_units(FLOATS / 255, "FloatFrames-v0") == ([], [])
    ((message,)) = of_units(BYTES, "FloatFrames-v0")[1]
    assert "images are uint8 from 0 to 255; FloatFrames-v0 gives 0 to 1." in message
    assert of_units(BYTES, "NobodyHasThis-v0") == ([], [])


def test_a_background_is_no_finding_and_one_frame_alone_is():
    seen = BYTES.copy()
    seen[:, :, :5] = 0
    assert diagnose(replace(images(), observations=seen, next_observations=None))[1:] == []
    same = np.broadcast_to(BYTES[:1], BYTES.shape).copy()
    found = [one.message for one in diagnose(replace(images(), observations=same, next_observations=None))]
    assert "observations never change in 6400 of 6400 dimensions (first: 0)." in found
