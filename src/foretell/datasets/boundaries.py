"""Where episodes end, in files that do not say it outright."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Int64

from foretell.core.errors import DatasetError, UsageError
from foretell.datasets.fingerprint import block_rows
from foretell.environments.keywords import parsed

SPOT_CHECKS = 1000
"""Stored episode ends compared with the flags on opening; all of them are compared by the doctor."""


def ends_of(
    terminations: Bool[np.ndarray, " steps"], truncations: Bool[np.ndarray, " steps"]
) -> Int64[np.ndarray, " episodes"]:
    """Return the row behind each flagged step: the exclusive ends of the episodes. Linear in size."""
    return np.flatnonzero(np.asarray(terminations) | np.asarray(truncations)).astype(np.int64) + 1


def trusted_ends(ends: np.ndarray, terminations: np.ndarray, truncations: np.ndarray) -> bool:
    """Say whether stored episode ends fit the file: rising, ending at the last row, and flagged where looked at."""
    if ends.ndim != 1 or len(ends) == 0 or not np.issubdtype(ends.dtype, np.integer):
        return False
    if ends[0] < 1 or ends[-1] != len(terminations) or (np.diff(ends) < 1).any():
        return False
    looked_at = ends[np.linspace(0, len(ends) - 1, min(len(ends), SPOT_CHECKS)).astype(int)] - 1
    unflagged = looked_at[~truncations[looked_at]]  # terminations are read for these alone: a column costs much
    return bool(terminations[unflagged].all())


def truncations_at_breaks(
    observations: np.ndarray, next_observations: np.ndarray, terminations: np.ndarray
) -> Bool[np.ndarray, " steps"]:
    """Return True where the next row does not go on from this one and the task did not end: an unrecorded timeout."""
    breaks = np.zeros(len(observations), bool)
    rows = block_rows(observations)
    for start in range(0, len(observations) - 1, rows):
        stop = min(start + rows, len(observations) - 1)
        differs = next_observations[start:stop] != observations[start + 1 : stop + 1]
        breaks[start:stop] = differs.reshape(stop - start, -1).any(axis=1)
    return breaks & ~np.asarray(terminations)


def truncations_at_horizon(terminations: np.ndarray, horizon: int) -> Bool[np.ndarray, " steps"]:
    """Return True at each `horizon`-th timestep since the last end that is not a termination itself."""
    if horizon < 1:
        raise DatasetError(f"horizon is {horizon}; expected the time limit in timesteps, at least 1.")
    steps = np.arange(len(terminations))
    starts = np.concatenate([[0], np.flatnonzero(terminations) + 1])
    elapsed = steps - starts[np.searchsorted(starts, steps, side="right") - 1] + 1
    return (elapsed % horizon == 0) & ~np.asarray(terminations)


def time_limit(environment: str | None) -> int | None:
    """Return the time limit of a registered environment, or that among its keywords; None where it is not known.

    A name with a module before a colon is not looked up: Gymnasium would import that module.
    """
    if environment is None or ":" in environment:
        return None
    import gymnasium  # late: few files need it

    try:
        known, keywords = parsed(environment)
    except UsageError:  # somebody's own words
        return None
    spec = gymnasium.registry.get(known)
    if spec is None:
        return None
    given = keywords.get("max_episode_steps")
    if given == -1:  # Gymnasium's word for none
        return None
    return given if isinstance(given, int) and given > 0 else spec.max_episode_steps
