"""Drawing single timesteps with what followed them; those whose next observation is unknown are left out."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int

from foretell.agents.transitions import Transitions
from foretell.core.errors import DatasetError
from foretell.core.seeding import stream
from foretell.core.variation import deviation_and_variation
from foretell.datasets.dataset import Dataset
from foretell.datasets.findings import some_rows
from foretell.sequences.windows import gathered
from foretell.values.functions import ValueFunctions
from foretell.values.labels import discounted_returns_to_go

STATISTICS_ROWS = 1_000_000
"""Timesteps at most that the reward statistics are taken from, evenly spread over the dataset."""
SUMMED_EPISODES = 10_000
"""Episodes at most whose returns are summed to see how much they differ."""
LONG_EPISODE = 10_000
"""Timesteps of an episode at most whose returns are summed, one by one, to see how much they differ."""
LARGEST_RANGE = 400.0
"""From the least to the most discounted return, in units of the networks, beyond which the unit is made larger."""
TOGETHER = 16_384
"""Timesteps that are read at once, for several updates: batch by batch, reading takes a sixth of learning's time."""


def fit_units(functions: ValueFunctions, dataset: Dataset) -> None:
    """Set `offset` and `scale` of the functions so that rewards have unit deviation and values start near the data's.

    A network output of 0 then means the mean reward, earned for as long as the discount lasts, or as it usually takes
    to a termination. It changes where learning starts, not what it converges to. Where rewards hardly differ and
    returns do, as where every timestep costs 1 and only the last none, the unit is a `LARGEST_RANGE`th of what returns
    range over instead: values of thousands of units are learned in no time that anybody has.
    """
    rewards = some_rows(dataset.rewards, STATISTICS_ROWS).astype(np.float64)
    discount, mean = functions.config.discount, float(rewards.mean())
    timesteps = dataset.num_steps / dataset.num_episodes
    if discount < 1:  # what is cut short would have gone on
        endings = np.count_nonzero(np.asarray(dataset.terminations)[dataset.episode_ends - 1])
        timesteps = min(dataset.num_steps / endings if endings else np.inf, 1 / (1 - discount))
    functions.offset.fill_(mean * timesteps)
    returns = _some_returns(dataset, discount, mean)
    functions.scale.fill_(max(float(deviation_and_variation(rewards)[0]), float(np.ptp(returns)) / LARGEST_RANGE))


def _some_returns(dataset: Dataset, discount: float, mean: float) -> Float[np.ndarray, " steps"]:
    """Return the discounted returns-to-go of episodes evenly spread over the dataset, of long ones' beginnings.

    What is cut short goes on with the mean reward, as values do: else rewards that are alike would seem to fall.
    """
    count = max(1, dataset.num_episodes * STATISTICS_ROWS // max(STATISTICS_ROWS, dataset.num_steps))
    count = min(count, SUMMED_EPISODES)
    chosen = np.linspace(0, dataset.num_episodes - 1, count).astype(np.int64)
    starts = dataset.episode_starts[chosen]
    ends = np.minimum(dataset.episode_ends[chosen], starts + LONG_EPISODE)
    rewards = np.concatenate([dataset.rewards[start:end] for start, end in zip(starts, ends, strict=True)], dtype=float)
    last = np.cumsum(ends - starts) - 1
    if discount < 1:
        rewards[last[~np.asarray(dataset.terminations)[ends - 1]]] += discount * mean / (1 - discount)
    return discounted_returns_to_go(rewards, last + 1, discount)


class TransitionSampler:
    """Batches of transitions in network units, every usable timestep equally likely, drawn with replacement.

    Batch `update` is a pure function of (seed, update). Columns are read where they lie; memory does not grow with
    the dataset. Where the file keeps no final observations, the last timestep of a truncated episode has no known
    next observation and is never drawn; of a terminated one it is not needed.
    """

    def __init__(self, dataset: Dataset, functions: ValueFunctions, seed: int):
        self.functions, self.seed = functions, seed
        self._dataset = dataset
        self._read: tuple[range, int, tuple[float, float], list[Transitions]] = range(0), 0, (0.0, 0.0), []
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
        """Return the batch of this update; what was read for the updates beside it is kept until others are needed."""
        updates, size, units, batches = self._read
        if update not in updates or size != batch_size or units != self._units():
            count = max(1, TOGETHER // batch_size)
            updates = range(update - update % count, update - update % count + count)
            read = self.transitions(np.concatenate([self._drawn(one, batch_size) for one in updates]))
            names, columns = vars(read).keys(), (column.split(batch_size) for column in vars(read).values())
            batches = [Transitions(**dict(zip(names, batch, strict=True))) for batch in zip(*columns, strict=True)]
            self._read = updates, batch_size, self._units(), batches
        return batches[update - updates.start]

    def transitions(self, rows: Int[np.ndarray, " batch"]) -> Transitions:
        """Return the transitions of the given rows of the dataset, rewards in the functions' units as they are now."""
        data, functions = self._dataset, self.functions
        if data.next_observations is None:
            following = gathered(data.observations, np.minimum(rows + 1, data.num_steps - 1))
        else:
            following = gathered(data.next_observations, rows)
        rewards = torch.from_numpy(gathered(data.rewards, rows).astype(np.float32))
        terminations = torch.from_numpy(gathered(data.terminations, rows))
        # The same Bellman equation for outputs y, where the value is offset + scale * y.
        shift = functions.offset * (1 - functions.config.discount * ~terminations)
        return Transitions(
            observations=functions.inputs(gathered(data.observations, rows)),
            actions=functions.action_inputs(gathered(data.actions, rows)), rewards=(rewards - shift) / functions.scale,
            next_observations=functions.inputs(following), terminations=terminations,
        )  # fmt: skip

    def _units(self) -> tuple[float, float]:
        return float(self.functions.offset), float(self.functions.scale)

    def _drawn(self, update: int, batch_size: int) -> Int[np.ndarray, " batch"]:
        drawn = stream(self.seed, "transitions", update).integers(self.usable, size=batch_size)
        return drawn + np.searchsorted(self._skipped, drawn, side="right") if len(self._skipped) else drawn
