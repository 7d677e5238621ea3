"""The normalised score that D4RL made common (Fu et al. 2020, appendix)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from foretell.core.errors import UsageError
from foretell.core.settings import number


def normalized_score(score: float, *, random: float, expert: float) -> float:
    r"""Score on a scale where the random policy is 0 and the reference agent 100.

    $100 \cdot (x - x_{random}) / (x_{expert} - x_{random})$. All three in the environment's reward units.

    >>> normalized_score(-150.0, random=-1230.0, expert=-150.0)
    100.0
    """
    return 100.0 * (score - random) / (expert - random)


def checked_references(ends: Any, name: str = "references") -> tuple[float, float]:
    """Return the mean returns of random acting and of an expert. Raises `UsageError` for what are no two apart."""
    if isinstance(ends, np.ndarray):
        ends = ends.tolist()
    if not isinstance(ends, list | tuple) or len(ends) != 2:
        raise UsageError(f"{name} {ends!r}; expected two mean returns, random's and an expert's.")
    low, high = number(f"{name}: random's", ends[0]), number(f"{name}: the expert's", ends[1])
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UsageError(f"{name} {low:g} and {high:g}; expected finite mean returns, random's, the lower, first.")
    return low, high
