"""Observations of several parts, for tests."""

from __future__ import annotations

import numpy as np
from gymnasium import spaces


def stacked(space, each):
    """Observations of several timesteps as a recording keeps them: an array for each part."""
    if isinstance(space, spaces.Dict):
        return {key: stacked(space[key], [one[key] for one in each]) for key in space}
    if isinstance(space, spaces.Tuple):
        return tuple(stacked(part, [one[i] for one in each]) for i, part in enumerate(space))
    return np.array(each)
