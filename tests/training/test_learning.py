"""Small but real: what the whole chain, from recording to measuring, must be able to learn."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch

import foretell
from foretell import facade
from foretell.collection.recipes import collect_random
from foretell.collection.recorder import record
from foretell.datasets.dataset import DatasetMetadata
from foretell.datasets.registry import open_dataset
from foretell.models.configs import DecisionTransformerConfig
from foretell.sequences.windows import WindowSampler
from foretell.training.configs import TrainingConfig
from reference.measuring import Leaning


@pytest.mark.slow
def test_asked_for_more_than_random_cartpole_gives_more(tmp_path):
    """From random data alone (mean 22, best 99): asked for 60 or 100, it earns that (in four seeds 60-66, 96-103)."""
    data = collect_random("CartPole-v1", 20_000, 0, tmp_path / "cartpole.hdf5")
    assert data.episode_returns().mean() < 25
    run = facade.train(
        data, tmp_path / "run", model=DecisionTransformerConfig(context_length=10, width=32, layers=2),
        training=TrainingConfig(updates=300, learning_rate=3e-3, warmup_updates=20),
    )  # fmt: skip
    asked = {}
    for target in (60.0, 100.0):
        records = facade.evaluate(run, episodes=30, target_returns=[target]) if target < 99 else _unwarned(run, target)
        asked[target] = float(np.mean([record["return"] for record in records]))
    assert 45 < asked[60.0] < 80
    assert asked[100.0] > 75
    assert asked[100.0] > asked[60.0] + 15


def _unwarned(run, target):
    with pytest.warns(UserWarning, match="outside the returns"):
        return facade.evaluate(run, episodes=30, target_returns=[target])


class LeaningRecorded:
    """Pushes to where the pole leans, one time in ten at random."""

    def act(self, observations, rng):
        actions = np.where(rng.random(len(observations)) < 0.1, rng.integers(2, size=len(observations)),
                           Leaning().act(observations))  # fmt: skip
        return actions, np.zeros(len(observations), np.float32)


def _film(states, environment):
    """`(n, 4)` states of CartPole to the middle of their frames, `(n, 40, 60, 3)` uint8."""
    frames = []
    for state in states:
        environment.unwrapped.state = tuple(map(float, state))
        frames.append(environment.render()[160:320:4, 180:420:4])
    return np.stack(frames)


@pytest.mark.slow
def test_convolutional_encoder_learns_from_rendered_frames(tmp_path):
    """One frame is enough to see where the pole leans: the loss on frames of other episodes is far below chance."""
    environment = gymnasium.make("CartPole-v1", render_mode="rgb_array")
    environment.reset(seed=0)
    for name, steps, seed in (("seen", 2000, 0), ("held-out", 300, 1)):
        record(
            LeaningRecorded(), "CartPole-v1", tmp_path / f"{name}.hdf5", num_steps=steps, seed=seed,
            metadata=DatasetMetadata(), observation_transform=lambda states: _film(states, environment),
        )  # fmt: skip
    environment.close()
    seen, held_out = (open_dataset(tmp_path / f"{name}.hdf5") for name in ("seen", "held-out"))
    assert seen.observations.dtype == np.uint8
    assert seen.observation_shape == (40, 60, 3)
    run = facade.train(
        seen, tmp_path / "run", model=DecisionTransformerConfig(context_length=1, width=32, layers=1),
        training=TrainingConfig(updates=300, batch_size=32, learning_rate=1e-3, warmup_updates=20),
    )  # fmt: skip
    policy = foretell.load_policy(run)
    sampler = WindowSampler(held_out, policy.normalization, context_length=1, seed=0)
    with torch.no_grad():
        batch = sampler.windows(np.arange(300))
        loss = float(policy.model.loss(batch))
        accuracy = float((policy.model(batch)[:, -1].argmax(-1) == batch.actions[:, -1]).float().mean())
    # best possible: right in 95 of 100 frames, 0.20 nats; chance 50 and 0.69; in four seeds 88-92 and 0.19-0.37
    assert loss < 0.5
    assert accuracy > 0.8
