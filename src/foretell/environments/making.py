"""Making environments by name, and stepping many of them as one."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium
import numpy as np
from gymnasium import spaces

from foretell.core.errors import DatasetError, UsageError
from foretell.core.warning import warn_caller
from foretell.environments.action_flattening import UNBOUNDED, FlattenedActions, is_flat
from foretell.environments.flattening import FlattenedObservations, is_array
from foretell.environments.instead import first_line, instead_of, keywords_named, of_opengl
from foretell.environments.keywords import canonical, parsed
from foretell.environments.pendulum import BatchedPendulum

CANNOT = (gymnasium.error.Error, ImportError, TypeError, ValueError)
"""What is raised where an environment cannot be made; of wrong keywords it may be anything."""


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

    def close(self) -> None:
        """Give back what the simulators hold: processes, sockets, windows. Nothing else may be called after it."""
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


def make_environment(name: str, render_mode: str | None = None) -> gymnasium.Env:
    """Make one Gymnasium environment, whose observations are one array (`environments.flattening`), and whose actions
    are one choice or a row of numbers (`environments.action_flattening`). Keywords that it is made with stand behind
    the id (`environments.keywords`). With a `render_mode` it can be looked at, where it has that.

    Raises `UsageError` where the name is unknown, or where observations or actions cannot be made that. A name with a
    module before a colon is refused: Gymnasium would import that module, and a name may come from a stranger's file.
    """
    registered, keywords = parsed(name)
    if ":" in registered:
        module, _, known = name.partition(":")
        raise UsageError(
            f"environment {name!r} names a module to import; expected a registered id such as Pendulum-v1. Import "
            f"{module} first, then {known} is one; on the command line --environment imports what it names."
        )
    try:
        looks: dict[str, Any] = {} if render_mode is None else {"render_mode": render_mode}
        env = gymnasium.make(registered, **keywords, **looks)
    except Exception as error:
        if not (keywords or isinstance(error, CANNOT) or of_opengl(error)):  # a mistake of the environment's own
            raise
        reason = first_line(error)
        if isinstance(error, LookupError):  # whose words are the key alone
            reason = f"{type(error).__name__}: {reason}"
        advice = instead_of(registered, error, keywords)
        raise UsageError(f"environment {name!r} cannot be made ({reason}).{advice}") from None
    if env.spec is not None and registered not in gymnasium.registry:
        env.close()
        versioned = name.replace(registered, env.spec.id, 1)
        raise UsageError(
            f"environment {registered!r} is, today, the newest of several versions; expected {env.spec.id}, so that "
            f"data and runs say which. Where a run or data name it so: --environment {versioned}, or in Python "
            f'environment="{versioned}".'
        )
    try:
        if not is_array(env.observation_space):
            env = FlattenedObservations(env)
        return env if is_flat(env.action_space) else FlattenedActions(env)
    except UsageError as error:
        env.close()
        raise UsageError(f"{name}: {error}") from None


def environment_spec(name: str) -> EnvironmentSpec:
    """Ask Gymnasium for shapes, action range and time limit of `name`, which becomes the one of its names that files
    have (`keywords.canonical`). Raises `UsageError` for unusable spaces."""
    env, name = make_environment(name), canonical(name)
    try:
        observations, actions = env.observation_space, env.action_space
        assert isinstance(observations, spaces.Box)  # make_environment has seen to it
        horizon = env.spec.max_episode_steps if env.spec else None
        if isinstance(actions, spaces.Discrete):
            return EnvironmentSpec(
                name=name, observation_shape=observations.shape, action_dim=int(actions.n), action_low=None,
                action_high=None, num_actions=int(actions.n), horizon=horizon,
            )  # fmt: skip
        assert isinstance(actions, spaces.Box)
        if not actions.is_bounded():
            raise UsageError(f"{name}: {UNBOUNDED.format(actions)}")
        return EnvironmentSpec(
            name=name, observation_shape=observations.shape, action_dim=int(actions.shape[0]),
            action_low=tuple(map(float, actions.low)), action_high=tuple(map(float, actions.high)),
            num_actions=None, horizon=horizon,
        )  # fmt: skip
    finally:
        env.close()


def observation_range(name: str) -> tuple[float, float] | None:
    """Return the least and the largest number of the observations of `name`; None where it has no bounds. Raises as
    `make_environment`."""
    env = make_environment(name)
    space = env.observation_space
    env.close()
    if not isinstance(space, spaces.Box) or not space.is_bounded():
        return None
    return float(space.low.min()), float(space.high.max())


def stored_environment_spec(name: str | None) -> EnvironmentSpec | None:
    """Return the spec of an environment that a file names, None with a warning where it cannot be made here."""
    if not name:
        return None
    try:
        return environment_spec(name)
    except UsageError as error:
        warn_caller(f"{error} The data are used without it: no action range, no horizon, no evaluation.")
        return None


class GymnasiumLoop:
    """`num_envs` Gymnasium environments stepped one after another; those that have ended rest.

    What an environment does otherwise than Gymnasium has it, or a number that is not finite, is said in a sentence
    (`UsageError`, `DatasetError`); what it raises itself goes through, but up to its first step where it was made with
    keywords (`UsageError`).
    """

    def __init__(self, name: str, num_envs: int, render_mode: str | None = None):
        self.name = name
        self._keywords = {key: value for key, value in parsed(name)[1].items() if key != "max_episode_steps"}
        self._began = False
        self.environments: list[gymnasium.Env] = []
        self._close_at_last()
        self.environments += (make_environment(name, render_mode) for _ in range(num_envs))
        space = self.environments[0].observation_space
        self._shape, self._dtype = space.shape, space.dtype
        self._ended = np.zeros(num_envs, bool)
        self._observations: np.ndarray = np.zeros(0)

    def reset(self, seeds: Sequence[int]) -> np.ndarray:
        """Start each environment from its seed."""
        if self._began:
            return self._reset(seeds)
        with keywords_named(self.name, self._keywords, "reset"):
            return self._reset(seeds)

    def _reset(self, seeds: Sequence[int]) -> np.ndarray:
        self._ended[:] = False
        first = np.stack([self._first(env, int(s)) for env, s in zip(self.environments, seeds)])
        whole = first.dtype.kind in "iub" and np.issubdtype(self._dtype, np.floating)  # what follows need not be
        self._observations = first.astype(self._dtype) if whole else first
        self._check_finite("an observation holds", self._observations)
        return self._observations.copy()

    def _first(self, env: gymnasium.Env, seed: int) -> np.ndarray:
        try:
            answer = env.reset(seed=seed)
        except TypeError as error:
            if "'seed'" not in str(error):
                raise
            raise UsageError(f"{self.name}: reset takes no seed; expected reset(seed=..., options=...).") from error
        except ValueError as error:  # of a wrapper, which takes the answer apart
            if "values to unpack" not in str(error):
                raise
            raise UsageError(f"{self.name}: reset gave something else; expected (observation, info).") from error
        if not isinstance(answer, tuple) or len(answer) != 2:
            raise UsageError(f"{self.name}: reset gave {type(answer).__name__}; expected (observation, info).")
        return self._seen(answer[0])

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Step the environments that still run; the others repeat their last observation with reward 0."""
        if self._began:
            return self._step(actions)
        with keywords_named(self.name, self._keywords, "step"):
            found, self._began = self._step(actions), True
        return found

    def _step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        rewards = np.zeros(len(self.environments))
        terminations, truncations = np.zeros_like(self._ended), np.zeros_like(self._ended)
        for i in np.flatnonzero(~self._ended):
            try:
                observation, reward, terminations[i], truncated, _ = self.environments[i].step(actions[i])
            except ValueError as error:
                if "values to unpack" not in str(error):
                    raise
                raise UsageError(
                    f"{self.name}: step gave another number of values; expected observation, reward, terminated, "
                    "truncated, info, as Gymnasium's environments."
                ) from error
            truncations[i] = truncated and not terminations[i]  # what ended is not cut short as well
            self._observations[i] = self._seen(observation)
            rewards[i] = self._earned(reward)
        self._check_finite("an observation holds", self._observations)
        self._check_finite("a reward is", rewards)
        self._ended |= terminations | truncations
        return self._observations.copy(), rewards, terminations, truncations

    def _seen(self, observation: Any) -> Any:
        if np.shape(observation) != self._shape:
            raise UsageError(
                f"{self.name}: an observation of shape {np.shape(observation)}; expected {self._shape}, as its "
                "observation_space."
            )
        return observation

    def _earned(self, reward: Any) -> float:
        if isinstance(reward, float):
            return reward
        found = np.asarray(reward)
        if found.size != 1 or found.dtype.kind not in "fiub":
            raise UsageError(f"{self.name}: the reward {reward!r}; expected one number.")
        return float(found.reshape(()))

    def _check_finite(self, what: str, numbers: np.ndarray) -> None:
        if numbers.dtype.kind == "f" and not np.isfinite(numbers).all():
            raise DatasetError(
                f"{self.name}: {what} {numbers[~np.isfinite(numbers)][0]}; expected finite numbers. Mend the "
                "environment, or end the episode before."
            )

    def simulator_state(self) -> dict[str, np.ndarray]:
        """Nothing: Gymnasium has no common way to ask."""
        return {}

    def close(self) -> None:
        """Close every environment, once; one that cannot be closed is warned of."""
        self._end()

    def _close_at_last(self) -> None:
        """Have them closed where nobody does it: when nobody has this any more, or when Python ends."""
        self._end = weakref.finalize(self, _close, self.name, self.environments)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_end"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._close_at_last()


def _close(name: str, environments: Sequence[gymnasium.Env]) -> None:
    failed = []
    for env in environments:
        try:
            env.close()
        except Exception as error:
            failed.append(f"{type(error).__name__}: {error}")
    if failed:
        warn_caller(f"{name}: close failed ({failed[0]}).")


def make_environments(name: str, num_envs: int) -> Environments:
    """Make `num_envs` environments that step together: in one array where Foretell has the task so, else in a loop."""
    if name == "Pendulum-v1":
        return BatchedPendulum(num_envs)
    return GymnasiumLoop(name, num_envs)
