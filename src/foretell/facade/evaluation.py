"""From whoever acts to evaluation records."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from foretell.core.errors import UsageError
from foretell.core.files import where_it_leads
from foretell.core.forms import LONGEST_NAME
from foretell.core.progress import Progress, silent
from foretell.core.settings import check_kinds, check_progress, whole
from foretell.core.space import require_file
from foretell.core.stepping import LARGEST, TargetReturn, checked_count
from foretell.environments.making import environment_spec
from foretell.evaluation.own_policy import OWN
from foretell.evaluation.policies import UniformPolicy, plans
from foretell.evaluation.protocol import EVALUATION_STARTS, Outcome, Policy, evaluation_starts, validation_starts
from foretell.evaluation.protocol import evaluate as run_episodes
from foretell.evaluation.records import read_records, records_of, save_records
from foretell.facade.subjects import Subject, check_by_name, load_policy, subjects
from foretell.facade.training import ROOT_SEED
from foretell.facade.unseen_returns import warn_of_unseen
from foretell.sequences.defaults import usual_defaults

AT_ONCE = 500
"""Episodes that are run at the same time where several returns are asked for: acting costs less by the many."""


@usual_defaults
def evaluate(
    run: str | Path | Policy | Callable[[np.ndarray], Any],
    *,
    environment: str | None = None,
    episodes: int = EVALUATION_STARTS,
    target_returns: TargetReturn = None,
    acting: Mapping[str, Any] | None = None,
    name: str | None = None,
    seed: int | None = None,
    root_seed: int = ROOT_SEED,
    num_envs: int | None = None,
    out: str | Path | None = None,
    progress: Progress = silent,
) -> list[dict[str, Any]]:
    """Evaluate a finished run from the shared start states; return one record an episode, in order of targets.

    Of a folder of several seeds (`foretell train --seeds`) all runs are evaluated, one after another; they have to be
    finished, and alike in all but the seed. `run` may be "random" (uniform actions) or "optimum" (dynamic programming,
    Pendulum-v1 alone), with `environment`; or a policy of your own, an object with `reset`, `act` and `observe`
    (`foretell.Policy`), a function from observations `(num_envs, ...)` to actions, or an agent of Stable-Baselines3,
    with `environment` and `name`.
    `seed` is the training seed that the records name, of a policy of your own where there are several.
    `target_returns` asks for it, or for each of them, from every start (reward units; for runs that are told advantages
    their quantiles, 0 to 1); None asks by the run's own rule. `acting` changes settings of acting by name
    (`evaluation.configs`). `name` is what the records call the policy; by default the dataset of a sequence model, else
    the algorithm (iql-greedy of value functions that act so). `num_envs` is how many environments may exist at once,
    for simulators that are large, or of which there is one; by default all episodes are under way together. `out` is a
    file of records to add these to, as `foretell evaluate` does; reports read such files.
    Raises `UsageError` where run and environment have different shapes, or seeds other settings; `CheckpointError`
    where the run is not finished or `out` holds something else, `ResourceError` where it cannot be written.
    """
    check_by_name(acting)
    check_kinds(name=(name, str))
    if name is not None and len(name) > LONGEST_NAME:
        raise UsageError(f"name has {len(name)} letters; expected at most {LONGEST_NAME}.")
    check_progress(progress)
    root_seed = whole("root_seed", root_seed)
    num_envs = None if num_envs is None else checked_count(num_envs)
    found = subjects(run, environment=environment, acting=acting, name=name, seed=seed, root_seed=root_seed)
    where = None if out is None else _writable(out, run)
    starts = evaluation_starts(root_seed, episodes)
    records = [
        record
        for place, subject in enumerate(found)
        for record in _evaluate(subject(), starts, target_returns, num_envs, part_of(progress, place, len(found)))
    ]
    if where is not None:
        save_records(where, records)
    return records


def _writable(given: Any, run: Any) -> Path:
    """Return where records go; whoever could not save would have waited for nothing.

    A link in the run's own folder, which may be a stranger's, is not followed.
    """
    if not isinstance(given, str | Path):
        raise UsageError(f"out is {given!r:.100}; expected the name of a file.")
    out = Path(given)
    if out.is_dir():
        raise UsageError(f"out {out}; a folder, expected the name of a file.")
    if not isinstance(run, str | os.PathLike) or out.parent != Path(run):
        out = where_it_leads(out)
    read_records(out)
    require_file(out)
    return out


def part_of(progress: Progress, place: int, count: int) -> Progress:
    """Tell of the `place`th of `count` works of the same length as of all of them together."""
    return lambda done, total, **numbers: progress(place * total + done, count * total, **numbers)


def _evaluate(
    subject: Subject, starts: list[int], target_returns: TargetReturn, num_envs: int | None, progress: Progress
) -> list[dict[str, Any]]:
    policy, facts, where = subject.policy, subject.facts, subject.environment
    if target_returns is None:
        return records_of(_outcome(policy, where, starts, None, num_envs or len(starts), progress), facts, None)
    records, targets = [], checked_targets(target_returns, subject.config)
    together = num_envs or len(starts) * max(1, AT_ONCE // len(starts))
    asked = np.repeat(targets, len(starts))
    outcome = _outcome(policy, where, starts * len(targets), asked, together, progress)
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
        told = part_of(progress, place, len(firsts))
        parts.append(run_episodes(policy, environment, starts[some], target_return=target, progress=told))
    return Outcome.of(parts)


@usual_defaults
def validation_level(run: str | Path, environment: str, *, episodes: int, root_seed: int = ROOT_SEED) -> float:
    """Return the mean return of a run, or of "random", on the validation starts: a level for learning curves."""
    root_seed = whole("root_seed", root_seed)
    policy = UniformPolicy(environment_spec(environment), root_seed) if str(run) == "random" else load_policy(run)
    return run_episodes(policy, environment, validation_starts(root_seed, episodes)).mean_return


def checked_targets(target_returns: Sequence[float] | np.ndarray | float, config: Mapping[str, Any]) -> list[float]:
    """Return what a run is asked for, each once. Raises `UsageError` for what it cannot be; warns of what is unseen."""
    try:
        several = np.atleast_1d(np.asarray(target_returns, np.float64)).tolist()
        targets = list(dict.fromkeys(map(float, several)))  # one asked for twice is asked for once
    except (TypeError, ValueError):
        raise UsageError(f"target returns {target_returns!r}; expected numbers in reward units.") from None
    if not targets:
        raise UsageError("target_returns is empty; expected numbers, or None for what the run's own rule chooses.")
    own = config["algorithm"] == OWN
    if not own and (config.get("kind") != "sequence" or config["condition"] == "none" or plans(config)):
        raise UsageError(
            "target returns are for sequence models that are told what to earn; agents, behaviour cloning, planners "
            "and the policies without a run take none."
        )
    if not all(abs(target) <= LARGEST for target in targets):
        raise UsageError(f"target returns {targets}; expected finite numbers in reward units.")
    if own:
        return targets
    if config["condition"] == "advantage" and not all(0 <= target <= 1 for target in targets):
        raise UsageError(f"targets {targets}: the run is told quantiles of the advantage; expected numbers of 0 to 1.")
    if config["condition"] == "return":
        warn_of_unseen(targets, config["dataset"])
    return targets
