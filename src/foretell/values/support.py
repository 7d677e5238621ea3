"""`Support`: the least and the most that the data are told at each timestep, beyond which nothing can be asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Int
from torch import Tensor

from foretell.core.errors import CheckpointError
from foretell.sequences.windows import WindowSampler

EPISODES, ROWS = 1 << 16, 1 << 22
"""Episodes and timesteps at most that are looked at, evenly spread over the dataset."""


@dataclass(frozen=True, kw_only=True)
class Support:
    """`least` and `most` of what the episodes of a dataset are told at each timestep, in the networks' units.

    A model that was told -1500 and less at the first timestep of every episode can make nothing of -100, and near
    an episode's end nothing of -1500: what it does there was never seen. What lies outside is taken for the nearest
    that was told.
    """

    least: Float32[np.ndarray, " timesteps"]
    most: Float32[np.ndarray, " timesteps"]

    @classmethod
    def of(
        cls, sampler: WindowSampler, max_timesteps: int, episodes: Int[np.ndarray, " chosen"] | None = None
    ) -> Support:
        """Look through the episodes of `sampler`, or some of them; timesteps behind the longest are as its last."""
        starts, ends = sampler.episode_starts, sampler.episode_ends
        if episodes is not None:
            starts, ends = starts[episodes], ends[episodes]
        least, most = np.full(max_timesteps, np.inf, np.float32), np.full(max_timesteps, -np.inf, np.float32)
        count = max(1, min(len(ends), EPISODES, ROWS * len(ends) // sampler.num_steps))
        for episode in np.linspace(0, len(ends) - 1, count).astype(np.int64):
            told = sampler.told_rows(slice(int(starts[episode]), int(ends[episode])))
            np.minimum(least[: len(told)], told, out=least[: len(told)])
            np.maximum(most[: len(told)], told, out=most[: len(told)])
        last = int(np.isfinite(least).sum()) - 1
        least[last:], most[last:] = least[last], most[last]
        return cls(least=least, most=most)

    def nearest(
        self, told: Float32[np.ndarray, " rows"], timesteps: int | Int[np.ndarray, " rows"]
    ) -> Float32[np.ndarray, " rows"]:
        """Return what comes nearest to `told` of what the data are told at these timesteps, networks' units.

        Behind the last timestep that there is, as at the last.

        >>> support = Support(least=np.float32([-3, -1]), most=np.float32([-2, -0.5]))
        >>> support.nearest(np.float32([-9, -2.5, 0]), 0)
        array([-3. , -2.5, -2. ], dtype=float32)
        """
        there = np.minimum(timesteps, len(self.least) - 1)
        return np.minimum(np.maximum(told, self.least[there]), self.most[there])

    def tensors(self) -> dict[str, Tensor]:
        """Return what `restore` reads."""
        return {"least": torch.from_numpy(self.least), "most": torch.from_numpy(self.most)}

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], max_timesteps: int) -> Support:
        """Build what `tensors` gave. Raises `CheckpointError` where they do not fit."""
        found = [tensors.get(name, torch.empty(0)) for name in ("least", "most")]
        if any(limits.shape != (max_timesteps,) for limits in found):
            shapes = " and ".join(str(tuple(limits.shape)) for limits in found)
            raise CheckpointError(f"limits of what is told of shapes {shapes}; expected twice ({max_timesteps},).")
        return cls(least=found[0].numpy(), most=found[1].numpy())
