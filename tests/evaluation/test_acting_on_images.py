"""Acting on images: each is encoded once, and the actions are those of whole windows of images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from foretell.evaluation import conditioned
from foretell.evaluation.acting import acting_policy
from foretell.evaluation.configs import ChunkingConfig
from foretell.models.configs import SequenceShape
from foretell.sequences.normalization import Normalization
from foretell.sequences.targets import Telling
from foretell.values.asking import Asking
from reference.making import small_model

SHAPE = SequenceShape(observation_shape=(40, 44, 3), action_dim=4, discrete=True, max_timesteps=20)
UNITS = Normalization(observation_mean=(0.0,), observation_std=(255.0,), return_scale=10.0, action_range=None)
STEPS, ENVS = 9, 5
MODELS = ("decision-transformer", "lstm", "mlp", "encoder-decoder")
ACTING = {"encoder-decoder": ChunkingConfig(actions_taken=2)}


def policy_of(name, shape=SHAPE):
    asking = Asking(telling=Telling(condition="return", scale=10.0), target=3.0)
    return acting_policy(small_model(name, shape), UNITS, asking, ACTING.get(name), "return")


def logits(policy, images, *, begins=frozenset()):
    """Return what the network says at every timestep; environment 1 begins anew before those in `begins`."""
    said, decide = [], policy._decide
    policy._decide = lambda elapsed: said.append(decide(elapsed)) or said[-1]
    policy.reset(len(images[0]), 3.0)
    for timestep, seen in enumerate(images):
        if timestep in begins:
            policy.reset(len(seen), 2.0, where=np.arange(len(seen)) == 1)
        policy.act(seen)
        policy.observe(np.full(len(seen), 0.5))
    return torch.stack(said)


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (STEPS, ENVS, *SHAPE.observation_shape), dtype=np.uint8)


@pytest.mark.parametrize("begins", [frozenset(), frozenset({2, 6})])
@pytest.mark.parametrize("name", MODELS)
def test_actions_are_those_of_windows_of_images(name, begins, images):
    kept, whole = policy_of(name), policy_of(name)
    whole._encoder = None
    found = logits(kept, images, begins=begins)
    torch.testing.assert_close(found, logits(whole, images, begins=begins), rtol=1e-5, atol=1e-6)
    assert found.std() > 1e-3
    assert whole._observations.shape[2:] == SHAPE.observation_shape
    assert kept._observations.shape[2:] == (kept.model.config.width,)


@pytest.mark.parametrize("name", MODELS)
def test_every_image_is_encoded_once(name, images, monkeypatch):
    monkeypatch.setattr(conditioned, "TOGETHER", 2)
    policy, seen = policy_of(name), []
    policy.model.embed_observation.convolutions.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    logits(policy, images)
    assert sum(seen) == STEPS * ENVS
    assert max(seen) == 2


def test_vectors_are_kept_as_they_are():
    shape = replace(SHAPE, observation_shape=(6,))
    policy = policy_of("decision-transformer", shape)
    seen = np.random.default_rng(1).normal(size=(STEPS, ENVS, 6))
    logits(policy, seen)
    assert policy._observations.shape[2:] == (6,)
