"""Recording what a finished run does, or a policy of one's own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from foretell.collection.recipes import collect_with_policy
from foretell.core.errors import CheckpointError, UsageError
from foretell.core.files import sha256_of
from foretell.core.progress import Progress, silent
from foretell.core.settings import check_kinds, check_progress, number, path_of, seed_of, whole
from foretell.core.stepping import LARGEST, TargetReturn
from foretell.core.versions import versions
from foretell.core.warning import warn_caller
from foretell.datasets.d4rl_writer import check_name
from foretell.datasets.dataset import Dataset
from foretell.datasets.doctor_values import RANGE_TOLERANCE
from foretell.datasets.metadata import DatasetMetadata
from foretell.environments.making import EnvironmentSpec, environment_spec
from foretell.evaluation.own_policy import own_policy
from foretell.evaluation.protocol import Policy, checked_actions
from foretell.facade.evaluation import checked_targets
from foretell.facade.subjects import NAMED, Subject, subjects
from foretell.sequences.defaults import usual_defaults


@usual_defaults
def collect_policy(
    run: str | Path | Policy | Callable[[np.ndarray], Any],
    path: str | Path,
    *,
    num_steps: int,
    environment: str | None = None,
    target_returns: TargetReturn = None,
    noise: float = 0.0,
    acting: Mapping[str, Any] | None = None,
    name: str | None = None,
    seed: int = 0,
    num_envs: int | None = None,
    progress: Progress = silent,
) -> Dataset:
    """Record what a finished run does, or a policy of your own; return the dataset.

    `run`, `environment`, `acting` and `name` are those of `foretell.evaluate`: a run folder, or "optimum" with
    `environment`; an object with `reset`, `act` and `observe` (`foretell.Policy`), a function from observations
    `(num_envs, ...)` to actions, or an agent of Stable-Baselines3, with `environment` and `name`. `num_steps` timesteps
    go to the file `path` in D4RL's form, whole episodes but for the last. Start states and noise follow from `seed`,
    and from `num_envs`, how many environments step together (default: many of Pendulum-v1, 16 of others).

    `target_returns` is what the run is asked for (reward units, or quantiles of the advantage from 0 to 1); of several,
    episodes ask for one after the other, in turn. None asks by the run's own rule. `noise` is added to every action:
    normal, of so many times half the action range; of choices it is the share of timesteps at which one is drawn
    uniformly. Numbers beyond the action range are clipped to it, with a warning where the policy gave them. Where other
    actions were taken than its own, the policy is told which, by `observe(rewards, actions)`.

    Raises `UsageError` where run and environment do not fit, the file is there already, and where with noise a policy
    of your own is not told what was taken; `CheckpointError` where the run is not finished, `ResourceError` where the
    file cannot be written.
    """
    check_kinds(name=(name, str))
    check_progress(progress)
    num_steps, seed, path = whole("num_steps", num_steps), seed_of("seed", seed), path_of("path", path)
    check_name(path)
    noise = number("noise", noise)
    subject = _only(run, environment, acting, name)
    spec = environment_spec(subject.environment)
    choices = spec.num_actions is not None
    if not 0 <= noise <= (1.0 if choices else LARGEST):
        raise UsageError(
            f"noise is {noise:g}; expected {'0 to 1, the share of actions that are drawn' if choices else '0 or more'}."
        )
    targets = None if target_returns is None else checked_targets(target_returns, subject.config)
    recorded = _Recorded(subject.policy, spec, targets, noise)
    return collect_with_policy(
        recorded, _metadata(subject, _weights(run), targets, noise, acting), num_steps=num_steps, seed=seed, path=path,
        num_envs=num_envs, most_timesteps=_limit(subject, spec), progress=progress,
    )  # fmt: skip


def _only(run: Any, environment: str | None, acting: Mapping[str, Any] | None, name: str | None) -> Subject:
    """Return the one who acts. Raises `UsageError` for uniform actions, `CheckpointError` for runs of several seeds."""
    if str(run) == "random":
        raise UsageError(
            "random: uniform actions are what foretell.collect_random records (`foretell collect random`)."
        )
    found = subjects(run, environment=environment, acting=acting, name=name, seed=None, root_seed=0)
    if len(found) > 1:
        raise CheckpointError(f"{run}: holds runs of several seeds; expected one of them, {run}/seed-0 for example.")
    return found[0]()


def _weights(run: Any) -> str | None:
    """Return the fingerprint of a run's weights; None of a policy that is no run."""
    if own_policy(run) is not None or str(run) in NAMED:
        return None
    return sha256_of(Path(run) / "model.safetensors")


def _limit(subject: Subject, spec: EnvironmentSpec) -> int | None:
    """Return after how many timesteps an episode is left, as in an evaluation: None where the environment says it."""
    most = getattr(subject.policy, "most_timesteps", None)
    if spec.horizon is not None or most is None:
        return None
    warn_caller(
        f"{spec.name} has no time limit: an episode that has not ended after {most:,} timesteps, which is as long as "
        "the run was trained for, is truncated there."
    )
    return most


