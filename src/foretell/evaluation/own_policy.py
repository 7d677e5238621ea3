"""A policy of one's own, measured as runs are: an object that acts, a function, or an agent of Stable-Baselines3."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np

from foretell.core.errors import UsageError
from foretell.core.stepping import Actions, Rewards, TargetReturn, Where, checked_where, untold_count
from foretell.environments.action_flattening import parts_or_none
from foretell.environments.flattening import is_array, unflattened
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
    `predict(observations, state=..., episode_start=..., deterministic=True)` gives actions and the next state.

    Where its `observation_space` or `action_space` has several parts, or choices that are not numbered as ours, it is
    asked in these, as it learned."""

    def __init__(self, agent: Any):
        """Act by `agent`."""
        self._agent = agent
        observed, taken = (_space_of(agent, name) for name in ("observation_space", "action_space"))
        self._observed = None if observed is None or is_array(observed) else observed
        self._taken = None if taken is None else parts_or_none(taken)
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
        """Return what the agent predicts; the protocol checks it. Raises `UsageError` for other observations."""
        asked = observations if self._observed is None else unflattened(self._observed, np.asarray(observations))
        actions, self._state = self._agent.predict(
            asked, state=self._state, episode_start=self._begins, deterministic=True
        )
        self._begins = np.zeros_like(self._begins)
        return actions if self._taken is None else self._taken.flattened(actions)

    def observe(self, rewards: Rewards, actions: Actions = None) -> None:
        """Neither is asked for."""
        del rewards, actions


def _space_of(agent: Any, name: str) -> gymnasium.Space | None:
    """Return a space that an agent says it has."""
    space = getattr(agent, name, None)
    return space if isinstance(space, gymnasium.Space) else None


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
