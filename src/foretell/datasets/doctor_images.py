"""In what units images are: networks divide bytes by 255 and take floats as they are, whatever they mean."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from foretell.core.errors import UsageError
from foretell.datasets.dataset import Dataset
from foretell.datasets.findings import Finding, blocks, warning
from foretell.environments.making import EnvironmentSpec, observation_range

DARK = 15
"""Bytes that never exceed it are no pictures: numbered kinds, or what was divided before."""
LARGE, TINY = 16.0, 0.01
"""Floats beyond the first were never divided; those below the second were divided twice."""
SCALED = 100
"""Images so many times darker than an environment's were divided."""
TOLERANCE = 1e-3
"""Part of an environment's range by which images may leave it: rounding."""


def images(dataset: Dataset, spec: EnvironmentSpec | None) -> Iterator[Finding]:
    """Images in other units than the environment's, or than networks can use."""
    if len(dataset.observation_shape) != 3:
        return
    seen = dataset.observations
    low = min(float(seen[rows].min()) for rows in blocks(dataset))
    high = max(float(seen[rows].max()) for rows in blocks(dataset))
    given = _given(dataset, spec)
    if given is not None and spec is not None and _otherwise(low, high, *given):
        yield warning("observations", f"images are {seen.dtype} from {low:g} to {high:g}; {spec.name} gives "
                      f"{given[0]:g} to {given[1]:g}. A policy that learned from them needs the same change. Store "
                      "them as the environment gives them, bytes as uint8.")  # fmt: skip
    elif seen.dtype == np.uint8 and 0 < high <= DARK:
        yield warning("observations", f"images are bytes of at most {high:g}, which networks divide by 255: next to "
                      "nothing is left. Were they divided before? Else, of numbered kinds say, give floats, in the "
                      "environment as well.")  # fmt: skip
    elif seen.dtype != np.uint8 and max(-low, high) > LARGE:
        yield warning("observations", f"images are floats from {low:g} to {high:g}, which networks take as they are. "
                      "Store bytes as uint8, which they divide by 255; of others, divide in the environment as "
                      "well.")  # fmt: skip
    elif seen.dtype != np.uint8 and 0 < max(-low, high) < TINY:
        yield warning("observations", f"images are floats from {low:g} to {high:g}, next to nothing. Were they "
                      "divided by 255 twice?")  # fmt: skip


def _given(dataset: Dataset, spec: EnvironmentSpec | None) -> tuple[float, float] | None:
    """Return the least and the largest number of the environment's images; None where it does not say, or has none."""
    if spec is None or spec.observation_shape != dataset.observation_shape:
        return None
    try:
        return observation_range(spec.name)
    except UsageError:  # of a spec that somebody made: then there is nothing to hold images against
        return None


def _otherwise(low: float, high: float, least: float, most: float) -> bool:
    slack = TOLERANCE * (most - least)
    return low < least - slack or high > most + slack or 0 < high * SCALED <= most
