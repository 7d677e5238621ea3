"""Drawing single timesteps with what followed them; those whose next observation is unknown are left out."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Int

from foretell.agents.sac import Transitions
from foretell.core.errors import DatasetError
from foretell.core.seeding import stream
from foretell.datasets.dataset import Dataset
from foretell.values.functions import ValueFunctions

STATISTICS_ROWS = 1_000_000
"""Timesteps at most that the reward statistics are taken from, evenly spread over the dataset."""


def fit_units(functions: ValueFunctions, dataset: Dataset) -> None:
    """Set `offset` and `scale` of the functions so that rewards have unit deviation and values start near the data's.

    A network output of 0 then means the mean reward, earned for as long as the discount or an episode lasts. It
    changes where learning starts, not what it converges to.
    """
    rewards = dataset.rewards[:: max(1, -(-dataset.num_steps // STATISTICS_ROWS))].astype(np.float64)
    deviation = float(rewards.std())
    timesteps = dataset.num_steps / dataset.num_episodes
    if functions.config.discount < 1:
        timesteps = min(timesteps, 1 / (1 - functions.config.discount))
    functions.offset.fill_(float(rewards.mean()) * timesteps)
    functions.scale.fill_(deviation if deviation > 1e-6 else 1.0)


class TransitionSampler:
    """Batches of transitions in network units, every usable timestep equally likely, drawn with replacement.

    Batch `update` is a pure function of (seed, update). Columns are read where they lie; memory does not grow with
    the dataset. Where the file keeps no final observations, the last timestep of a truncated episode has no known
    next observation and is never drawn; of a terminated one it is not needed.
    """

    def __init__(self, dataset: Dataset, functions: ValueFunctions, seed: int):
        self.functions, self.seed = functions, seed
        self._dataset = dataset
        last = dataset.episode_ends - 1
        unknown = last[~np.asarray(dataset.terminations)[last]] if dataset.next_observations is None else last[:0]
        self._skipped = unknown - np.arange(len(unknown))
        self.usable = dataset.num_steps - len(unknown)
        if self.usable == 0:
            raise DatasetError(
                f"{dataset.name}: no timestep has a known next observation; value learning needs some. "
                "Record 'next_observations', or episodes of more than one timestep."
            )

    def batch(self, update: int, batch_size: int) -> Transitions:
        """Return the batch of this update."""
        drawn = stream(self.seed, "transitions", update).integers(self.usable, size=batch_size)
        return self.transitions(drawn + np.searchsorted(self._skipped, drawn, side="right"))

    def transitions(self, rows: Int[np.ndarray, " batch"]) -> Transitions:
        """Return the transitions of the given rows of the dataset."""
        data, functions = self._dataset, self.functions
        if data.next_observations is None:
            following = data.observations[np.minimum(rows + 1, data.num_steps - 1)]
        else:
            following = data.next_observations[rows]
        terminations = torch.from_numpy(data.terminations[rows])
        # The same Bellman equation for outputs y, where the value is offset + scale * y.
        shift = functions.offset * (1 - functions.config.discount * ~terminations)
        return Transitions(
            observations=functions.inputs(data.observations[rows]),
            actions=functions.action_inputs(data.actions[rows]),
            rewards=(torch.from_numpy(data.rewards[rows].astype(np.float32)) - shift) / functions.scale,
            next_observations=functions.inputs(following),
            terminations=terminations,
        )