def _metadata(
    subject: Subject, weights: str | None, targets: list[float] | None, noise: float,
    acting: Mapping[str, Any] | None,
) -> DatasetMetadata:  # fmt: skip
    facts, told = subject.facts, ""
    who, of_run = facts["policy"], dict[str, Any]()
    if weights is not None:
        who = f"a run of {facts['algorithm']}" + (f" on {facts['dataset']}" if facts["dataset"] else "")
        of_run = {"training_seed": facts["seed"], "weights": weights, "data": facts["data"]}
    if targets:
        told = f", asked for {', '.join(f'{target:g}' for target in targets)}{' in turn' * (len(targets) > 1)}"
    return DatasetMetadata(
        environment=subject.environment,
        algorithm=facts["policy"] if weights is None else facts["algorithm"],
        hyperparameters={
            **of_run, "noise": noise, **({"target_returns": targets} if targets else {}),
            **({"acting": dict(acting)} if acting else {}),
        },
        versions=versions("torch") if of_run else versions(),
        reference_scores=_reference_scores(subject),
        description=f"Recorded by {who}{told}{f', with noise of {noise:g}' if noise else ''}.",
    )  # fmt: skip


def _reference_scores(subject: Subject) -> tuple[float, float] | None:
    """Return those of the data that a run learned from, where it is recorded in their environment."""
    config = subject.config
    ends = (config.get("dataset") or {}).get("reference_scores")
    there = (config.get("environment") or {}).get("name") == subject.environment
    return tuple(ends) if ends and there else None


def _takes_actions(observe: Callable[..., Any]) -> bool:
    """Whether a policy can be told which actions were taken: by name, or among any keywords."""
    try:
        inspect.signature(observe).bind(None, actions=None)
    except (TypeError, ValueError):  # ValueError: of what is not written in Python nobody can say
        return False
    return True


class _Recorded:
    """A policy as what acts while we record: `collection.recorder.RememberingPolicy`."""

    def __init__(self, policy: Policy, spec: EnvironmentSpec, targets: list[float] | None, noise: float):
        self.policy, self.spec, self.noise = policy, spec, noise
        self._targets, self._episodes = targets, 0
        self._taken: np.ndarray | None = None
        """What was taken last, where that may be other than what the policy said; else None."""
        self._told, self._beyond = _takes_actions(policy.observe), False
        if noise and not self._told:
            raise UsageError(
                "noise changes what the policy does, and its observe(rewards) is not told; expected "
                "observe(rewards, actions), with the actions that were taken."
            )

    def begin(self, num_envs: int) -> None:
        """Ask each episode for the next of the targets."""
        asked = None
        if self._targets:
            turns = np.arange(self._episodes, self._episodes + num_envs) % len(self._targets)
            asked = np.asarray(self._targets)[turns]
        self._episodes += num_envs
        self.policy.reset(num_envs, asked)

    def act(self, observations: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, None]:
        """Return what the policy does, with the noise."""
        count, choices = len(observations), self.spec.num_actions
        shape = (count,) if choices is not None else (count, self.spec.action_dim)
        said = checked_actions(self.policy.act(observations), shape, choices)
        said = said.astype(np.int64 if choices is not None else np.float32)
        taken = self._chosen(said, choices, rng) if choices is not None else self._within(said, rng)
        self._taken = taken if self.noise or not np.array_equal(taken, said) else None
        return taken, None

    def _chosen(self, said: np.ndarray, choices: int, rng: np.random.Generator) -> np.ndarray:
        if not self.noise:
            return said
        drawn = rng.integers(choices, size=said.shape)
        return np.where(rng.random(said.shape) < self.noise, drawn, said)

    def _within(self, said: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return numbers with the noise, within the range; warn once of a policy that leaves it."""
        low, high = np.asarray(self.spec.action_low, np.float32), np.asarray(self.spec.action_high, np.float32)
        room = RANGE_TOLERANCE * (high - low)
        beyond = (said < low - room) | (said > high + room)
        if beyond.any() and not self._beyond:
            self._beyond, (_, component) = True, np.argwhere(beyond)[0]
            warn_caller(
                f"act gave {said[beyond][0]:g}; {self.spec.name} takes {low[component]:g} to {high[component]:g}. "
                "Actions beyond are clipped, in the environment and in the file."
            )
        if not self.noise:
            return np.clip(said, low, high)
        drawn = rng.standard_normal(said.shape, np.float32)
        return np.clip(said + np.float32(self.noise) * (high - low) / 2 * drawn, low, high)

    def observe(self, rewards: np.ndarray) -> None:
        """Pass on what was earned, and what was done where that is not what the policy said."""
        if self._told and self._taken is not None:
            self.policy.observe(rewards, actions=self._taken)  # type: ignore[call-arg]  # __init__ has seen to it
        else:
            self.policy.observe(rewards)
