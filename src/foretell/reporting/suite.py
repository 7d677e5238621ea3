"""Runs over several environments: a row for each task (environment and data), a column for each method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from foretell.core.errors import UsageError
from foretell.core.run_settings import GREEDY
from foretell.core.scores import normalized_score
from foretell.core.seeding import stream
from foretell.reporting.comparison import (
    ROOT_SEED,
    Measured,
    environments_of,
    is_of,
    measure,
    places,
    references_of,
)
from foretell.reporting.run_results import RunResults
from foretell.reporting.statistics import BOOTSTRAP_SAMPLES, Estimate, estimate_mean, interquartile_mean
from foretell.reporting.suite_statistics import Sample, estimate_suite

Task = tuple[str, str | None]
"""An environment, and the name of the data that was learned from there."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Entry:
    """One method in one environment."""

    method: str
    run: str
    """Where it comes from, for messages."""
    networks: str
    """Whose networks act: a run's, in every environment and however it acts; of records alone nobody knows."""
    measured: Measured


def build_suite(results: Sequence[RunResults], references: Mapping[str, tuple[float, float]] | None) -> dict[str, Any]:
    """Return `{"protocol": {...}, "rows": [...], "methods": [...]}` of runs in several environments.

    `rows`: one for each task and method that is there: `environment`, `dataset`, `method`, `label`, `algorithm`,
    `target_return` (None: by the run's own rule), `mean_return`, `ci95`, `iqm`, `training_seeds`, `episodes` as in
    `comparison.build_comparison`, `normalized_score` and `normalized_ci95` (random 0, expert 100). `methods`: one for
    each, over `protocol["shared_tasks"]`, the tasks that all methods have: `method`, `mean_score`, `mean_ci95`, `iqm`
    and `iqm_ci95` of its scores (`suite_statistics.estimate_suite`), `difference` and `difference_ci95` (of the mean
    to the first method's). Where an environment has no references, scores and what is made of them are None.
    `protocol`: `environments` (of each its `evaluation_starts`, `starts_left_out`, `random_score`, `expert_score`,
    `scores_from`), `tasks`, `shared_tasks`, `bootstrap_samples`, `root_seed`, `against`.

    A method is what its runs were called by `--name`, else their algorithm, what they are told, and the share of the
    episodes that they learn from. A policy that learned from no data stands in every task of its environment.

    Raises `UsageError` where two runs are one method on one task, where one was asked for several returns and not
    evaluated by its own rule, and as `build_comparison` does.
    """
    names = environments_of(results)
    environments, cells = {}, {}
    for name in names:
        own = [one for one in results if is_of(one, name)]
        measured, left_out = measure(own, name)
        environments[name] = {
            "evaluation_starts": len(measured[0].scores.starts), "starts_left_out": left_out,
            **references_of(name, references, own),
        }  # fmt: skip
        entries = [
            _Entry(
                method=_method(own[place], one), run=str(own[place].path), networks=_networks(own[place], one, name),
                measured=one,
            )
            for place, one in zip(places(own, name), measured, strict=True)
        ]  # fmt: skip
        cells.update(_by_task(name, _by_own_rule(entries)))
    tasks = list(dict.fromkeys(task for task, _ in cells))
    # In the order of the rows, which the columns have.
    methods = list(dict.fromkeys(method for task in tasks for at, method in cells if at == task))
    shared = [task for task in tasks if all((task, method) in cells for method in methods)]
    scored = all(one["random_score"] is not None for one in environments.values())
    return {
        "protocol": {
            "environments": environments, "tasks": [*map(list, tasks)], "shared_tasks": [*map(list, shared)],
            "bootstrap_samples": BOOTSTRAP_SAMPLES, "root_seed": ROOT_SEED, "against": methods[0],
        },
        "rows": [
            _row(task, cells[task, method], environments[task[0]] if scored else {})
            for task in tasks for method in methods if (task, method) in cells
        ],
        "methods": _over_tasks(methods, shared, cells, environments) if scored and shared else [],
    }  # fmt: skip


def _networks(run: RunResults, measured: Measured, environment: str) -> str:
    alone = f" {environment} {measured.label}" if run.config is None else ""
    return f"{run.path} {measured.scores.seeds}{alone}"


def _method(run: RunResults, measured: Measured) -> str:
    """Return what a run's method is called."""
    greedy = measured.policy.endswith(GREEDY)
    policy = measured.policy.removesuffix(GREEDY)
    if policy not in (measured.algorithm, measured.dataset, *(measured.dataset or "").split(", ")):
        return measured.policy
    config = run.config or {}
    condition, share = config.get("condition"), config.get("best_share") or 1.0
    how = [_TOLD.get(str(condition), "")] + [f"best {100 * share:.10g}% of the episodes"] * (share < 1)
    how += ["greedy"] * greedy
    return measured.algorithm + (f" ({', '.join(filter(None, how))})" if any(how) else "")


