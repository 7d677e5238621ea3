"""What value functions say about every timestep of a dataset, in place of what happened to be earned after it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from foretell.core.progress import Progress, silent
from foretell.datasets.dataset import Dataset
from foretell.values.functions import ValueFunctions

BLOCK_ROWS = 16_384
"""Timesteps evaluated at a time: the hidden layers of a block stay in the processor's cache or near it."""

FEW = 16
"""Episodes at most that are gone through one timestep after another: for few, arrays take longer than numbers."""


@dataclass(frozen=True, kw_only=True)
class ValueLabels:
    """Discounted values of each timestep of a dataset, reward units, float32."""

    values: Float[np.ndarray, " steps"]
    """V(s): what the best of the data's actions earn from here on."""
    q_values: Float[np.ndarray, " steps"]
    """Q(s, a), the smaller of two: what the recorded action earns, if the best follow it."""

    @property
    def advantages(self) -> Float[np.ndarray, " steps"]:
        """A = Q(s, a) - V(s): how much better the recorded action is than the expectile of the data's."""
        return self.q_values - self.values


def label(functions: ValueFunctions, dataset: Dataset, *, progress: Progress = silent) -> ValueLabels:
    """Evaluate Q and V on every timestep, in blocks; memory grows by eight bytes a timestep."""
    steps = dataset.num_steps
    values, q_values = np.empty(steps, np.float32), np.empty(steps, np.float32)
    for start in range(0, steps, BLOCK_ROWS):
        rows = slice(start, min(start + BLOCK_ROWS, steps))
        values[rows] = functions.values(dataset.observations[rows])
        q_values[rows] = functions.q_values(dataset.observations[rows], dataset.actions[rows])
        progress(rows.stop, steps)
    return ValueLabels(values=values, q_values=q_values)


def discounted_returns_to_go(
    rewards: Float[np.ndarray, " steps"], episode_ends: Int[np.ndarray, " episodes"], discount: float
) -> Float[np.ndarray, " steps"]:
    r"""Return $\hat R_t = r_t + \gamma \hat R_{t+1}$ of every timestep, 0 after an episode's last; summed in float64.

    >>> discounted_returns_to_go(np.array([1.0, 1.0, 5.0]), np.array([2, 3]), 0.5)
    array([1.5, 1. , 5. ])
    """
    return _from_the_ends(rewards, episode_ends, lambda reward, following, _: reward + discount * following)


def relabelled_returns_to_go(
    rewards: Float[np.ndarray, " steps"],
    values: Float[np.ndarray, " steps"],
    episode_ends: Int[np.ndarray, " episodes"],
) -> Float[np.ndarray, " steps"]:
    r"""Return the returns-to-go of the Q-learning Decision Transformer (Yamagata et al. 2022, section 4), float32.

    From the end of each episode backwards, $R_t = r_t + \max(R_{t+1}, V(s_{t+1}))$: where the value function knows a
    better way to go on than the episode did, its value stands for the rest. After the last timestep nothing is
    earned, whether the episode ended in a termination or a truncation, as in Eq. 3. `values[t]` is $V(s_t)$, reward
    units; `episode_ends` as in `Dataset`. Summed in float64.

    >>> rewards, values = np.array([-1.0, -1.0, -1.0]), np.array([-9.0, -5.0, -0.5])
    >>> relabelled_returns_to_go(rewards, values, np.array([3]))  # -1 + max(-1.5, -5); -1 + max(-1, -0.5); -1
    array([-2.5, -1.5, -1. ], dtype=float32)
    """

    def earned(reward: Any, following: Any, row: Any) -> Any:
        return reward + np.maximum(following, values[row + 1])

    return _from_the_ends(rewards, episode_ends, earned).astype(np.float32)


def _from_the_ends(
    rewards: Float[np.ndarray, " steps"], episode_ends: Int[np.ndarray, " episodes"],
    earned: Callable[[Any, Any, Any], Any],
) -> Float[np.ndarray, " steps"]:  # fmt: skip
    """Return `earned(reward, what was earned from the next timestep on, row)` of every timestep, from episodes' ends.

    It is called with arrays, of all episodes that are so long, and where these are `FEW` with numbers, one by one.
    """
    returns = np.array(rewards, np.float64)
    lengths = np.diff(episode_ends, prepend=0)
    longest_first = np.argsort(-lengths, kind="stable")
    ends, ascending = np.asarray(episode_ends)[longest_first], np.sort(lengths)
    behind, longest = 2, int(lengths.max(initial=0))
    while behind <= longest:
        going_on = len(lengths) - int(np.searchsorted(ascending, behind))
        if going_on <= FEW:
            break
        rows = ends[:going_on] - behind
        returns[rows] = earned(returns[rows], returns[rows + 1], rows)
        behind += 1
    for episode in longest_first[:FEW]:
        last = int(episode_ends[episode]) - behind
        for row in range(last, int(episode_ends[episode] - lengths[episode]) - 1, -1):
            returns[row] = earned(returns[row], returns[row + 1], row)
    return returns
