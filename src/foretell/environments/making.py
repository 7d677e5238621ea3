"""Making environments by name, and stepping many of them as one."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import gymnasium
import numpy as np
from gymnasium import spaces

from foretell.core.errors import UsageError
from foretell.environments.pendulum import BatchedPendulum


class Environments(Protocol):
    """Several environments of one kind, each at its own start state.

    `step` may be called with any action for an environment that has ended: what it then returns is to be ignored.
    """

    def reset(self, seeds: Sequence[int]) -> np.ndarray:
        """Start each environment from its seed; return the first observations `(num_envs, *observation_shape)`."""
        ...

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return observations, rewards, terminations, truncations, each with leading dimension `num_envs`."""
        ...

    def simulator_state(self) -> dict[str, np.ndarray]:
        """Return what the simulator knows beyond the observation (`qpos`, `qvel`), or nothing."""
        ...


@dataclass(frozen=True, kw_only=True)
class EnvironmentSpec:
    """What a policy must know of an environment: shapes, units and the horizon.

    `action_low` and `action_high` are None for discrete actions, of which there are `num_actions`;
    `horizon` is the time limit in timesteps, None where the environment has none.
    """

    name: str
    observation_shape: tuple[int, ...]
    action_dim: int
    action_low: tuple[float, ...] | None
    action_high: tuple[float, ...] | None
    num_actions: int | None
    horizon: int | None


def make_environment(name: str) -> gymnasium.Env:
    """Make one Gymnasium environment.

    Raises `UsageError` where the name is unknown. A name with a module before a colon is refused: Gymnasium would
    import that module, and a name may come from a stranger's file.
    """
    if ":" in name:
        raise UsageError(
            f"environment {name!r} names a module to import; expected a registered id such as Pendulum-v1."
        )
    try:
        return gymnasium.make(name)
    except (gymnasium.error.Error, ImportError, TypeError, ValueError) as error:
        close = [known for known in gymnasium.registry if known.lower().startswith(name.lower()[:6])][:5]
        own = " Of your own, give the module that registers it: --environment module:Id, or import it first."
        hint = f" Did you mean {', '.join(close)}?" if close else own
        raise UsageError(f"environment {name!r} cannot be made ({str(error).splitlines()[0]}).{hint}") from None


def environment_spec(name: str) -> EnvironmentSpec:
    """Ask Gymnasium for shapes, action range and time limit of `name`. Raises `UsageError` for unusable spaces."""
    env = make_environment(name)
    try:
        observations, actions = env.observation_space, env.action_space
        if not isinstance(observations, spaces.Box):
            raise UsageError(f"{name}: observation space {observations}; expected a Box. Wrap it to one array first.")
        horizon = env.spec.max_episode_steps if env.spec else None
        if isinstance(actions, spaces.Discrete):
            return EnvironmentSpec(
                name=name, observation_shape=observations.shape, action_dim=int(actions.n), action_low=None,
                action_high=None, num_actions=int(actions.n), horizon=horizon,
            )  # fmt: skip
        if not isinstance(actions, spaces.Box) or len(actions.shape) != 1 or not actions.is_bounded():
            raise UsageError(f"{name}: action space {actions}; expected a bounded Box of one dimension, or Discrete.")
        return EnvironmentSpec(
            name=name, observation_shape=observations.shape, action_dim=int(actions.shape[0]),
            action_low=tuple(map(float, actions.low)), action_high=tuple(map(float, actions.high)),
            num_actions=None, horizon=horizon,
        )  # fmt: skip
    finally:
        env.close()


def stored_environment_spec(name: str | None) -> EnvironmentSpec | None:
    """Return the spec of an environment that a file names, None with a warning where it cannot be made here."""
    if not name:
        return None
    try:
        return environment_spec(name)
    except UsageError as error:
        warnings.warn(
            f"{error} The data are used without it: no action range, no horizon, no evaluation.", stacklevel=2
        )
        return None


class GymnasiumLoop:
    """`num_envs` Gymnasium environments stepped one after another; those that have ended rest."""

    def __init__(self, name: str, num_envs: int):
        self.environments = [make_environment(name) for _ in range(num_envs)]
        self._ended = np.zeros(num_envs, bool)
        self._observations: np.ndarray = np.zeros(0)

    def reset(self, seeds: Sequence[int]) -> np.ndarray:
        """Start each environment from its seed."""
        self._ended[:] = False
        self._observations = np.stack([env.reset(seed=int(s))[0] for env, s in zip(self.environments, seeds)])
        return self._observations.copy()

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Step the environments that still run; the others repeat their last observation with reward 0."""
        rewards = np.zeros(len(self.environments))
        terminations, truncations = np.zeros_like(self._ended), np.zeros_like(self._ended)
        for i in np.flatnonzero(~self._ended):
            observation, reward, terminations[i], truncated, _ = self.environments[i].step(actions[i])
            truncations[i] = truncated and not terminations[i]  # what ended is not cut short as well
            self._observations[i] = observation
            rewards[i] = reward
        self._ended |= terminations | truncations
        return self._observations.copy(), rewards, terminations, truncations

    def simulator_state(self) -> dict[str, np.ndarray]:
        """Nothing: Gymnasium has no common way to ask."""
        return {}


def make_environments(name: str, num_envs: int) -> Environments:
    """Make `num_envs` environments that step together: in one array where Foretell has the task so, else in a loop."""
    if name == "Pendulum-v1":
        return BatchedPendulum(num_envs)
    return GymnasiumLoop(name, num_envs)
