"""Training offline: a sequence model, or value functions, from a dataset to a run folder."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from foretell.core.errors import UsageError
from foretell.core.files import sha256_of
from foretell.core.locks import folder_lock
from foretell.core.memory import memory_errors
from foretell.core.progress import Progress, silent
from foretell.core.seeding import derive_seed
from foretell.core.seeds_folder import run_of_seed
from foretell.core.settings import check_kinds, check_progress, number, path_of, seed_of, whole
from foretell.core.stopping import nothing_to_save
from foretell.datasets.dataset import Dataset
from foretell.evaluation.acting import acting_policy
from foretell.evaluation.configs import ActingConfig, acting_settings
from foretell.evaluation.policies import ASKED, restore_values
from foretell.evaluation.protocol import VALIDATION_STARTS
from foretell.facade.environments import warn_of_endless_episodes, warn_of_timesteps
from foretell.facade.given_values import copy_values, given_values
from foretell.facade.initial_weights import InitialWeights
from foretell.facade.interrupts import saved_when_interrupted
from foretell.facade.plan import Plan, check_condition, planner_of
from foretell.facade.source import Source
from foretell.facade.unseen_returns import of_best, warn_of_one_return, warn_of_unseen
from foretell.models.configs import ModelConfig, SequenceShape, window_length
from foretell.models.registry import build_model, model_entry, require_settings_of
from foretell.sequences.conditions import NEEDS_VALUES, Condition, Target
from foretell.sequences.defaults import usual_defaults
from foretell.sequences.scaling import ActionRange
from foretell.sequences.targets import check_share, given_target, target_rule
from foretell.training.configs import ComputeConfig, TrainingConfig
from foretell.training.loop import train as run_updates
from foretell.training.placing import Place, evaluated_here, placed
from foretell.training.processes import ALONE, Processes
from foretell.training.run_folder import RunFolder, load_run
from foretell.training.together import Meeting
from foretell.values.acting import ImitationPolicy
from foretell.values.asking import asking_of, best_among_alike, foretold_of, told_of
from foretell.values.configs import IQLConfig
from foretell.values.functions import ValueFunctions
from foretell.values.training import ValueTraining

ROOT_SEED = 0
"""Root of the evaluation and validation start states where nothing else is asked for."""


@usual_defaults
@memory_errors()
def train(
    dataset: str | Path | Dataset,
    out: str | Path,
    *,
    algorithm: str = "decision-transformer",
    condition: Condition = "return",
    target: Target = "auto",
    model: ModelConfig | None = None,
    training: TrainingConfig | None = None,
    acting: ActingConfig | None = None,
    compute: ComputeConfig | None = None,
    processes: Processes = ALONE,
    meeting: Meeting | None = None,
    values: IQLConfig | None = None,
    values_from: str | Path | None = None,
    best_share: float = 1.0,
    initial_weights: str | Path | None = None,
    environment: str | None = None,
    horizon: int | None = None,
    ends_at: str | None = None,
    action_range: ActionRange | None = None,
    seed: int = 0,
    root_seed: int = ROOT_SEED,
    validation_episodes: int = VALIDATION_STARTS,
    progress: Progress = silent,
) -> Path:
    """Train a sequence model on a dataset, or continue where an earlier start stopped; return the run folder.

    `condition` is what the model is told at every timestep, `target` what the policy then asks for: "auto", by a rule
    from the data alone, or a number (reward units; a quantile from 0 to 1 under `advantage`); docs/conditioning.md
    explains both. The conditions `value` and `advantage` need value functions: they are learned first, with the
    settings `values`, into `out/values`, or copied from the finished run `values_from`, of the same data or of
    timesteps imagined from them. `best_share` below 1 trains on that share of the episodes alone, those that earned
    most of the ones that began alike. `initial_weights` is a finished run of the same network, on these data or others,
    whose weights and units it begins with; the optimiser and its schedule begin anew. Where `values_from` or
    `initial_weights` is a folder of several seeds, the run of this `seed` is taken.

    `acting` are settings of how the model acts, where it has any: a planner's, for the Trajectory Transformer, which
    foretells what its condition names and asks for nothing, unless its settings say `told`.

    `compute` says on which device and in which numbers to train; `processes` are those that train this run together
    (`training.processes.joined`), each of which calls this function. At a `meeting`, runs in threads of one process
    take their updates together on a GPU (`facade.seeds.train_seeds`).

    `environment` overrides the one named in the dataset; it gives action range and horizon. `action_range` overrides
    the environment's. `horizon` is the time limit, or `ends_at` the array of the file, that says where episodes end.

    `seed` is that of weights, batches and dropout, `root_seed` and `validation_episodes` say which start states the run
    is evaluated from on its way, where `evaluate_every` of `training` or `values` asks for it. `progress` is called
    after every update with the updates done and to do, and `loss` and `return`, the newest; `StoppedError` raised there
    saves and ends the run, and so does Ctrl-C, then `KeyboardInterrupt`. The same call goes on from there.
    Raises `DatasetError` for data that training must not meet, `UsageError` where `out` holds another run,
    `DivergedError` where a number is not finite, `LockedError` where another process trains here, `ResourceError` where
    memory or disk do not suffice.
    """
    check_kinds(
        algorithm=(algorithm, str), training=(training, TrainingConfig),
        compute=(compute, ComputeConfig), values=(values, IQLConfig), action_range=(action_range, ActionRange),
    )  # fmt: skip
    check_kinds(condition=(condition, str), meeting=(meeting, Meeting), processes=(processes, Processes))
    check_progress(progress)
    require_settings_of(algorithm, model)
    out, seed, root_seed = path_of("out", out), seed_of("seed", seed), whole("root_seed", root_seed)
    processes = processes or ALONE
    target = "auto" if (given_to_ask := given_target(target)) is None else given_to_ask
    if values_from is not None:
        values_from = run_of_seed(path_of("values_from", values_from), seed)
    source = Source.of(dataset, environment, horizon, action_range, ends_at)
    data, spec, normalization = source.data, source.spec, source.normalization
    if initial_weights is not None:
        initial_weights = run_of_seed(path_of("initial_weights", initial_weights), seed)
    initial = None if initial_weights is None else InitialWeights.of(initial_weights)
    model = model or model_entry(algorithm).config()
    training = training or TrainingConfig()
    place = Place.of(compute or ComputeConfig(), processes, meeting, algorithm=algorithm)
    place.check(algorithm, training.batch_size)
    acting = acting_settings(algorithm, acting)
    shape = SequenceShape(
        observation_shape=data.observation_shape, action_dim=spec.action_dim, discrete=data.discrete,
        max_timesteps=max(spec.horizon or 0, int(data.episode_lengths.max())),
    )  # fmt: skip
    best_share = number("best_share", best_share)
    check_share(best_share)
    if initial:
        shape, normalization = initial.fitted(algorithm, condition, model, shape), initial.normalization
        initial.check_actions(source)
        initial.check_images(source)
    chosen = None if best_share == 1 else best_among_alike(data, normalization, best_share)
    check_condition(condition, target, model, acting, values, values_from, algorithm, data)
    given = given_values(values_from, source) if values_from else None
    learned = values or IQLConfig() if condition in NEEDS_VALUES and not given else None
    settings = given["values"] if given else learned and asdict(learned)
    config: dict[str, Any] = {
        "kind": "sequence", "algorithm": algorithm, "condition": condition, **source.config(),
        "normalization": normalization.to_json(), "shape": asdict(shape),
        "model": asdict(model), "training": asdict(training),
        "values": settings, "best_share": best_share,
        "values_from": sha256_of(Path(values_from) / "model.safetensors") if values_from else None,
        "target": target_rule(
            "none" if planner_of(model) else condition, target, images=len(shape.observation_shape) != 1
        ),
        "acting": asdict(acting) if acting else None, "seed": seed,
        "validation": {"root_seed": root_seed, "episodes": whole("validation_episodes", validation_episodes)},
        **({"initial_weights": initial.digest} if initial else {}),
    }  # fmt: skip
    network = build_model(algorithm, asdict(model), shape, _generator(seed))
    if training.optimizer == "muon" and not network.hidden_matrices():
        raise UsageError(f"optimizer muon moves matrices between hidden layers; this {algorithm} has none, use adamw.")
    if training.evaluate_every:
        source.check_evaluable("evaluate_every", root_seed, validation_episodes)
    of_each = getattr(model, "timestep_embedding", None) == "learned" and not initial
    warn_of_timesteps(data, spec, shape.max_timesteps, window=window_length(model), learned=of_each)
    if target != "auto" and condition == "return":
        warn_of_unseen([target], config["dataset"] if chosen is None else of_best(data, chosen))
    if condition == "return" and not planner_of(model):
        warn_of_one_return(data)
    plan = Plan(
        out=out, source=source, normalization=normalization, shape=shape, algorithm=algorithm, condition=condition,
        target=target, model=model, network=network, training=training, acting=acting, place=place, chosen=chosen,
        initial=initial, values=learned, values_from=values_from, seed=seed, root_seed=root_seed,
        validation_episodes=validation_episodes, config=config,
    )  # fmt: skip
    _run(plan, progress)
    return out


def _run(plan: Plan, progress: Progress) -> None:
    """Train as planned, or go on where an earlier start stopped; nothing is left to do where it was finished."""
    source, data, normalization, network = plan.source, plan.source.data, plan.normalization, plan.network
    condition, training, place, seed, out = plan.condition, plan.training, plan.place, plan.seed, plan.out
    planner, processes = planner_of(plan.model), place.processes
    with (
        saved_when_interrupted(progress) as progress, place.as_meant(), processes.lock(out),
        place.run(out, plan.config | place.facts(out)) as run,
    ):  # fmt: skip
        if run.finished:
            return
        stages = _Stages(progress, [plan.values.updates if plan.values else 0, training.updates])
        functions = _values_of(plan, stages.stage(0))
        with nothing_to_save() if processes.alone else nullcontext():
            if planner:
                told = foretold_of(condition, data, normalization, functions, discount=planner.discount)
            else:
                told = told_of(condition, data, normalization, functions, seed=seed)
            asking = asking_of(
                told, data, normalization, plan.target, max_timesteps=plan.shape.max_timesteps, seed=seed,
                episodes=plan.chosen,
            )  # fmt: skip
            sampler = plan.sampler(told)
            network.prepare(sampler)
            if plan.initial:
                plan.initial.load_into(network)
        asked = {ASKED + name: value for name, value in asking.tensors().items()}
        policy = acting_policy(network, normalization, asking, plan.acting, condition, functions)
        updates = placed(place, plan.algorithm, network, sampler, training, seed)
        measure = None
        if training.evaluate_every and processes.launch.speaks:
            measure = source.validation(policy, plan.root_seed, plan.validation_episodes)
        run_updates(
            run, updates, training, weights=lambda: {**updates.model.state_dict(), **asked},
            progress=processes.agreed(stages.stage(1)),
            evaluate=measure and evaluated_here(measure, updates.model, network),
        )  # fmt: skip


def _values_of(plan: Plan, progress: Progress) -> ValueFunctions | None:
    """Return the value functions that a run is told by, copied or learned first; None where there are none."""
    folder, given, config, share = plan.out / "values", plan.values_from, plan.values, plan.place.processes.share
    if given:
        share(lambda: copy_values(given, folder))
    elif config:
        share(lambda: _learn_values(
            plan.source, folder, config, plan.seed, plan.root_seed, plan.validation_episodes, progress
        ))  # fmt: skip
    else:
        return None
    return restore_values(*share(lambda: load_run(folder)))


@usual_defaults
@memory_errors()
def train_iql(
    dataset: str | Path | Dataset,
    out: str | Path,
    *,
    values: IQLConfig | None = None,
    environment: str | None = None,
    horizon: int | None = None,
    ends_at: str | None = None,
    action_range: ActionRange | None = None,
    seed: int = 0,
    root_seed: int = ROOT_SEED,
    validation_episodes: int = VALIDATION_STARTS,
    progress: Progress = silent,
) -> Path:
    """Train implicit Q-learning on a dataset, or continue; return the run folder. The policy imitates good actions.

    Raises as `train` does, and `UsageError` for images.
    """
    check_kinds(values=(values, IQLConfig), action_range=(action_range, ActionRange))
    check_progress(progress)
    out, seed, root_seed = path_of("out", out), seed_of("seed", seed), whole("root_seed", root_seed)
    source = Source.of(dataset, environment, horizon, action_range, ends_at)
    return _learn_values(source, out, values or IQLConfig(), seed, root_seed, validation_episodes, progress)


def _learn_values(
    source: Source, out: Path, config: IQLConfig, seed: int, root_seed: int, validation_episodes: int,
    progress: Progress,
) -> Path:  # fmt: skip
    if config.evaluate_every:
        source.check_evaluable("evaluate_every", root_seed, validation_episodes)
        warn_of_endless_episodes(source.spec)
    facts = {
        "kind": "values", "algorithm": "iql", **source.config(), "values": asdict(config), "seed": seed,
        "validation": {"root_seed": root_seed, "episodes": whole("validation_episodes", validation_episodes)},
    }  # fmt: skip
    training = ValueTraining(source.data, source.normalization, config, seed, action_dim=source.spec.action_dim)
    with saved_when_interrupted(progress) as progress, folder_lock(out), RunFolder(out, facts) as run:
        measure = None
        if config.evaluate_every:
            measure = source.validation(ImitationPolicy(training.functions), root_seed, validation_episodes)
        run_updates(run, training, config, weights=training.functions.state_dict, evaluate=measure, progress=progress)
    return out


class _Stages:
    """One count of updates for stages that follow each other."""

    def __init__(self, progress: Progress, updates: list[int]):
        self.progress, self.updates = progress, updates

    def stage(self, index: int) -> Progress:
        before, together = sum(self.updates[:index]), sum(self.updates)

        def report(done: int, total: int, **measurements: float) -> None:
            self.progress(before + done, together, **measurements)

        return report


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(derive_seed(seed, "init"))