_TOLD = {"advantage": "told advantages", "value": "told relabelled returns", "none": "told nothing"}


def _by_own_rule(entries: Sequence[_Entry]) -> list[_Entry]:
    """Return one entry for each policy of a run: by its own rule, else as it was asked for one return.

    Several returns under a `--name` of their own are left out where the run is there by its own rule.
    """
    found: dict[tuple[str, str], list[_Entry]] = {}
    for entry in entries:
        found.setdefault((entry.run, entry.measured.label), []).append(entry)
    by_rule = {entry.networks for entry in entries if entry.measured.target is None}
    several = [
        key for key, asked in found.items() if len(asked) > 1 and all(one.measured.target is not None for one in asked)
    ]
    for key in several:
        run, asked = key[0], found.pop(key)
        if asked[0].networks not in by_rule:
            raise UsageError(
                f"{run}: was asked for {len(asked)} returns, and not evaluated by its own rule; expected one way of "
                f"acting in a table over several environments. Run `foretell evaluate {run}` without --target-returns."
            )
    return [asked[0] for asked in found.values()]


def _by_task(environment: str, entries: Sequence[_Entry]) -> dict[tuple[Task, str], _Entry]:
    """Return the entries of an environment by task and method."""
    datasets = list(dict.fromkeys(one.measured.dataset for one in entries if one.measured.dataset is not None))
    cells: dict[tuple[Task, str], _Entry] = {}
    for entry in entries:
        for dataset in datasets or [None]:
            if entry.measured.dataset not in (None, dataset):
                continue
            place = (environment, dataset), entry.method
            if place in cells:
                where = f"{environment}, {dataset}" if dataset else environment
                raise UsageError(
                    f"{cells[place].run} and {entry.run}: are both {entry.method!r} on {where}; expected a method once "
                    "on a task. Run `foretell evaluate RUN --name METHOD`, with the same name on every task; several "
                    "seeds of one run are trained by `foretell train --seeds`."
                )
            cells[place] = entry
    return cells


def _row(task: Task, entry: _Entry, ends: Mapping[str, Any]) -> dict[str, Any]:
    own = entry.measured
    returns = own.scores.returns
    # The stream of a comparison's rows: the same records have the same interval there.
    mean = estimate_mean(returns, samples=BOOTSTRAP_SAMPLES, generator=stream(ROOT_SEED, "bootstrap"))
    low, high = ends.get("random_score"), ends.get("expert_score")
    scores = [None] * 3
    if low is not None and high is not None:
        scores = [
            round(normalized_score(x, random=low, expert=high), 9) for x in (own.scores.mean, mean.low, mean.high)
        ]
    return {
        "environment": task[0], "dataset": task[1], "method": entry.method, "label": own.label,
        "algorithm": own.algorithm, "target_return": own.target, "mean_return": mean.value,
        "ci95": [mean.low, mean.high], "iqm": interquartile_mean(returns.mean(axis=1)), "normalized_score": scores[0],
        "normalized_ci95": None if scores[0] is None else scores[1:],
        "training_seeds": [seed for seed in own.scores.seeds if seed is not None], "episodes": len(own.scores.starts),
    }  # fmt: skip


def _over_tasks(
    methods: Sequence[str],
    shared: Sequence[Task],
    cells: Mapping[tuple[Task, str], _Entry],
    environments: Mapping[str, Mapping[str, Any]],
) -> list[dict[str, Any]]:
    samples = [[_sample(task, cells[task, method], environments[task[0]]) for task in shared] for method in methods]
    estimates = estimate_suite(samples, samples=BOOTSTRAP_SAMPLES, root_seed=ROOT_SEED)
    return [
        {
            "method": method, "mean_score": one.mean.value, "mean_ci95": _ends(one.mean), "iqm": one.iqm.value,
            "iqm_ci95": _ends(one.iqm), "difference": one.difference.value, "difference_ci95": _ends(one.difference),
        }
        for method, one in zip(methods, estimates, strict=True)
    ]  # fmt: skip


def _sample(task: Task, entry: _Entry, ends: Mapping[str, Any]) -> Sample:
    low, high = ends["random_score"], ends["expert_score"]
    scores = 100.0 * (entry.measured.scores.returns - low) / (high - low)  # `core.scores.normalized_score` of all
    return Sample(environment=task[0], networks=entry.networks, scores=scores)


def _ends(estimate: Estimate) -> list[float]:
    return [estimate.low, estimate.high]
