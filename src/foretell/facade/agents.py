"""Agents: training one online, and recording one, or a learned world, as a dataset."""

from __future__ import annotations

from pathlib import Path

from foretell.agents.configs import SACConfig
from foretell.agents.policy import SACPolicy
from foretell.collection.imagination import imagine
from foretell.collection.recipes import collect_with_policy
from foretell.core.decimals import counted
from foretell.core.errors import UsageError
from foretell.core.memory import memory_errors
from foretell.core.progress import Progress, silent
from foretell.core.settings import check_kinds, check_progress, path_of, seed_of, whole
from foretell.datasets.d4rl_writer import check_name
from foretell.datasets.dataset import Dataset
from foretell.datasets.metadata import DatasetMetadata
from foretell.datasets.registry import open_dataset
from foretell.environments.making import environment_spec
from foretell.evaluation.policies import AgentPolicy, restore_sac
from foretell.evaluation.protocol import VALIDATION_STARTS, validation_starts
from foretell.evaluation.protocol import evaluate as run_episodes
from foretell.facade.environments import warn_of_endless_episodes
from foretell.facade.interrupts import saved_when_interrupted
from foretell.facade.training import ROOT_SEED
from foretell.sequences.defaults import usual_defaults
from foretell.training.run_folder import load_run
from foretell.training.sac import train_sac as _train_sac
from foretell.values.configs import DynamicsConfig


@usual_defaults
@memory_errors()
def train_sac(
    environment: str,
    out: str | Path,
    *,
    config: SACConfig | None = None,
    seed: int = 0,
    root_seed: int = ROOT_SEED,
    validation_episodes: int = VALIDATION_STARTS,
    progress: Progress = silent,
) -> Path:
    """Train Soft Actor-Critic in `environment`; return the run folder, in which `replay.hdf5` holds every step.

    `config` are the agent's settings, `seed` that of its weights, actions and start states. Every
    `config.evaluate_every` timesteps it acts deterministically from `validation_episodes` start states that follow from
    `root_seed`. The same call again continues an interrupted run.
    Raises `UsageError` for discrete actions, and where `out` holds another run; `DivergedError` where a loss is not
    finite, `LockedError` where another process trains here, `ResourceError` where the folder cannot be written.
    """
    check_kinds(config=(config, SACConfig))
    check_progress(progress)
    out, seed, root_seed = path_of("out", out), seed_of("seed", seed), whole("root_seed", root_seed)
    validation_episodes = whole("validation_episodes", validation_episodes)
    starts, spec = validation_starts(root_seed, validation_episodes), environment_spec(environment)
    config = config or SACConfig()
    if config.evaluate_every:
        warn_of_endless_episodes(spec)

    def measure(policy: SACPolicy) -> float:
        return run_episodes(AgentPolicy(policy, spec.observation_shape), environment, starts).mean_return

    with saved_when_interrupted(progress) as progress:
        return _train_sac(
            out, environment, config, seed=seed, evaluate=measure, progress=progress,
            validation={"root_seed": root_seed, "episodes": validation_episodes},
        )  # fmt: skip


NAMED_MEDIUM = " D4RL would call these data expert; the name follows the report."


@usual_defaults
def collect_sac(
    run: str | Path, path: str | Path, *, num_steps: int, seed: int = 0, num_envs: int | None = None,
    progress: Progress = silent,
) -> Dataset:  # fmt: skip
    """Record a trained SAC agent, acting as it does in training (sampling); return the dataset.

    `num_steps` timesteps go to the file `path` in D4RL's form, whole episodes but for the last; start states and
    actions follow from `seed`, and from `num_envs`, how many environments step together (default: many of Pendulum-v1,
    16 of others). Raises `UsageError` where `run` is not one of SAC or `path` is no name of a dataset,
    `CheckpointError` where it is not finished, `ResourceError` where the file cannot be written.
    """
    check_progress(progress)
    num_steps, seed = whole("num_steps", num_steps), seed_of("seed", seed)
    run, path = path_of("run", run), path_of("path", path)
    config, tensors = load_run(run)
    if config.get("kind") != "sac":
        raise UsageError(
            f"{run}: a run of {config.get('algorithm')}; expected one of SAC (`foretell train --algorithm sac`). Other "
            "runs are recorded by foretell.collect_policy (`foretell collect policy`)."
        )
    policy = restore_sac(config, tensors)
    note = NAMED_MEDIUM if path.stem.startswith("pendulum-medium") else ""
    metadata = DatasetMetadata(
        environment=config["environment"]["name"], algorithm=f"sac ({config['agent']['form']})",
        hyperparameters={**config["agent"], "training_seed": config["seed"]},
        description=f"Recorded by a Soft Actor-Critic agent trained for "
        f"{counted(config['agent']['total_steps'], 'step')}, sampling its actions.{note}",
    )  # fmt: skip
    return collect_with_policy(
        policy, metadata, num_steps=num_steps, seed=seed, path=path, policy_weights=policy.weights(), num_envs=num_envs,
        progress=progress,
    )  # fmt: skip


@usual_defaults
def collect_imagined(
    source: str | Path | Dataset,
    path: str | Path,
    *,
    num_steps: int,
    seed: int = 0,
    config: DynamicsConfig | None = None,
    progress: Progress = silent,
) -> Dataset:
    """Learn the dynamics of `source`, imagine `num_steps` timesteps with them; return the dataset.

    Raises as `collection.imagination.imagine` does, and `UsageError` where `path` is no name of a dataset.
    """
    check_kinds(config=(config, DynamicsConfig))
    check_progress(progress)
    num_steps, seed, path = whole("num_steps", num_steps), seed_of("seed", seed), path_of("path", path)
    check_name(path)
    dataset = source if isinstance(source, Dataset) else open_dataset(source)
    return imagine(dataset, num_steps=num_steps, seed=seed, path=path, config=config, progress=progress)
