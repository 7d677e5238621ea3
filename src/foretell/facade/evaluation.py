"""From a finished run, or a name, to a policy that acts and to evaluation records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from foretell.core.errors import CheckpointError, UsageError
from foretell.core.files import sha256_of, where_it_leads
from foretell.core.forms import LONGEST_NAME
from foretell.core.progress import Progress, silent
from foretell.core.run_settings import GREEDY, alike
from foretell.core.seeds_folder import require_alike, runs_of_seeds
from foretell.core.settings import check_kinds, check_progress, path_of, whole
from foretell.core.space import require_file
from foretell.core.stepping import LARGEST, TargetReturn, checked_count
from foretell.environments.making import environment_spec
from foretell.evaluation.configs import ACTING, PlanningConfig
from foretell.evaluation.policies import UniformPolicy, acting_of, plans, restore_policy, restore_values
from foretell.evaluation.protocol import Outcome, Policy, evaluation_starts, validation_starts
from foretell.evaluation.protocol import evaluate as run_episodes
from foretell.evaluation.records import read_records, records_of, save_records
from foretell.facade.environments import fitting_environment
from foretell.facade.training import ROOT_SEED
from foretell.facade.unseen_returns import warn_of_unseen
from foretell.sequences.defaults import usual_defaults
from foretell.training.run_folder import load_run

NAMED = ("random", "optimum")
"""Policies that need no run: uniform actions, and the optimum of Pendulum-v1 by dynamic programming."""

AT_ONCE = 500
"""Episodes that are run at the same time where several returns are asked for: acting costs less by the many."""


@usual_defaults
def load_policy(run: str | Path, *, acting: Mapping[str, Any] | None = None) -> Policy:
    """Load a finished run as a policy: `reset(num_envs=...)`, then in turn `act` and `observe`.

    `acting` changes settings of acting by name, `{"horizon": 3}` of a planner say (`evaluation.configs`).
    Raises `CheckpointError` where `run` is not a finished run folder, `UsageError` for settings that it has not.
    """
    _check_by_name(acting)
    folder = path_of("run", run)
    return _restored(folder, *load_run(folder), acting)


def _check_by_name(acting: Any) -> None:
    """Raise `UsageError` where changes to settings of acting are no mapping; None is taken."""
    if acting is not None and not isinstance(acting, Mapping):
        raise UsageError(
            f"acting is of type {type(acting).__name__}; expected settings by name, those to be changed, for example "
            '{"horizon": 3}.'
        )


def _restored(
    run: Path, config: Mapping[str, Any], tensors: Mapping[str, Any], acting: Mapping[str, Any] | None
) -> Policy:
    behaviour = {**(config.get("acting") or {}), **(acting or {})}.get("behaviour")
    needed = ACTING.get(config.get("algorithm", "")) is PlanningConfig and (
        config["condition"] == "value" or (config["condition"] == "advantage" and behaviour == "value")
    )
    functions = restore_values(*_values_of(run, config)) if needed else None
    return restore_policy(config, tensors, functions=functions, acting=acting)


def _values_of(run: Path, config: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return configuration and weights of the value functions that a run was trained with.

    Raises `CheckpointError` where those in its folder are of another run.
    """
    found, tensors = load_run(run / "values")
    if given := config["values_from"]:
        same = sha256_of(run / "values" / "model.safetensors") == given
    else:
        parts = ("values", "dataset", "seed")  # units may be those of the weights that a run began with
        same = found["kind"] == "values" and all(found[part] == config[part] for part in parts)
    if not same:
        raise CheckpointError(
            f"{run / 'values'}: holds value functions of another run than {run} was trained with; it was put in their "
            "place. Restore it."
        )
    return found, tensors


