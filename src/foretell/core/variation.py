"""Whether a column of numbers varies at all: one that does not has no unit of its own."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

NEGLIGIBLE = 1e-6
"""Of a column's largest number, at most of 1: what deviates less is rounding, not variation."""


def deviation_and_variation(
    columns: Float[np.ndarray, "rows ..."],
) -> tuple[Float[np.ndarray, "*columns"], Bool[np.ndarray, "*columns"]]:
    """Return each column's standard deviation, 1 where it does not vary, and whether it varies.

    Small units are no reason to be left out: numbers around 1e-9 that differ by as much do vary.

    >>> deviation, varies = deviation_and_variation(np.array([[1e-9, 3.0], [3e-9, 3.0]]))
    >>> varies.tolist(), deviation.tolist()
    ([True, False], [1e-09, 1.0])
    """
    deviation = columns.std(axis=0)
    largest = np.maximum(columns.max(axis=0), -columns.min(axis=0))
    varies = np.asarray(deviation > NEGLIGIBLE * np.minimum(largest, 1.0))
    return np.where(varies, deviation, 1.0), varies
