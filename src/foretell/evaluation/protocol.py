"""The evaluation protocol: fixed, shared start states; every episode counted once, whole; deterministic acting."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float, Int

from foretell.core.decimals import counted
from foretell.core.errors import UsageError
from foretell.core.progress import Progress, silent
from foretell.core.seeding import derive_seeds
from foretell.core.settings import whole
from foretell.core.stepping import Rewards, TargetReturn, Where, as_read
from foretell.core.warning import warn_caller
from foretell.environments.making import Environments, EnvironmentSpec, environment_spec, make_environments

EVALUATION_STARTS = 200
"""As in the report's Table II."""
VALIDATION_STARTS = 50
"""For learning curves and choices; never the evaluation starts."""
MOST_EPISODES = 1_000_000
"""Starts that anyone may ask for: all episodes are under way at once, each in an environment of its own."""
NO_HORIZON_LIMIT = 100_000
"""Timesteps after which an episode of an environment without a time limit is given up."""


class Policy(Protocol):
    """Anything that acts in several environments at once, in the environment's own units."""

    def reset(self, num_envs: int, target_return: TargetReturn = None, where: Where | None = None) -> None:
        """Start new episodes, in all environments or in some that act already (`where`, one bool for each)."""
        ...

    def act(self, observations: np.ndarray) -> np.ndarray:
        """Return one action for each environment."""
        ...

    def observe(self, rewards: Rewards) -> None:
        """Take note of the rewards that followed.

        A policy that remembers its actions may take `actions` as well, `observe(rewards, actions=None)`: those that the
        environment took, where others than its own were (`foretell.collect_policy` with noise).
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What was earned from each start: undiscounted returns (reward units) and lengths (timesteps)."""

    starts: tuple[int, ...]
    returns: Float[np.ndarray, " episodes"]
    lengths: Int[np.ndarray, " episodes"]

    @property
    def mean_return(self) -> float:
        """Mean over episodes."""
        return float(self.returns.mean())

    @classmethod
    def of(cls, parts: Sequence[Outcome]) -> Outcome:
        """Return that of all the episodes of several, in their order."""
        return cls(
            starts=tuple(itertools.chain.from_iterable(part.starts for part in parts)),
            returns=np.concatenate([part.returns for part in parts]),
            lengths=np.concatenate([part.lengths for part in parts]),
        )

    def part(self, first: int, count: int) -> Outcome:
        """Return that of `count` episodes from number `first` on."""
        some = slice(first, first + count)
        return Outcome(starts=self.starts[some], returns=self.returns[some], lengths=self.lengths[some])


def evaluation_starts(root_seed: int, count: int = EVALUATION_STARTS) -> list[int]:
    """Return the reset seeds of the shared start states; fewer are the first of more, so that all stay paired."""
    return _starts(root_seed, "evaluation-starts", count)


def validation_starts(root_seed: int, count: int = VALIDATION_STARTS) -> list[int]:
    """Return reset seeds of a list independent of the evaluation starts."""
    return _starts(root_seed, "validation-starts", count)


def _starts(root_seed: int, name: str, count: int) -> list[int]:
    count = whole("episodes", count)
    if not 1 <= count <= MOST_EPISODES:
        raise UsageError(f"{count} episodes; expected at least 1, and at most {MOST_EPISODES:,}.")
    return derive_seeds(root_seed, name, count)


def evaluate(
    policy: Policy,
    environment: str,
    starts: Sequence[int],
    *,
    target_return: TargetReturn = None,
    progress: Progress = silent,
) -> Outcome:
    """Run one whole episode from each start, all at once, and return what each earned.

    An episode counts until its own end, however long the others take; what happens to it afterwards is ignored. In an
    environment without a time limit it counts, with a warning, for as long as the policy can act (`most_timesteps`,
    where it has one).
    """
    spec = environment_spec(environment)
    with contextlib.closing(make_environments(environment, len(starts))) as environments:
        returns, lengths = _episodes(policy, spec, environments, starts, target_return, progress)
    return Outcome(starts=tuple(starts), returns=returns, lengths=lengths)


def _episodes(
    policy: Policy, spec: EnvironmentSpec, environments: Environments, starts: Sequence[int],
    target_return: TargetReturn, progress: Progress,
) -> tuple[Float[np.ndarray, " episodes"], Int[np.ndarray, " episodes"]]:  # fmt: skip
    """Return what each episode earned, and how many timesteps it took."""
    count, horizon = len(starts), spec.horizon
    shape = (count,) if spec.num_actions is not None else (count, spec.action_dim)
    known = horizon or getattr(policy, "most_timesteps", None)
    observations = environments.reset(starts)
    policy.reset(count, target_return)
    returns, lengths, running = np.zeros(count), np.zeros(count, np.int64), np.ones(count, bool)
    timestep = 0
    while running.any() and not given_up(policy, spec, timestep, running=int(running.sum()), count=count):
        actions = checked_actions(policy.act(observations), shape, spec.num_actions)
        observations, rewards, terminations, truncations = environments.step(actions)
        policy.observe(rewards)
        returns += np.where(running, rewards, 0.0)
        lengths += running
        running &= ~(terminations | truncations)
        timestep += 1
        progress(timestep, known or timestep + bool(running.any()), running=int(running.sum()))
    return returns, lengths


def given_up(policy: Policy, spec: EnvironmentSpec, timestep: int, *, running: int, count: int) -> bool:
    """Say, with a warning, that of `count` episodes those still `running` after so many timesteps are not followed
    further: of an environment without a time limit, where the policy can act no longer (its `most_timesteps`).

    Raises `UsageError` where it can, and they seem never to end.
    """
    if spec.horizon is not None:
        return False
    able = getattr(policy, "most_timesteps", None)
    who = "its episode" if count == 1 else f"{running:,} of {count:,} episodes"
    found = f"{spec.name} has no time limit, and {who} had not ended after {counted(timestep, 'timestep')}"
    if timestep == able:
        warn_caller(
            f"{found}, which is as long as the policy was trained for: returns are those up to there. Train and "
            f"evaluate it as {spec.name},max_episode_steps=N."
        )
        return True
    if able is None and timestep == NO_HORIZON_LIMIT:
        raise UsageError(f"{found}. Name a limit: {spec.name},max_episode_steps=N.")
    return False


def checked_actions(actions: Any, shape: tuple[int, ...], num_actions: int | None) -> np.ndarray:
    """Return what a policy does as an array. Raises `UsageError` for what NumPy would stretch, and for no actions."""
    found = as_read("actions of act", actions)
    if found.shape != shape:
        parts = found.ndim > 1 and found.shape[1:] != (1,)
        hint = " Of actions of several parts, foretell.FlattenedActions(env).flattened(actions) makes these." * parts
        raise UsageError(f"act gave actions of shape {found.shape}; expected {shape}, one for each environment.{hint}")
    if found.dtype.kind not in ("iu" if num_actions else "iuf"):
        kind = f"whole numbers, 0 to {num_actions - 1}" if num_actions else "numbers"
        raise UsageError(f"act gave actions of type {found.dtype}; expected {kind}.")
    if num_actions and (found.min() < 0 or found.max() >= num_actions):
        raise UsageError(f"act gave {found.min()} to {found.max()}; expected whole numbers, 0 to {num_actions - 1}.")
    if found.dtype.kind == "f" and not np.isfinite(found).all():
        raise UsageError(f"act gave {found[~np.isfinite(found)][0]}; expected finite numbers.")
    return found