@usual_defaults
def evaluate(
    run: str | Path,
    *,
    environment: str | None = None,
    episodes: int = 200,
    target_returns: TargetReturn = None,
    acting: Mapping[str, Any] | None = None,
    name: str | None = None,
    root_seed: int = ROOT_SEED,
    num_envs: int | None = None,
    out: str | Path | None = None,
    progress: Progress = silent,
) -> list[dict[str, Any]]:
    """Evaluate a finished run from the shared start states; return one record an episode, in order of targets.

    Of a folder of several seeds (`foretell train --seeds`) all runs are evaluated, one after another; they have to be
    finished, and alike in all but the seed. `run` may be "random" (uniform actions) or "optimum" (dynamic programming,
    Pendulum-v1 alone), with `environment`.
    `target_returns` asks for it, or for each of them, from every start (reward units; for runs that are told advantages
    their quantiles, 0 to 1); None asks by the run's own rule. `acting` changes settings of acting by name
    (`evaluation.configs`). `name` is what the records call the policy; by default the dataset of a sequence model, else
    the algorithm (iql-greedy of value functions that act so). `num_envs` is how many environments may exist at once,
    for simulators that are large, or of which there is one; by default all episodes are under way together. `out` is a
    file of records to add these to, as `foretell evaluate` does; reports read such files.
    Raises `UsageError` where run and environment have different shapes, or seeds other settings; `CheckpointError`
    where the run is not finished or `out` holds something else, `ResourceError` where it cannot be written.
    """
    _check_by_name(acting)
    check_kinds(name=(name, str))
    if name is not None and len(name) > LONGEST_NAME:
        raise UsageError(f"name has {len(name)} letters; expected at most {LONGEST_NAME}.")
    check_progress(progress)
    path_of("run", run)
    root_seed = whole("root_seed", root_seed)
    num_envs = None if num_envs is None else checked_count(num_envs)
    where = None if out is None else _writable(out, run)
    runs = _runs(run)
    evaluations = [
        _evaluate(
            one, environment=environment, episodes=episodes, target_returns=target_returns, acting=acting, name=name,
            root_seed=root_seed, num_envs=num_envs, progress=_part(progress, place, len(runs)),
        )
        for place, one in enumerate(runs)
    ]  # fmt: skip
    found = [record for records in evaluations for record in records]
    if where is not None:
        save_records(where, found)
    return found


def _writable(given: Any, run: str | Path) -> Path:
    """Return where records go; whoever could not save would have waited for nothing.

    A link in the run's own folder, which may be a stranger's, is not followed.
    """
    if not isinstance(given, str | Path):
        raise UsageError(f"out is {given!r:.100}; expected the name of a file.")
    out = Path(given)
    if out.is_dir():
        raise UsageError(f"out {out}; a folder, expected the name of a file.")
    if out.parent != Path(run):
        out = where_it_leads(out)
    read_records(out)
    require_file(out)
    return out


def _runs(run: str | Path) -> list[str | Path]:
    seeds = [] if str(run) in NAMED else runs_of_seeds(Path(run))
    require_alike(seeds)
    for one in seeds:  # which is not finished is to be heard of before the first acts
        load_run(one)
    return [*seeds] or [run]


def _part(progress: Progress, place: int, count: int) -> Progress:
    """Tell of the `place`th of `count` works of the same length as of all of them together."""
    return lambda done, total, **numbers: progress(place * total + done, count * total, **numbers)


