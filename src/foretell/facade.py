"""The stages joined: what the command line and Python users call."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from foretell.agents.configs import SACConfig
from foretell.agents.policy import SACPolicy
from foretell.collection.recipes import collect_with_policy
from foretell.core.errors import DatasetError, UsageError
from foretell.core.files import folder_lock
from foretell.core.progress import Progress, silent
from foretell.core.seeding import derive_seed
from foretell.datasets.dataset import Dataset, DatasetMetadata
from foretell.datasets.doctor import diagnose
from foretell.datasets.registry import open_dataset
from foretell.environments.making import EnvironmentSpec, environment_spec, stored_environment_spec
from foretell.evaluation.conditioned import ReturnConditionedPolicy
from foretell.evaluation.policies import AgentPolicy, UniformPolicy, restore_policy, restore_sac
from foretell.evaluation.protocol import VALIDATION_STARTS, Policy, evaluation_starts, validation_starts
from foretell.evaluation.protocol import evaluate as run_episodes
from foretell.evaluation.records import records_of
from foretell.models.configs import DecisionTransformerConfig, SequenceShape
from foretell.models.registry import build_model, model_entry
from foretell.sequences.normalization import Normalization
from foretell.sequences.scaling import ActionRange
from foretell.sequences.targets import choose_target
from foretell.sequences.windows import WindowSampler
from foretell.training.configs import TrainingConfig
from foretell.training.run_folder import RunFolder, load_run
from foretell.training.sac import train_sac as _train_sac
from foretell.training.sequence import SequenceTraining
from foretell.training.sequence import train as _train

ROOT_SEED = 0
"""Root of the evaluation and validation start states where nothing else is asked for."""


def load_policy(run: str | Path) -> Policy:
    """Load a finished run as a policy: `reset(num_envs=...)`, then in turn `act` and `observe`.

    Raises `CheckpointError` where `run` is not a finished run folder.
    """
    return restore_policy(*load_run(Path(run)))


def train(
    dataset: str | Path | Dataset,
    out: str | Path,
    *,
    algorithm: str = "decision-transformer",
    model: DecisionTransformerConfig | None = None,
    training: TrainingConfig | None = None,
    target_return: float | None = None,
    environment: str | None = None,
    horizon: int | None = None,
    seed: int = 0,
    root_seed: int = ROOT_SEED,
    validation_episodes: int = VALIDATION_STARTS,
    progress: Progress = silent,
) -> Path:
    """Train a sequence model on a dataset, or continue where an earlier start stopped; return the run folder.

    `target_return` (reward units) is what the policy asks for unless told otherwise; None takes the data's rule
    (`sequences.targets`). `environment` overrides the one named in the dataset; it gives action range and horizon.
    `horizon` is the time limit for files that do not say where episodes end.
    Raises `DatasetError` for data that training must not meet, `UsageError` where `out` holds another run.
    """
    entry = model_entry(algorithm)
    data = dataset if isinstance(dataset, Dataset) else open_dataset(dataset, horizon=horizon)
    spec = _environment_of(data, environment)
    _refuse_unfit(data, spec)
    model = model or entry.config()
    training = training or TrainingConfig()
    action_range = None if data.discrete else ActionRange(low=spec.action_low or (), high=spec.action_high or ())
    normalization = Normalization.fit(data, action_range)
    shape = SequenceShape(
        observation_shape=data.observation_shape, action_dim=spec.action_dim, discrete=data.discrete,
        max_timesteps=max(spec.horizon or 0, int(data.episode_lengths.max())),
    )  # fmt: skip
    returns = data.episode_returns()
    config = {
        "kind": "sequence", "algorithm": algorithm, "environment": asdict(spec),
        "dataset": {"name": data.name, "fingerprint": data.fingerprint(), "steps": data.num_steps,
                    "episodes": data.num_episodes, "lowest_return": float(returns.min()),
                    "highest_return": float(returns.max())},
        "shape": asdict(shape), "model": asdict(model), "training": asdict(training),
        "normalization": normalization.to_json(), "target": choose_target(returns, target_return), "seed": seed,
        "validation": {"root_seed": root_seed, "episodes": validation_episodes},
    }  # fmt: skip
    network = build_model(algorithm, asdict(model), shape, _generator(seed))
    measure = None
    if training.evaluate_every:
        if data.observation_shape != spec.observation_shape:
            raise UsageError(
                f"{data.name} has observations of shape {data.observation_shape}, {spec.name} of "
                f"{spec.observation_shape}: nothing can be evaluated there. Give evaluate_every 0."
            )
        measure = _validation(spec.name, normalization, config["target"]["return"], root_seed, validation_episodes)
    if target_return is not None:
        _warn_of_unseen([target_return], config["dataset"])
    out = Path(out)
    with folder_lock(out):
        run = RunFolder(out, config)
        if run.finished:
            return out
        sampler = WindowSampler(data, normalization, context_length=model.context_length, seed=seed)
        _train(run, SequenceTraining(network, sampler, training, seed), evaluate=measure, progress=progress)
    return out


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
    """Train Soft Actor-Critic in `environment`; return the run folder, in which `replay.hdf5` holds every step."""
    starts = validation_starts(root_seed, validation_episodes)

    def measure(policy: SACPolicy) -> float:
        return run_episodes(AgentPolicy(policy), environment, starts).mean_return

    return _train_sac(
        Path(out), environment, config or SACConfig(), seed=seed, evaluate=measure, progress=progress,
        validation={"root_seed": root_seed, "episodes": validation_episodes},
    )  # fmt: skip


def collect_sac(
    run: str | Path, path: str | Path, *, num_steps: int, seed: int = 0, progress: Progress = silent
) -> Dataset:
    """Record a trained SAC agent, acting as it does in training (sampling); return the dataset."""
    config, tensors = load_run(Path(run))
    if config.get("kind") != "sac":
        raise UsageError(
            f"{run}: a run of {config.get('algorithm')}; expected one of SAC (`foretell train --algorithm sac`)."
        )
    policy = restore_sac(config, tensors)
    metadata = DatasetMetadata(
        environment=config["environment"]["name"], algorithm=f"sac ({config['agent']['form']})",
        hyperparameters={**config["agent"], "training_seed": config["seed"]},
        description=f"Recorded by a Soft Actor-Critic agent trained for {config['agent']['total_steps']:,} steps, "
        "sampling its actions. D4RL would call these data expert; the name follows the report.",
    )  # fmt: skip
    return collect_with_policy(
        policy, metadata, num_steps=num_steps, seed=seed, path=path, policy_weights=policy.weights(), progress=progress
    )


def evaluate(
    run: str | Path,
    *,
    environment: str | None = None,
    episodes: int = 200,
    target_returns: Sequence[float] | None = None,
    root_seed: int = ROOT_SEED,
    progress: Progress = silent,
) -> list[dict[str, Any]]:
    """Evaluate a finished run from the shared start states; return one record an episode, in order of targets.

    `run` may be "random": uniform actions in `environment`. `target_returns` (reward units) asks for each of them in
    turn; None asks for the run's own target. Raises `UsageError` where run and environment have different shapes.
    """
    starts = evaluation_starts(root_seed, episodes)
    if str(run) == "random":
        if environment is None:
            raise UsageError("the random policy needs --environment, for example --environment Pendulum-v1.")
        policy: Policy = UniformPolicy(environment_spec(environment), root_seed)
        _refuse_targets(target_returns)
        facts: dict[str, Any] = {
            "policy": "random", "algorithm": "random", "dataset": None, "seed": 0, "environment": environment,
        }  # fmt: skip
        return records_of(run_episodes(policy, environment, starts, progress=progress), facts, None)
    config, tensors = load_run(Path(run))
    policy = restore_policy(config, tensors)
    spec = _same_shapes(config, environment)
    dataset = config.get("dataset")
    facts = {
        "policy": dataset["name"] if dataset else config["algorithm"], "algorithm": config["algorithm"],
        "dataset": dataset and dataset["name"], "seed": config["seed"], "environment": spec.name,
    }  # fmt: skip
    if dataset is None:
        _refuse_targets(target_returns)
        return records_of(run_episodes(policy, spec.name, starts, progress=progress), facts, None)
    targets = (
        [float(target) for target in target_returns] if target_returns is not None else [config["target"]["return"]]
    )
    _warn_of_unseen(targets, dataset)
    records = []
    for target in targets:
        outcome = run_episodes(policy, spec.name, starts, target_return=target, progress=progress)
        records += records_of(outcome, facts, target)
    return records


def validation_level(run: str | Path, environment: str, *, episodes: int, root_seed: int = ROOT_SEED) -> float:
    """Return the mean return of a run, or of "random", on the validation starts: a level for learning curves."""
    policy = UniformPolicy(environment_spec(environment), root_seed) if str(run) == "random" else load_policy(run)
    return run_episodes(policy, environment, validation_starts(root_seed, episodes)).mean_return


def _refuse_targets(target_returns: Sequence[float] | None) -> None:
    if target_returns is not None:
        raise UsageError("target returns are for sequence models; an agent and the random policy take none.")


def _warn_of_unseen(targets: list[float], dataset: dict[str, Any]) -> None:
    if not all(map(math.isfinite, targets)):
        raise UsageError(f"target returns {targets}; expected finite numbers in reward units.")
    low, high = dataset["lowest_return"], dataset["highest_return"]
    if unseen := [f"{target:g}" for target in targets if not low <= target <= high]:
        warnings.warn(
            f"target return {', '.join(unseen)} is outside the returns in {dataset['name']}, {low:g} to {high:g}; what "
            "the policy does there was never seen.", stacklevel=3,
        )  # fmt: skip


def _same_shapes(config: dict[str, Any], environment: str | None) -> EnvironmentSpec:
    trained = config["environment"]
    name = environment or trained["name"]
    if not name:
        raise UsageError("the run's dataset names no environment; say which with --environment.")
    spec = environment_spec(name)
    seen = config.get("shape", trained)["observation_shape"]
    found = (list(spec.observation_shape), spec.action_dim, spec.num_actions is None)
    expected = (list(seen), trained["action_dim"], trained["num_actions"] is None)
    if found != expected:
        raise UsageError(
            f"{name} has observations {found[0]} and {found[1]} action dimensions; the run was trained for "
            f"{expected[0]} and {expected[1]}. Evaluate it where it was trained."
        )
    return spec


def _environment_of(data: Dataset, environment: str | None) -> EnvironmentSpec:
    if environment:
        return environment_spec(environment)
    if named := stored_environment_spec(data.metadata.environment):
        return named
    if data.discrete:
        low = high = None
    else:
        low, high = tuple(map(float, data.actions.min(axis=0))), tuple(map(float, data.actions.max(axis=0)))
    return EnvironmentSpec(
        name="", observation_shape=data.observation_shape, action_dim=data.action_dim, action_low=low,
        action_high=high, num_actions=data.num_actions, horizon=None,
    )  # fmt: skip


def _refuse_unfit(data: Dataset, spec: EnvironmentSpec) -> None:
    for finding in diagnose(data, spec if spec.name else None):
        if finding.severity == "error":
            raise DatasetError(f"{data.path or data.name}: {finding.message}")


def _validation(
    environment: str, normalization: Normalization, target: float, root_seed: int, episodes: int
) -> Callable[[Any], dict[str, float]]:
    if not environment:
        raise UsageError("evaluate_every needs an environment; the data name none. Give --environment, or 0.")
    starts = validation_starts(root_seed, episodes)

    def measure(model: Any) -> dict[str, float]:
        outcome = run_episodes(ReturnConditionedPolicy(model, normalization, target), environment, starts)
        return {"mean_return": outcome.mean_return, "episodes": len(starts), "target": target}

    return measure


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(derive_seed(seed, "init"))
