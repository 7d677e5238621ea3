"""Imagination: the dynamics are learned from few recorded timesteps, and many more are made up with them."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import asdict
from pathlib import Path

import numpy as np

from foretell.agents.random_policy import RandomPolicy
from foretell.collection.recorder import Columns, write_blocks
from foretell.core.errors import DatasetError, UsageError
from foretell.core.files import refuse_to_overwrite
from foretell.core.progress import Progress, silent
from foretell.core.seeding import stream
from foretell.core.versions import versions
from foretell.datasets.d4rl import read_d4rl
from foretell.datasets.dataset import Dataset
from foretell.datasets.fingerprint import unchanged
from foretell.datasets.metadata import IMAGINED_FROM, DatasetMetadata
from foretell.datasets.recorded_environment import spec_of_data
from foretell.environments.making import EnvironmentSpec, stored_environment_spec
from foretell.values.configs import DynamicsConfig
from foretell.values.dynamics import DynamicsEnsemble

TOGETHER = 500
"""Episodes that are imagined at the same time."""


def imagine(
    dataset: Dataset, *, num_steps: int, seed: int, path: str | Path, config: DynamicsConfig | None = None,
    progress: Progress = silent,
) -> Dataset:  # fmt: skip
    """Write `num_steps` imagined timesteps as a dataset; return it, opened. The same arguments give the same bytes.

    The worlds (`DynamicsEnsemble`) are learned from `dataset` alone. Every episode starts at a recorded observation,
    takes uniformly random actions from the environment's range (the data's where no environment is named), in one
    world from its first to its last timestep. It ends in a termination where that world says so, else in a
    truncation: at the horizon, or before a step that the data do not support, which is not recorded. `progress`
    receives timesteps, while learning 0 with the `evidence`, then with the `mean_return` of the newest episodes.

    Raises `UsageError` for images, for `num_steps` below 1 and where the file is there already, `DatasetError` where
    the data do not say enough or are not as they were written, `DivergedError` where numbers stop being finite.
    """
    config = config or DynamicsConfig()
    if num_steps < 1:
        raise UsageError(f"{num_steps} timesteps to imagine; expected at least 1.")
    refuse_to_overwrite(path)
    spec = stored_environment_spec(unchanged(dataset).metadata.environment) or spec_of_data(dataset)
    ensemble = DynamicsEnsemble(
        dataset, config, seed=seed, num_actions=spec.num_actions,
        progress=lambda done, total, **found: progress(0, num_steps, learned=done / total, **found),
    )  # fmt: skip
    metadata = DatasetMetadata(
        environment=dataset.metadata.environment, algorithm="imagined", seed=seed, versions=versions("torch"),
        reference_scores=dataset.metadata.reference_scores,
        hyperparameters={IMAGINED_FROM: dataset.fingerprint(), **asdict(config)},
        description=f"Imagined with dynamics learned from {dataset.num_steps:,} timesteps of {dataset.name} "
        f"(fingerprint {dataset.fingerprint()}): uniformly random actions from recorded observations on. Nothing of "
        "it happened.",
    )  # fmt: skip
    horizon = config.horizon or spec.horizon or int(dataset.episode_lengths.max())
    blocks = _blocks(ensemble, dataset, spec, num_steps, horizon, seed)
    write_blocks(path, blocks, num_steps=num_steps, metadata=metadata, progress=progress)
    return read_d4rl(path)


def _blocks(
    ensemble: DynamicsEnsemble, dataset: Dataset, spec: EnvironmentSpec, num_steps: int, horizon: int, seed: int
) -> Generator[Columns]:
    """Yield blocks of whole episodes, `num_steps` timesteps in all."""
    rng, actor, done = stream(seed, "imagination"), RandomPolicy(spec), 0
    while done < num_steps:
        starts = dataset.observations[np.sort(rng.integers(dataset.num_steps, size=TOGETHER))]
        block = _episodes(ensemble, actor, rng.permutation(starts), horizon, rng)
        if len(block["rewards"]) == 0:
            raise DatasetError(
                f"{dataset.name}: at none of {TOGETHER} recorded observations do the imagined worlds agree to "
                f"{ensemble.config.max_disagreement:g} deviations of a step. Record more, or raise max_disagreement."
            )
        block = {name: values[: num_steps - done] for name, values in block.items()}
        if not block["terminations"][-1]:
            block["truncations"][-1] = True
        done += len(block["rewards"])
        yield block


def _episodes(
    ensemble: DynamicsEnsemble, actor: RandomPolicy, starts: np.ndarray, horizon: int, rng: np.random.Generator
) -> Columns:
    """One episode from each start, one behind the other; those that fail at once leave nothing."""
    config, count = ensemble.config, len(starts)
    worlds, running = rng.integers(config.members, size=count), np.arange(count)
    observations = np.array(starts, np.float32)
    steps: list[Columns] = []
    for _ in range(horizon):
        actions, log_probs = actor.act(observations, rng)
        found = ensemble.predict(observations, actions, worlds[running])
        following, ended = found.next_observations, found.terminations
        penalty = config.pessimism * ensemble.reward_deviation * found.disagreement
        kept = (found.disagreement <= config.max_disagreement) & ensemble.supports(following)
        columns = {
            "episode": running, "observations": observations, "actions": actions, "next_observations": following,
            "rewards": (found.rewards - penalty).astype(np.float32), "terminations": ended,
            "infos/action_log_probs": log_probs,
        }  # fmt: skip
        steps.append({name: values[kept] for name, values in columns.items()})
        going = kept & ~ended
        running, observations = running[going], following[going]
        if len(running) == 0:
            break
    return _by_episode({name: np.concatenate([step[name] for step in steps]) for name in steps[0]})


def _by_episode(columns: Columns) -> Columns:
    """Timestep by timestep to episode by episode; every last timestep that does not terminate is a truncation."""
    episodes = columns.pop("episode")
    order = np.argsort(episodes, kind="stable")
    columns = {name: values[order] for name, values in columns.items()}
    last = np.append(np.diff(episodes[order]) != 0, True)[: len(order)]
    return columns | {"truncations": last & ~columns["terminations"]}