def _evaluate(
    run: str | Path, *, environment: str | None, episodes: int, target_returns: TargetReturn,
    acting: Mapping[str, Any] | None, name: str | None, root_seed: int, num_envs: int | None, progress: Progress,
) -> list[dict[str, Any]]:  # fmt: skip
    starts = evaluation_starts(root_seed, episodes)
    if str(run) in NAMED:
        if acting:
            raise UsageError(f"{', '.join(map(str, acting))}: no settings of how the policy {run} acts; expected none.")
        policy, spec_name = _named(str(run), environment, root_seed)
        config: Mapping[str, Any] = {"algorithm": str(run), "seed": 0}
    else:
        config, tensors = load_run(Path(run))
        policy = _restored(Path(run), config, tensors, acting)
        spec_name = fitting_environment(dict(config), environment).name
    dataset = config.get("dataset")
    sequence = config.get("kind") == "sequence"
    algorithm = config["algorithm"] + (GREEDY if (acting or {}).get("greedy") else "")
    facts = {
        "policy": name or (dataset["name"] if sequence and dataset else algorithm),
        "algorithm": config["algorithm"], "dataset": dataset and dataset["name"], "seed": config["seed"],
        "environment": spec_name, "settings": _settings_of(config, acting),
        "data": dataset and dataset["fingerprint"][:16],
    }  # fmt: skip
    if target_returns is None:
        return records_of(_outcome(policy, spec_name, starts, None, num_envs or len(starts), progress), facts, None)
    records, targets = [], _checked_targets(target_returns, config)
    together = num_envs or len(starts) * max(1, AT_ONCE // len(starts))
    asked = np.repeat(targets, len(starts))
    outcome = _outcome(policy, spec_name, starts * len(targets), asked, together, progress)
    for place, target in enumerate(targets):
        records += records_of(outcome.part(place * len(starts), len(starts)), facts, target)
    return records


def _outcome(
    policy: Policy, environment: str, starts: Sequence[int], asked: np.ndarray | None, together: int, progress: Progress
) -> Outcome:
    """Return what is earned from every start, so many of them at a time; `asked` is the target of each."""
    firsts, parts = range(0, len(starts), together), list[Outcome]()
    for place, first in enumerate(firsts):
        some = slice(first, first + together)
        if place and isinstance(policy, UniformPolicy):  # which begins its stream anew
            policy = policy.another()
        target = None if asked is None else asked[some]
        told = _part(progress, place, len(firsts))
        parts.append(run_episodes(policy, environment, starts[some], target_return=target, progress=told))
    return Outcome.of(parts)


def _settings_of(config: Mapping[str, Any], acting: Mapping[str, Any] | None) -> str | None:
    """Return a checksum of how a run was trained and acts; None of policies that are no runs."""
    if not config.get("kind"):
        return None
    settings = acting_of(config, acting or {})
    return alike(config, asdict(settings) if settings else {})


@usual_defaults
def validation_level(run: str | Path, environment: str, *, episodes: int, root_seed: int = ROOT_SEED) -> float:
    """Return the mean return of a run, or of "random", on the validation starts: a level for learning curves."""
    root_seed = whole("root_seed", root_seed)
    policy = UniformPolicy(environment_spec(environment), root_seed) if str(run) == "random" else load_policy(run)
    return run_episodes(policy, environment, validation_starts(root_seed, episodes)).mean_return


def _named(name: str, environment: str | None, root_seed: int) -> tuple[Policy, str]:
    if environment is None:
        raise UsageError(f"the policy {name} needs --environment, for example --environment Pendulum-v1.")
    if name == "random":
        return UniformPolicy(environment_spec(environment), root_seed), environment
    if environment != "Pendulum-v1":
        raise UsageError(f"the optimum is known for Pendulum-v1 alone; found --environment {environment}.")
    from foretell.agents.pendulum_optimum import OptimumPolicy, pendulum_optimum

    return OptimumPolicy(pendulum_optimum()), environment


def _checked_targets(target_returns: Sequence[float] | np.ndarray | float, config: Mapping[str, Any]) -> list[float]:
    try:
        several = np.atleast_1d(np.asarray(target_returns, np.float64)).tolist()
        targets = list(dict.fromkeys(map(float, several)))  # one asked for twice is asked for once
    except (TypeError, ValueError):
        raise UsageError(f"target returns {target_returns!r}; expected numbers in reward units.") from None
    if not targets:
        raise UsageError("target_returns is empty; expected numbers, or None for what the run's own rule chooses.")
    if config.get("kind") != "sequence" or config["condition"] == "none" or plans(config):
        raise UsageError(
            "target returns are for sequence models that are told what to earn; agents, behaviour cloning, planners "
            "and the policies without a run take none."
        )
    if not all(abs(target) <= LARGEST for target in targets):
        raise UsageError(f"target returns {targets}; expected finite numbers in reward units.")
    if config["condition"] == "advantage" and not all(0 <= target <= 1 for target in targets):
        raise UsageError(f"targets {targets}: the run is told quantiles of the advantage; expected numbers of 0 to 1.")
    if config["condition"] == "return":
        warn_of_unseen(targets, config["dataset"])
    return targets
