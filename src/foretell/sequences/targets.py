"""Which return a policy asks for, chosen from the data alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

from foretell.core.errors import UsageError

TARGET_QUANTILE = 0.75
"""The default target is the return that one episode in four of the data exceeds: good, and well within its support."""


def choose_target(returns: Float[np.ndarray, " episodes"], asked: float | None = None) -> dict[str, Any]:
    """Return the rule and the target return (reward units) of a run.

    `asked` None takes the data's quantile; no environment is consulted and no evaluation start is looked at.

    >>> choose_target(np.array([-100.0, 0.0]))
    {'rule': 'quantile 0.75 of the returns in the data', 'return': -25.0}
    """
    if asked is None:
        value = float(np.quantile(returns, TARGET_QUANTILE))
        return {"rule": f"quantile {TARGET_QUANTILE:g} of the returns in the data", "return": round(value, 6)}
    if not np.isfinite(asked):
        raise UsageError(f"target return {asked}; expected a finite number in reward units.")
    return {"rule": "given", "return": float(asked)}
