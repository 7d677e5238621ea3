"""The random behaviour policy: uniform over everything that the environment accepts."""

from __future__ import annotations

import math

import numpy as np

from foretell.core.errors import UsageError
from foretell.environments.making import EnvironmentSpec


class RandomPolicy:
    """Acts uniformly over the action range, or over the numbered choices, whatever it observes.

    The log-probability is exact: $-\\sum_i \\log(high_i - low_i)$ (a density, in 1 / units of the actions), or
    $-\\log n$ for n choices. A component that has one value alone is left out of it.
    """

    def __init__(self, spec: EnvironmentSpec):
        self.spec = spec
        if spec.num_actions is not None:
            self.log_prob = -math.log(spec.num_actions)
        elif spec.action_low is None or spec.action_high is None:
            raise UsageError(f"{spec.name}: no action range and no number of actions; expected one of them.")
        else:
            widths = [high - low for low, high in zip(spec.action_low, spec.action_high, strict=True)]
            self.log_prob = -sum(math.log(width) for width in widths if width > 0)

    def act(self, observations: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return one action for each observation, `(n, action_dim)` float32 or `(n,)` int64, and `(n,)` log-probs."""
        count = len(observations)
        log_probs = np.full(count, self.log_prob, np.float32)
        if self.spec.num_actions is not None:
            return rng.integers(self.spec.num_actions, size=count), log_probs
        low, high = np.asarray(self.spec.action_low), np.asarray(self.spec.action_high)
        drawn = low + (high - low) * rng.random((count, self.spec.action_dim))  # as `uniform`, in half of the time
        return drawn.astype(np.float32), log_probs
