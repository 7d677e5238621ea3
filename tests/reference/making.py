"""Small models, batches and datasets of random content, for tests that then look at values."""

from __future__ import annotations

from dataclasses import asdict, fields

import numpy as np
import torch

from foretell.datasets.dataset import Dataset
from foretell.models.configs import DecisionTransformerConfig, SequenceShape
from foretell.models.interface import SequenceModel
from foretell.models.registry import MODELS, build_model
from foretell.sequences.batch import SequenceBatch
from foretell.sequences.normalization import Normalization
from foretell.sequences.scaling import ActionRange

VECTOR = SequenceShape(observation_shape=(3,), action_dim=2, discrete=False, max_timesteps=30)
CHOICES = SequenceShape(observation_shape=(3,), action_dim=4, discrete=True, max_timesteps=30)
SHAPES = {"continuous": VECTOR, "discrete": CHOICES}
IDENTITY = Normalization(observation_mean=(0.0,), observation_std=(1.0,), return_scale=1.0, action_range=None)


def small_config(name, **changes):
    """Settings of a registered model, narrow, without dropout; `changes` where it has such a field."""
    wanted = {
        "context_length": 4, "width": 16, "layers": 2, "heads": 2, "dropout": 0.0, "bins": 9, "horizon": 2,
        "feedforward_width": 32, **changes,
    }  # fmt: skip
    entry = MODELS[name]
    return entry.config(**{field.name: wanted[field.name] for field in fields(entry.config) if field.name in wanted})


def small_model(name, shape=VECTOR, *, seed=0, spread=0.3, **changes):
    """A registered model with weights spread widely, so that every input has a visible effect on every output."""
    generator = torch.Generator().manual_seed(seed)
    model = build_model(name, asdict(small_config(name, **changes)), shape, generator)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(spread * torch.randn(parameter.shape, generator=generator))
    return model


def random_batch(shape=VECTOR, *, real=(4, 4, 2, 1), time=4, seed=0, padding_seed=None):
    """Windows with `real[i]` real timesteps; padding holds zeros, or noise from `padding_seed`."""
    rng = np.random.default_rng(seed)
    mask = np.arange(time) >= time - np.asarray(real)[:, None]
    content = _content(rng, shape, mask.shape)
    content["timesteps"] = np.maximum(np.arange(time) - (time - np.asarray(real)[:, None]), 0)
    if padding_seed is None:
        padding = {name: np.zeros_like(values) for name, values in content.items()}
    else:
        padding = _content(np.random.default_rng(padding_seed), shape, mask.shape)
    filled = {}
    for name, values in content.items():
        wide = mask.reshape(*mask.shape, *[1] * (values.ndim - 2))
        filled[name] = torch.from_numpy(np.where(wide, values, padding[name]))
    return SequenceBatch(mask=torch.from_numpy(mask), **filled)


def padded_batch(time, windows=7):
    """Windows of every number of real timesteps from `time` down to 1, and again; padding holds noise."""
    return random_batch(real=[time - number % time for number in range(windows)], time=time, padding_seed=1)


def each(batch, change):
    """The batch with `change` made to every tensor of timesteps; goals, which have none, stay as they are."""
    return type(batch)(**{name: value if name == "goals" else change(value) for name, value in vars(batch).items()})


def _content(rng, shape, size):
    if shape.discrete:
        actions = rng.integers(shape.action_dim, size=size)
    else:
        actions = rng.uniform(-1, 1, (*size, shape.action_dim)).astype(np.float32)
    return {
        "observations": rng.normal(size=(*size, *shape.observation_shape)).astype(np.float32),
        "actions": actions,
        "returns_to_go": rng.normal(size=(*size, 1)).astype(np.float32),
        "timesteps": rng.integers(shape.max_timesteps, size=size),
        "rewards": rng.normal(size=size).astype(np.float32),
        "terminations": np.zeros(size, bool),
    }


def make_dataset(lengths, *, seed=0, shape=VECTOR, name="made", **columns):
    """Episodes of the given lengths, random content; each ends in a truncation. `columns` replace whole columns."""
    rng, steps = np.random.default_rng(seed), int(np.sum(lengths))
    ends = np.cumsum(lengths).astype(np.int64)
    flags = np.zeros(steps, bool)
    flags[ends - 1] = True
    content = _content(rng, shape, (steps,))
    found = {
        "observations": content["observations"], "actions": content["actions"],
        "rewards": rng.normal(size=steps).astype(np.float32), "terminations": np.zeros(steps, bool),
        "truncations": flags, "next_observations": None, "episode_ends": ends,
    } | columns  # fmt: skip
    return Dataset(name=name, **found)


def scaled(action_dim=2, *, limit=2.0, return_scale=10.0):
    """A normalisation in which every unit differs from the environment's."""
    return Normalization(
        observation_mean=(1.0,), observation_std=(2.0,), return_scale=return_scale,
        action_range=ActionRange(low=(-limit,) * action_dim, high=(limit,) * action_dim),
    )  # fmt: skip


class RecordingModel(SequenceModel):
    """Stands for a trained model: keeps every batch that it is shown, and answers with the given actions in turn."""

    def __init__(self, answers, *, context_length=3, shape=None):
        super().__init__(
            DecisionTransformerConfig(context_length=context_length, width=1),
            shape or SequenceShape(observation_shape=(1,), action_dim=1, discrete=False, max_timesteps=len(answers)),
        )
        self.answers, self.seen = answers, []

    def forward(self, batch, generator=None, *, last_only=False):
        assert generator is None
        copied = {name: value.numpy().copy() for name, value in vars(batch).items() if value is not None}
        self.seen.append(copied)
        answer = torch.tensor(self.answers[len(self.seen) - 1], dtype=torch.float32).reshape(1, 1, -1)
        return answer.expand(len(copied["mask"]), 1, -1)
