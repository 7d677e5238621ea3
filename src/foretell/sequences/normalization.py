"""The one place where data's units become the networks' units, in training and in acting alike."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from foretell.core.variation import deviation_and_variation
from foretell.datasets.dataset import Dataset
from foretell.datasets.findings import some_rows
from foretell.sequences.scaling import ActionRange

STATISTICS_ROWS = 1_000_000
"""Timesteps at most that the observation statistics are taken from, evenly spread over the dataset."""
BYTES = 255.0
"""What images of bytes are divided by."""
DIVIDED = 100
"""Images so many times smaller than bytes may be were divided before."""
STATISTICS_NUMBERS = 10_000_000
"""Numbers at most in those timesteps, for the sake of memory: of wide observations fewer timesteps are read."""


@dataclass(frozen=True, kw_only=True)
class Normalization:
    """Statistics fitted on the data and saved in the run.

    `observation_mean` and `observation_std` are per dimension; for images a single 0 and 255 (1 for floats).
    `return_scale` divides returns-to-go (reward units): the largest absolute return-to-go in the data.
    `action_range` is None for discrete actions.
    """

    observation_mean: tuple[float, ...]
    observation_std: tuple[float, ...]
    return_scale: float
    action_range: ActionRange | None

    @classmethod
    def fit(cls, dataset: Dataset, action_range: ActionRange | None) -> Normalization:
        """Measure `dataset`. A dimension that never changes is only shifted, not scaled."""
        largest = dataset.largest_return_to_go()
        if len(dataset.observation_shape) == 3:  # images: bytes to [0, 1], floats as they are
            mean, std = (0.0,), (BYTES if dataset.observations.dtype == np.uint8 else 1.0,)
        else:
            most = max(1, min(STATISTICS_ROWS, STATISTICS_NUMBERS // int(np.prod(dataset.observation_shape))))
            rows = some_rows(dataset.observations, most).astype(np.float64)
            mean, std = (tuple(found.tolist()) for found in (rows.mean(axis=0), deviation_and_variation(rows)[0]))
        return cls(
            observation_mean=mean, observation_std=std, return_scale=largest or 1.0, action_range=action_range
        )  # fmt: skip

    def observations(self, raw: np.ndarray) -> np.ndarray:
        """Environment units to zero mean and unit deviation, float32."""
        mean, std = self._observation_moments
        found = np.subtract(raw, mean, dtype=np.float32, casting="unsafe")  # of images a copy takes longer than a sum
        return np.divide(found, std, out=found)

    def divided_before(self, low: float, high: float) -> bool:
        """Whether images from `low` to `high` are none of the bytes that were learned from, but what comes of those
        divided by 255, or less."""
        return self.observation_std == (BYTES,) and 0 < max(-low, high) * DIVIDED <= BYTES

    def doubt_of_images(self, images: np.ndarray) -> str:
        """Say in a sentence that these images are on another scale than those learned from; "" where they need not be.

        Of vectors, whose units nothing tells, it is always "".
        """
        if images.ndim != 4 or not images.size:
            return ""
        if images.dtype == np.uint8:
            return "" if self.observation_std == (BYTES,) else (
                "images are bytes; the run was trained on floats, and takes numbers as they are. Give floats on the "
                "scale of its data, divided by 255 where those were."
            )  # fmt: skip
        low, high = float(images.min()), float(images.max())
        if not self.divided_before(low, high):
            return ""
        return (
            f"images are {images.dtype} from {low:g} to {high:g}; the run was trained on bytes, and divides by 255. "
            "Give bytes, 0 to 255."
        )

    def from_units_of(
        self, other: Normalization, observations: Float[Tensor, "rows observation_dim"]
    ) -> Float[Tensor, "rows observation_dim"]:
        """Observations in the units of `other` to those of this one."""
        if other == self:
            return observations
        (mean, std), (own_mean, own_std) = (
            map(torch.from_numpy, found._observation_moments) for found in (other, self)
        )
        return (observations * std + mean - own_mean) / own_std

    @cached_property
    def _observation_moments(self) -> tuple[np.ndarray, np.ndarray]:
        return np.asarray(self.observation_mean, np.float32), np.asarray(self.observation_std, np.float32)

    def returns(self, raw: np.ndarray) -> np.ndarray:
        """Returns-to-go in reward units to the networks' units, float32."""
        return (raw / self.return_scale).astype(np.float32)

    def actions(self, raw: np.ndarray) -> np.ndarray:
        """Actions to [-1, 1]; discrete ones to int64."""
        return raw.astype(np.int64) if self.action_range is None else self.action_range.to_unit(raw)

    def to_json(self) -> dict[str, Any]:
        """Return plain values for `config.json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Normalization:
        """Read back what `to_json` gave."""
        limits = found["action_range"]
        return cls(
            observation_mean=tuple(found["observation_mean"]),
            observation_std=tuple(found["observation_std"]),
            return_scale=float(found["return_scale"]),
            action_range=limits and ActionRange(low=tuple(limits["low"]), high=tuple(limits["high"])),
        )
