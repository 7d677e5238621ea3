"""Recording: many environments step together, and whole episodes come out, one behind the other, in a fixed order."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from foretell.core.errors import UsageError
from foretell.core.numbers import as_float32
from foretell.core.progress import Progress, silent
from foretell.core.seeding import stream
from foretell.datasets.d4rl_writer import D4RLWriter, layout_of
from foretell.datasets.metadata import DatasetMetadata
from foretell.environments.making import Environments, environment_spec, make_environments

NUM_ENVS = 1000
"""Environments that step together: enough to hide the cost of a Python step where they are one array."""
NUM_LOOPED_ENVS = 16
"""The same where they are stepped one after another."""

Columns = dict[str, np.ndarray]
ObservationTransform = Callable[[np.ndarray], np.ndarray]
"""`(n, *observation_shape)` -> `(n, *recorded_shape)`, for example frames drawn from states."""


class BehaviourPolicy(Protocol):
    """Whoever acts while we record."""

    def act(self, observations: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray | None]:
        """Return actions for `(n, *observation_shape)` observations, and their log-probabilities `(n,)` float32.

        Actions are in the environment's own units, `(n, action_dim)` float32, or `(n,)` integers. Log-probabilities
        are None, at every timestep, where they are not known.
        """
        ...


@runtime_checkable
class RememberingPolicy(BehaviourPolicy, Protocol):
    """One that acts on more than the newest observation."""

    def begin(self, num_envs: int) -> None:
        """Begin an episode in each of so many environments; those before are over."""
        ...

    def observe(self, rewards: np.ndarray) -> None:
        """Take note of the rewards that followed; of an environment that has ended they are 0."""
        ...


def record(
    policy: BehaviourPolicy, environment: str, path: str | Path, *, num_steps: int, seed: int,
    metadata: DatasetMetadata, num_envs: int | None = None, observation_transform: ObservationTransform | None = None,
    most_timesteps: int | None = None, progress: Progress = silent,
) -> None:  # fmt: skip
    """Record exactly `num_steps` timesteps of `policy` to a D4RL file, whole or not at all.

    Start states come from the stream "collection-starts" of `seed`, actions from "collection-actions": the same seed
    (and `num_envs`) gives the same bytes. `progress` receives timesteps and `mean_return` of the episodes so far.
    """
    blocks = record_blocks(
        policy,
        environment,
        num_steps=num_steps,
        seed=seed,
        num_envs=num_envs,
        observation_transform=observation_transform,
        most_timesteps=most_timesteps,
    )
    write_blocks(path, blocks, num_steps=num_steps, metadata=metadata, progress=progress)


def write_blocks(
    path: str | Path, blocks: Generator[Columns], *, num_steps: int, metadata: DatasetMetadata, progress: Progress
) -> None:
    """Write blocks of whole episodes, `num_steps` timesteps in all, as a D4RL file; `progress` as of `record`."""
    done = episodes = 0
    total = 0.0
    with contextlib.closing(blocks):
        block = next(blocks)
        with D4RLWriter(path, num_steps=num_steps, layout=layout_of(block), metadata=metadata) as writer:
            while block is not None:
                writer.append(block)
                done += len(block["rewards"])
                episodes += int(np.count_nonzero(block["terminations"] | block["truncations"]))
                total += float(block["rewards"].sum(dtype=np.float64))
                progress(done, num_steps, mean_return=total / episodes)
                block = next(blocks, None)


def record_blocks(
    policy: BehaviourPolicy, environment: str, *, num_steps: int, seed: int, num_envs: int | None = None,
    observation_transform: ObservationTransform | None = None, most_timesteps: int | None = None,
) -> Generator[Columns]:  # fmt: skip
    """Yield blocks of whole episodes, `num_steps` timesteps in all; columns as `D4RLWriter` takes them.

    Every batch of episodes starts together, each from its own start state, and each is recorded up to its own end; the
    order is that of the start states. Where `num_steps` cuts the last episode, it ends there in a truncation; so does
    one that has not ended after `most_timesteps`, for which the policy can act.
    `observation_transform` changes what is recorded, not what the policy sees. `infos/qpos` and `infos/qvel`, where the
    simulator tells them, belong to the observation of the same row. Raises `UsageError` where `num_steps` is below 1.
    """
    if num_steps < 1:
        raise UsageError(f"{num_steps} timesteps to record; expected at least 1.")
    horizon = environment_spec(environment).horizon
    together = num_envs or (NUM_ENVS if environment == "Pendulum-v1" else NUM_LOOPED_ENVS)
    starts, rng = stream(seed, "collection-starts"), stream(seed, "collection-actions")
    environments: Environments | None = None
    width = steps = episodes = 0
    try:
        while steps < num_steps:
            typical = steps / episodes if episodes else horizon or 1
            wanted = min(together, math.ceil((num_steps - steps) / typical))
            if environments is None or wanted != width:
                if environments is not None:
                    environments.close()
                environments, width = make_environments(environment, wanted), wanted
            seeds = starts.integers(2**31 - 1, size=width).tolist()
            left = num_steps - steps
            most = min(left, most_timesteps or left)
            block = _cut(_batch(policy, environments, seeds, rng, observation_transform, most), left)
            steps += len(block["rewards"])
            episodes += int(np.count_nonzero(block["terminations"] | block["truncations"]))
            yield block
    finally:
        if environments is not None:
            environments.close()


def _batch(
    policy: BehaviourPolicy, environments: Environments, seeds: list[int], rng: np.random.Generator,
    transform: ObservationTransform | None, most: int,
) -> Columns:  # fmt: skip
    """One episode from each seed, in the order of the seeds; those that go on after `most` timesteps end there."""
    observations = environments.reset(seeds)
    recorded = [_recorded(observations, transform)]
    running = np.ones(len(seeds), bool)
    remembering = policy if isinstance(policy, RememberingPolicy) else None
    if remembering:
        remembering.begin(len(seeds))
    steps: list[Columns] = []
    while running.any() and len(steps) < most:
        state = environments.simulator_state()
        actions, log_probs = policy.act(observations, rng)
        observations, rewards, terminations, truncations = environments.step(actions)
        if remembering:
            remembering.observe(rewards)
        recorded.append(_recorded(observations, transform))
        steps.append(
            {
                "actions": actions, "rewards": as_float32(np.asarray(rewards)), "terminations": terminations,
                "truncations": truncations, "running": running.copy(),
                **({} if log_probs is None else {"infos/action_log_probs": log_probs}),
                **{f"infos/{name}": values for name, values in state.items()},
            }
        )  # fmt: skip
        running &= ~(terminations | truncations)
    steps[-1]["truncations"] = steps[-1]["truncations"] | running
    kept = np.stack([step.pop("running") for step in steps], axis=1)
    columns = {name: _rows(np.stack([step[name] for step in steps], axis=1), kept) for name in steps[0]}
    seen = np.stack(recorded, axis=1)  # laid out once for both: of all that is done here it takes longest
    columns["observations"] = _rows(seen[:, :-1], kept)
    columns["next_observations"] = _rows(seen[:, 1:], kept)
    return columns


def _recorded(observations: np.ndarray, transform: ObservationTransform | None) -> np.ndarray:
    values = observations if transform is None else transform(observations)
    return values if values.dtype == np.uint8 else as_float32(values)


def _rows(by_episode: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Lay `(num_envs, time, ...)` out as rows, keeping the timesteps that were still running."""
    if kept.all():
        return by_episode.reshape(-1, *by_episode.shape[2:])
    return by_episode[kept]


def _cut(block: Columns, most: int) -> Columns:
    """Return the first `most` timesteps; an episode cut by that ends in a truncation."""
    block = {name: values[:most] for name, values in block.items()}
    if not block["terminations"][-1]:
        block["truncations"][-1] = True
    return block
