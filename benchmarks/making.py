"""Models and data that several benchmarks time."""

from __future__ import annotations

from pathlib import Path

import torch

from foretell.collection.recipes import collect_random
from foretell.models.configs import DecisionTransformerConfig, SequenceShape
from foretell.models.decision_transformer import DecisionTransformer
from foretell.sequences.normalization import Normalization
from foretell.sequences.scaling import ActionRange
from foretell.sequences.windows import WindowSampler

PENDULUM = SequenceShape(observation_shape=(3,), action_dim=1, discrete=False, max_timesteps=200)
TORQUE = ActionRange(low=(-2.0,), high=(2.0,))
REFERENCE = DecisionTransformerConfig()
"""K = 20, width 128, 3 layers, 1 head, dropout 0.1: the published code's settings (Chen et al. 2021, Table 9)."""


def random_model(config: DecisionTransformerConfig) -> DecisionTransformer:
    """Return a model for Pendulum with fresh weights: how long it takes does not depend on them."""
    return DecisionTransformer(config, PENDULUM, torch.Generator().manual_seed(0))


def random_sampler(folder: Path, context_length: int, steps: int = 100_000) -> WindowSampler:
    """Return a sampler over random Pendulum data, as training reads them."""
    path = folder / "pendulum-random.hdf5"
    dataset = collect_random("Pendulum-v1", steps, 0, path)
    return WindowSampler(dataset, Normalization.fit(dataset, TORQUE), context_length=context_length, seed=0)


def in_words(config: DecisionTransformerConfig) -> dict[str, object]:
    """Return the settings that a row names."""
    return {
        "context_length": config.context_length, "width": config.width, "layers": config.layers,
        "heads": config.heads, "dropout": config.dropout,
    }  # fmt: skip
