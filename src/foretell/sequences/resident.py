"""Windows on a device: the dataset's columns lie in its memory, and a batch is gathered there."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from foretell.sequences.batch import SequenceBatch
from foretell.sequences.windows import WindowSampler

CHUNK = 64
"""Updates whose rows are drawn, and copied to the device, at one time."""
COPIED_ROWS = 65_536
"""Rows that are normalised and copied at one time, at most."""
COPIED_BYTES = 1 << 26
"""Bytes of a column in those rows, at most: of images that is fewer."""


class ResidentWindows:
    """The batches of a `WindowSampler`, made on a device from columns that were copied there once.

    The rows are drawn by the sampler, so batch `update` is the same function of (seed, update).
    """

    def __init__(self, sampler: WindowSampler, device: torch.device):
        """Copy every column that batches are made of; see `resident_bytes` for how much that is."""
        self.sampler, self.device = sampler, device
        self._columns: dict[str, Tensor] = {}
        widest = max(values.nbytes for values in sampler.columns(slice(0, 1)).values())
        together = max(1, min(COPIED_ROWS, COPIED_BYTES // widest))
        for start in range(0, sampler.num_steps, together):
            rows = slice(start, min(start + together, sampler.num_steps))
            for name, values in sampler.columns(rows).items():
                part = torch.from_numpy(values)
                if name not in self._columns:
                    self._columns[name] = part.new_empty((sampler.num_steps, *part.shape[1:]), device=device)
                self._columns[name][rows] = part.to(device)
        self._ends = torch.tensor(sampler.episode_ends, device=device)
        self._starts = torch.tensor(sampler.episode_starts, device=device)
        statistics = (sampler.normalization.observation_mean, sampler.normalization.observation_std)
        self._mean, self._std = (torch.tensor(numbers, dtype=torch.float32, device=device) for numbers in statistics)
        self._drawn: tuple[tuple[int, int], Tensor] | None = None

    def batch(self, update: int, batch_size: int) -> SequenceBatch:
        """Return the batch of this update."""
        return self.gather(self.rows(update, batch_size))

    def rows(self, update: int, batch_size: int) -> Int[Tensor, "parts batch"]:
        """Return the last row of every window of this update, and below them the rows of the goals, where there are.

        Those of `CHUNK` updates are drawn together, so that the device is not waited for at every update.
        """
        chunk = (update // CHUNK * CHUNK, batch_size)
        if self._drawn is None or self._drawn[0] != chunk:
            drawn = np.stack([self._draw(each, batch_size) for each in range(chunk[0], chunk[0] + CHUNK)])
            self._drawn = (chunk, copied(torch.from_numpy(drawn), self.device))
        return self._drawn[1][update - chunk[0]]

    def gather(self, rows: Int[Tensor, "parts batch"]) -> SequenceBatch:
        """Return the windows that `rows` names; nothing is read back to the host."""
        last = rows[0]
        starts = self._starts[torch.searchsorted(self._ends, last, right=True)][:, None]
        places = last[:, None] + torch.arange(1 - self.sampler.context_length, 1, device=self.device)
        mask = places >= starts
        places = torch.maximum(places, starts)
        windowed = {name: values for name, values in self._columns.items() if name not in ("pictures", "goals")}
        found = {name: _padded(values[places], mask) for name, values in windowed.items()}
        if "pictures" in self._columns:
            found["observations"] = _padded(self._scaled(self._columns["pictures"][places]), mask)
        goals = self._columns["goals"][rows[1]] if len(rows) > 1 else None
        if goals is not None and goals.dtype == torch.uint8:
            goals = self._scaled(goals)
        return SequenceBatch(mask=mask, timesteps=torch.where(mask, places - starts, 0), goals=goals, **found)

    def _draw(self, update: int, batch_size: int) -> Int[np.ndarray, "parts batch"]:
        last, later = self.sampler.draw(update, batch_size)
        return np.stack([last] if later is None else [last, self.sampler.goal_rows(last, later)])

    def _scaled(self, pictures: Tensor) -> Tensor:
        return (pictures.to(torch.float32) - self._mean) / self._std


def resident_bytes(sampler: WindowSampler) -> int:
    """Return how much memory `ResidentWindows` keeps of the sampler's dataset, in bytes."""
    one = sampler.columns(slice(0, 1))
    return sampler.num_steps * sum(values.nbytes for values in one.values())


class CopiedWindows:
    """The batches of a `WindowSampler`, each copied to a device: for data that its memory cannot hold."""

    def __init__(self, sampler: WindowSampler, device: torch.device):
        self.sampler, self.device = sampler, device

    def batch(self, update: int, batch_size: int) -> SequenceBatch:
        """Return the batch of this update; it is copied while the host goes on."""
        parts = vars(self.sampler.batch(update, batch_size)).items()
        return SequenceBatch(**{name: copied(value, self.device) for name, value in parts if value is not None})


def copied(values: Tensor, device: torch.device) -> Tensor:
    """Return `values` on the device; from pinned memory, which alone is copied while the host goes on."""
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values.to(device)


def _padded(values: Tensor, mask: Bool[Tensor, "batch time"]) -> Tensor:
    """Return values with padding set to 0, or False."""
    wide = mask.reshape(*mask.shape, *[1] * (values.dim() - 2))
    return values & wide if values.dtype == torch.bool else values * wide
