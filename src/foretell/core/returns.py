"""Returns-to-go (Eq. 3 of the report; Chen et al. 2021, section 3)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from foretell.core.errors import UsageError
from foretell.core.stepping import as_read


def returns_to_go(rewards: Float[np.ndarray, " time"]) -> Float[np.ndarray, " time"]:
    r"""Return still to be earned from each timestep on, that timestep's reward included; reward units, float32.

    $\hat R_t = \sum_{t'=t}^{T} r_{t'}$ (Chen et al. 2021, section 3; Eq. 3 of the report). $\hat R_t$ ->
    `returns_to_go[t]`. Summed in float64, so that long episodes do not drift. Raises `UsageError` for anything but the
    numbers of one episode.

    >>> returns_to_go(np.array([1.0, 0.0, 2.0]))
    array([3., 2., 2.], dtype=float32)
    """
    found = as_read("rewards", rewards)
    if found.ndim != 1:
        raise UsageError(
            f"rewards of shape {found.shape}; expected (timesteps,), those of one episode. Of several, ask one by one."
        )
    if found.dtype.kind not in "fiub":
        raise UsageError(f"rewards of type {found.dtype}; expected numbers.")
    return np.cumsum(found[::-1], dtype=np.float64)[::-1].astype(np.float32)
