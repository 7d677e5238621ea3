"""Recipes for datasets: who acted, for how long, and what the card says about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from foretell.agents.random_policy import RandomPolicy
from foretell.collection.recorder import BehaviourPolicy, ObservationTransform, record
from foretell.core.decimals import counted
from foretell.core.errors import DatasetError, UsageError
from foretell.core.files import refuse_to_overwrite
from foretell.core.progress import Progress, silent
from foretell.core.settings import check_callable, check_progress, path_of, seed_of, whole
from foretell.core.stepping import checked_count
from foretell.core.versions import versions
from foretell.datasets.d4rl import read_d4rl
from foretell.datasets.d4rl_writer import check_name, write_dataset
from foretell.datasets.dataset import Dataset
from foretell.datasets.fingerprint import unchanged
from foretell.datasets.metadata import DatasetMetadata
from foretell.environments.making import environment_spec


def collect_random(
    environment: str, num_steps: int, seed: int, path: str | Path, progress: Progress = silent,
    observation_transform: ObservationTransform | None = None, num_envs: int | None = None,
) -> Dataset:  # fmt: skip
    """Record `num_steps` timesteps of uniformly random actions in `environment`; return the dataset, opened.

    It goes to the file `path` in D4RL's form, whole episodes but for the last; start states and actions follow from
    `seed`, and from `num_envs`, how many environments step together (default: many of Pendulum-v1, 16 of others).
    `progress` is called with timesteps done and to do. `observation_transform` makes the observations that are
    recorded from those that the environment gives, `(num_envs, *observation_shape)` each.
    A file that is there already stays: it is returned where it says that it is this very recording, by these versions.
    Raises `UsageError` where it is anything else, where `path` is no name of a dataset, and where an environment does
    otherwise than Gymnasium's; `DatasetError` where what it gives is not finite.
    """
    num_steps, seed, path = whole("num_steps", num_steps), seed_of("seed", seed), path_of("path", path)
    check_progress(progress)
    if observation_transform is not None:
        check_callable(observation_transform=observation_transform)
    spec = environment_spec(environment)
    metadata = DatasetMetadata(
        environment=spec.name, algorithm="random", seed=seed, versions=versions(),
        description="Actions drawn uniformly from everything that the environment accepts.",
        hyperparameters=_of_num_envs(num_envs),
    )  # fmt: skip
    check_name(path)
    if path.exists() and observation_transform is None:
        there = read_d4rl(path)
        if (there.metadata, there.num_steps) == (metadata, num_steps):
            return there
    refuse_to_overwrite(path)
    record(
        RandomPolicy(spec), environment, path, num_steps=num_steps, seed=seed, metadata=metadata, progress=progress,
        observation_transform=observation_transform, num_envs=num_envs,
    )  # fmt: skip
    return read_d4rl(path)


def collect_with_policy(
    policy: BehaviourPolicy, metadata: DatasetMetadata, *, num_steps: int, seed: int, path: str | Path,
    policy_weights: Mapping[str, np.ndarray] | None = None, num_envs: int | None = None,
    most_timesteps: int | None = None, progress: Progress = silent,
) -> Dataset:  # fmt: skip
    """Record `num_steps` timesteps of a trained agent in `metadata.environment`; return the dataset, opened.

    `policy_weights` by tensor name are kept, as float32, under `metadata/policy/`. No episode is followed beyond
    `most_timesteps`. The seed and the versions of this
    recording replace those of `metadata`. Raises `UsageError` where the metadata name no environment, or the file is
    there already.
    """
    check_name(path)
    refuse_to_overwrite(path)
    num_steps = whole("num_steps", num_steps)
    if metadata.environment is None:
        raise UsageError("metadata name no environment to record in; expected an id such as Pendulum-v1.")
    hyperparameters = {**metadata.hyperparameters, **_of_num_envs(num_envs)}
    weights = {f"policy/{name}": np.asarray(v, np.float32) for name, v in (policy_weights or {}).items()}
    environment = metadata.environment
    metadata = replace(
        metadata, seed=seed, hyperparameters=hyperparameters, versions={**metadata.versions, **versions()},
        extra={**metadata.extra, **weights},
    )  # fmt: skip
    record(
        policy, environment, path, num_steps=num_steps, seed=seed, metadata=metadata, num_envs=num_envs,
        most_timesteps=most_timesteps, progress=progress,
    )  # fmt: skip
    return read_d4rl(path)


def _of_num_envs(num_envs: int | None) -> dict[str, int]:
    """Return what a file says of how many environments stepped together, which its numbers follow from; usual: nothing.

    Raises `UsageError` where it is no whole number of 1 or more.
    """
    return {} if num_envs is None else {"num_envs": checked_count(num_envs)}


def collect_replay(
    replay_path: str | Path, *, path: str | Path, num_steps: int | None = None, keep: Literal["last", "first"] = "last"
) -> Dataset:
    """Write `num_steps` timesteps (all if None) of a run's recorded replay as a dataset of their own.

    `keep` "last": what a ring buffer of that capacity holds when training ends; "first": what it held when that many
    steps were taken. The description says which. Raises `DatasetError` where the replay is shorter or not as it was
    written, `UsageError` where the file is there already.
    """
    check_name(path)
    refuse_to_overwrite(path)
    replay = unchanged(read_d4rl(replay_path))
    if num_steps is not None:
        total = replay.num_steps
        if num_steps > total:
            raise DatasetError(f"{replay_path}: {num_steps} timesteps were asked for; expected some of the {total}.")
        start = total - num_steps if keep == "last" else 0
        replay = replay.section(start, start + num_steps)
        description = (
            f"{replay.metadata.description} Of these, steps {start + 1:,} to {start + num_steps:,} of {total:,}: "
            + (
                f"a ring buffer of {counted(num_steps, 'step')} at the end of training."
                if keep == "last"
                else "the first."
            )
        )
        replay = replace(replay, metadata=replace(replay.metadata, description=description))
    write_dataset(path, replay)
    return read_d4rl(path)
