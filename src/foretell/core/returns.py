"""Returns-to-go (Eq. 3 of the report; Chen et al. 2021, section 3)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def returns_to_go(rewards: Float[np.ndarray, " time"]) -> Float[np.ndarray, " time"]:
    r"""Return still to be earned from each timestep on, that timestep's reward included; reward units, float32.

    $\hat R_t = \sum_{t'=t}^{T} r_{t'}$ (Chen et al. 2021, section 3; Eq. 3 of the report). $\hat R_t$ ->
    `returns_to_go[t]`. Summed in float64, so that long episodes do not drift.

    >>> returns_to_go(np.array([1.0, 0.0, 2.0]))
    array([3., 2., 2.], dtype=float32)
    """
    return np.cumsum(rewards[::-1], dtype=np.float64)[::-1].astype(np.float32)
