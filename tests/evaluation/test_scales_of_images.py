"""Images of bytes and of floats: a run acts on those that it was trained on, and says where others come."""

from __future__ import annotations

import warnings
from dataclasses import replace

import gymnasium
import numpy as np
import pytest

from foretell import facade
from foretell.core.errors import UsageError
from foretell.datasets.dataset import DatasetMetadata
from foretell.training.configs import TrainingConfig
from reference.making import CHOICES, make_dataset, small_config

SHAPE = (36, 36, 1)
TRAINING = TrainingConfig(updates=1, batch_size=2, warmup_updates=0)
ENVIRONMENTS = {"Bytes-v0": (np.uint8, 255), "Divided-v0": (np.float32, 1), "Floats-v0": (np.float32, 255),
                "Endless-v0": (np.float32, np.inf)}  # fmt: skip


class Shown(gymnasium.Env):
    """Noise of bytes, divided by 255 where the space ends at 1, or has no end."""

    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, dtype, high):
        self.observation_space = gymnasium.spaces.Box(0, high, SHAPE, dtype)
        self.scale = 1 if high == 255 else 255

    def _seen(self):
        noise = self.np_random.integers(0, 256, SHAPE, dtype=np.uint8)
        return noise if self.observation_space.dtype == np.uint8 else (noise / self.scale).astype(np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._seen(), {}

    def step(self, action):
        return self._seen(), 1.0, False, False, {}


@pytest.fixture(autouse=True, scope="module")
def shown():
    for name, (dtype, high) in ENVIRONMENTS.items():
        gymnasium.register(name, Shown, max_episode_steps=6, kwargs={"dtype": dtype, "high": high})
    yield
    for name in ENVIRONMENTS:
        del gymnasium.registry[name]


def recorded(environment):
    """A few episodes of noise, as the environment gives it."""
    data = make_dataset([6, 6], shape=replace(CHOICES, action_dim=2))
    noise = np.random.default_rng(0).integers(0, 256, (len(data.rewards), *SHAPE), dtype=np.uint8)
    dtype, high = ENVIRONMENTS[environment]
    seen = noise if dtype == np.uint8 else (noise / (1 if high == 255 else 255)).astype(np.float32)
    return replace(
        data, observations=seen, next_observations=None, stored_fingerprint=None, path=None,
        metadata=DatasetMetadata(environment=environment),
    )  # fmt: skip


def trained(recording, out, **changes):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        settings = {"algorithm": "mlp", "model": small_config("mlp"), "training": TRAINING, **changes}
        return facade.train(recorded(recording), out, **settings)


@pytest.fixture(scope="module")
def of_bytes(tmp_path_factory):
    return trained("Bytes-v0", tmp_path_factory.mktemp("images") / "bytes")


@pytest.fixture(scope="module")
def of_floats(tmp_path_factory):
    return trained("Divided-v0", tmp_path_factory.mktemp("images") / "floats")


def said(run, environment):
    """What is warned of when a run is evaluated."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        facade.evaluate(run, environment=environment, episodes=2)
    return [str(one.message) for one in found if "images" in str(one.message)]


def test_a_run_of_bytes_is_refused_where_images_were_divided(of_bytes):
    with pytest.raises(
        UsageError, match=r"^Divided-v0 gives images from 0 to 1; the run was trained on bytes, 0 to 255"
    ):
        facade.evaluate(of_bytes, environment="Divided-v0", episodes=2)


def test_validation_there_is_refused_before_training(tmp_path):
    validated = replace(TRAINING, evaluate_every=1)
    with pytest.raises(UsageError, match="Divided-v0 gives images from 0 to 1"):
        trained("Bytes-v0", tmp_path / "run", training=validated, environment="Divided-v0")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("environment", ["Bytes-v0", "Floats-v0"])
def test_bytes_are_the_same_numbers_as_floats_up_to_255(of_bytes, environment):
    assert said(of_bytes, environment) == []


def test_where_no_bounds_are_known_the_images_tell(of_bytes):
    (message,) = said(of_bytes, "Endless-v0")
    assert message.startswith("images are float32 from 0 to 1; the run was trained on bytes, and divides by 255.")


def test_a_run_of_floats_is_warned_of_bytes(of_floats):
    assert said(of_floats, "Divided-v0") == []
    (message,) = said(of_floats, "Bytes-v0")
    assert message.startswith("images are bytes; the run was trained on floats, and takes numbers as they are.")


def test_a_loaded_policy_says_it_too(of_bytes):
    policy = facade.load_policy(of_bytes)
    policy.reset(1)
    with pytest.warns(UserWarning, match=r"Give bytes, 0 to 255\.$"):
        policy.act(np.full((1, *SHAPE), 0.5))
    policy.reset(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        policy.act(np.zeros((1, *SHAPE)))  # black on any scale


def test_weights_that_begin_another_run_keep_their_units(of_bytes, tmp_path):
    with pytest.warns(
        UserWarning, match=r"weights keep their units\. Images are float32 from 0 to 1; the run was trained"
    ):
        facade.train(
            recorded("Divided-v0"), tmp_path / "run", algorithm="mlp", model=small_config("mlp"), training=TRAINING,
            initial_weights=of_bytes,
        )  # fmt: skip
