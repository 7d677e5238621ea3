"""A policy of one's own, measured as runs are: an object that acts, a function, or an agent of Stable-Baselines3."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from foretell.core.errors import UsageError
from foretell.core.stepping import Actions, Rewards, TargetReturn, Where, checked_where, untold_count
from foretell.evaluation.protocol import Policy

OWN = "own"
"""What records call the algorithm of a policy that is no run."""
_METHODS = ("reset", "act", "observe")


class FunctionPolicy:
    """A function from observations `(num_envs, ...)` to actions, one for each environment; it is told nothing else."""

    def __init__(self, function: Callable[[np.ndarray], Any]):
        """Act by `function`."""
        self._function = function

    def reset(self, num_envs: int, target_return: TargetReturn = None, where: Where | None = None) -> None:
        """Begin new episodes, of which the function knows nothing. Raises `UsageError` for a target."""
        del num_envs, where
        if target_return is not None:
            raise UsageError(
                "target_returns are given to a function of observations alone; expected a policy that is told them, an "
                "object with reset, act and observe."
            )

    def act(self, observations: np.ndarray) -> np.ndarray:
        """Return what the function says; the protocol checks it."""
        return self._function(observations)

    def observe(self, rewards: Rewards, actions: Actions = None) -> None:
        """Neither is asked for."""
        del rewards, actions


class PredictingPolicy:
    """An agent of Stable-Baselines3, or of who calls it as they do, acting without chance:
    `predict(observations, state=..., episode_start=..., deterministic=True)` gives actions and the next state."""

    def __init__(self, agent: Any):
        """Act by `agent`."""
        self._agent = agent
        self._state: Any = None
        self._begins = np.zeros(0, bool)

    def reset(self, num_envs: int, target_return: TargetReturn = None, where: Where | None = None) -> None:
        """Begin new episodes, of which recurrent agents are told. Raises `UsageError` as others without a target."""
        count = untold_count(num_envs, target_return, where)
        if where is None:
            self._state, self._begins = None, np.ones(count, bool)
        else:
            self._begins = self._begins | checked_where(where, count, count)

    def act(self, observations: np.ndarray) -> np.ndarray:
        """Return what the agent predicts; the protocol checks it."""
        actions, self._state = self._agent.predict(
            observations, state=self._state, episode_start=self._begins, deterministic=True
        )
        self._begins = np.zeros_like(self._begins)
        return actions

    def observe(self, rewards: Rewards, actions: Actions = None) -> None:
        """Neither is asked for."""
        del rewards, actions


def _predicts(given: Any) -> bool:
    """Whether an object is an agent as Stable-Baselines3 has them."""
    try:
        taken = inspect.signature(given.predict).parameters
    except (AttributeError, TypeError, ValueError):
        return False
    return {"state", "episode_start", "deterministic"} <= set(taken) and not isinstance(given, type)


def own_policy(given: Any) -> Policy | None:
    """Return a policy of one's own; None of what is a name: that of a run, "random" or "optimum".

    Raises `UsageError` for what cannot act.
    """
    if isinstance(given, str | os.PathLike):
        return None
    has = [name for name in _METHODS if callable(getattr(given, name, None))]
    if len(has) == len(_METHODS) and not isinstance(given, type):
        return given
    if _predicts(given) and not has:
        return PredictingPolicy(given)
    if callable(given) and not has and not isinstance(given, type):
        return FunctionPolicy(given)
    raise UsageError(
        f"run is {given!r:.100}; expected the name of a file or folder, that of a run, or a policy of your own: an "
        "object with reset, act and observe (foretell.Policy), a function from observations to actions, or an agent of "
        "Stable-Baselines3."
    )
