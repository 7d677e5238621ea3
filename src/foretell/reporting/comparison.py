"""Runs of one's own beside each other: the table, from evaluation records alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from foretell.core.decimals import counted
from foretell.core.errors import UsageError
from foretell.core.run_settings import GREEDY, flat, is_of_one_seed, with_what_is_meant, without_effect
from foretell.core.scores import checked_references, normalized_score
from foretell.core.seeding import stream
from foretell.core.warning import warn_caller
from foretell.environments.tasks import TASKS
from foretell.reporting.records import PolicyScores, scores_by_policy
from foretell.reporting.run_results import RunResults
from foretell.reporting.statistics import (
    BOOTSTRAP_SAMPLES,
    Estimate,
    estimate_difference,
    estimate_mean,
    interquartile_mean,
)

ROOT_SEED = 0
"""Of the bootstrap: the same records give the same table."""

Records = Sequence[Mapping[str, Any]]
References = tuple[float, float] | Mapping[str, tuple[float, float]]
"""Mean returns of random acting and of an expert; of several environments by their names."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """One policy as it was asked for one return, or by its own rule (None), from the start states that all share."""

    networks: str
    """Whose networks act: a run's, whatever it is asked for and however it acts."""
    label: str
    policy: str
    """What the records call it."""
    target: float | None
    algorithm: str
    dataset: str | None
    scores: PolicyScores
    """Columns in the order that the first of all policies was evaluated in."""


def build_comparison(
    results: Sequence[RunResults],
    environment: str | None = None,
    references: References | None = None,
) -> dict[str, Any]:
    """Return `{"protocol": {...}, "rows": [...]}`: a row for each policy and asked return, in the order of `results`.

    `protocol`: `environment`, `evaluation_starts` (their number), `starts_left_out` (how many more a row has),
    `bootstrap_samples`, `root_seed` (of the bootstrap), `against` (the first row's label). A row, in reward units but
    for the score: `label`, `algorithm`, `dataset`, `target_return` (None: by the run's own rule), `mean_return`,
    `ci95`, `iqm` (of the training seeds' means),
    `difference` and `difference_ci95` (to the first row, paired by start state; 0 for that row itself),
    `normalized_score` (random 0, expert 100; None where these are not known), `training_seeds`, `episodes` (start
    states, once a seed), `settings` (`told_apart`). `references` are the mean returns that the score calls 0 and 100,
    those of `references_of`; `protocol` has them as `random_score`, `expert_score`, and `scores_from` in words.

    Start states that not all have are left out, with a warning. Raises `UsageError` where the records are of several
    environments and `environment` names none of them, or share no start state, and for references that are no two
    numbers apart.
    """
    name = environment_of(results, environment)
    ends = references_of(name, references, results)
    measured, left_out = measure(results, name)
    if left_out:
        kept = len(measured[0].scores.starts)
        warn_caller(
            f"{name}: only {counted(kept, 'start state')} that all have are compared, of up to {kept + left_out}; "
            "`foretell evaluate` with the same --episodes for all makes it more."
        )
    first, apart = measured[0], told_apart(results)
    settings = [apart[place] for place in places(results, name)]
    protocol = {
        "environment": name,
        "evaluation_starts": len(first.scores.starts),
        "starts_left_out": left_out,
        "bootstrap_samples": BOOTSTRAP_SAMPLES,
        "root_seed": ROOT_SEED,
        "against": name_of(first.label, first.target),
        **ends,
    }
    low, high = ends["random_score"], ends["expert_score"]
    rows = [{**_row(one, first, low, high), "settings": own} for one, own in zip(measured, settings, strict=True)]
    return {"protocol": protocol, "rows": rows}


def told_apart(results: Sequence[RunResults]) -> list[dict[str, Any]]:
    """Return the settings of each run that are not the same in all that have settings, by dotted names.

    Left out are what rows say anyway, what follows from the data, and what changes no number.
    """
    left_out = ("kind", "algorithm", "versions.", "dataset.", "normalization.", "environment.", "shape.", "validation.")
    found = [
        {
            key: value
            for key, value in (with_what_is_meant(flat(one.config)) if one.config else {}).items()
            if not (is_of_one_seed(key) or key.startswith(left_out) or without_effect(key, {}))
        }
        for one in results
    ]
    keys = dict.fromkeys(key for one in found for key in one)
    several = [
        key for key in keys if any(one.get(key) != other.get(key) for one in found for other in found if one and other)
    ]
    return [{key: one[key] for key in several if key in one} for one in found]


def name_of(label: str, target: float | None) -> str:
    """Return a row's name: its label, and what was asked for.

    >>> name_of("dt", None), name_of("dt", -150.0)
    ('dt', 'dt asked -150')
    """
    return label if target is None else f"{label} asked {asked_phrase(target)}"


def asked_phrase(target: float | None) -> str:
    """Return what was asked for, for people.

    >>> asked_phrase(None), asked_phrase(-150.0)
    ('—', '-150')
    """
    return "—" if target is None else f"{target:.10g}"


def references_of(environment: str, references: References | None, results: Sequence[RunResults]) -> dict[str, Any]:
    """Return the two mean returns that the score calls 0 and 100 in an environment, and where they come from.

    `random_score`, `expert_score`, `scores_from`; each None where they are not known. Unless given, those that the data
    of the runs have for their own environment, where all that have any agree; else those of `environments.tasks`.
    Raises `UsageError` for what are no two numbers apart.
    """
    if isinstance(references, Mapping):
        references = references.get(environment)
    task = TASKS.get(environment)
    if references is not None:
        (low, high), source = checked_references(references), "given by --references"
    elif (of_data := _references_of_data(environment, results)) is not None:
        (low, high), source = of_data, "reference scores of the data"
    elif task is not None:
        low, high, source = task.random_score, task.expert_score, task.source
    else:
        low = high = source = None
    return {"random_score": low, "expert_score": high, "scores_from": source}


def _references_of_data(environment: str, results: Sequence[RunResults]) -> tuple[float, float] | None:
    """Return those of the data that runs learned from, None where none has any; where they differ, with a warning."""
    configs = [one.config for one in results if one.config]
    own = [config for config in configs if (config.get("environment") or {}).get("name") == environment]
    found = {tuple(ends) for config in own if (ends := (config.get("dataset") or {}).get("reference_scores"))}
    if len(found) > 1:
        said = ", ".join(f"{low:g} to {high:g}" for low, high in sorted(found))
        warn_caller(
            f"{environment}: the data of these runs have different reference scores ({said}); none of them is used. "
            "Give --references."
        )
    return checked_references(found.pop()) if len(found) == 1 else None


def environments_of(results: Sequence[RunResults]) -> list[str]:
    """Return where the records are of: the one environment that all runs were evaluated in, else every one there is."""
    found = _names(results)
    common = [name for name in found if all(is_of(one, name) for one in results)]
    return common if len(common) == 1 else found  # where all but one are of some alone, that one is meant


def is_of(results: RunResults, environment: str) -> bool:
    """Say whether a run was evaluated in an environment."""
    return any(record["environment"] == environment for record in results.records)


def _names(results: Sequence[RunResults]) -> list[str]:
    return list(dict.fromkeys(str(record["environment"]) for one in results for record in one.records))


def environment_of(results: Sequence[RunResults], environment: str | None) -> str:
    """Return the environment that is meant. Raises `UsageError` where the records are of several, or not of it."""
    found = environments_of(results) if environment is None else [environment]
    if len(found) == 1 and found[0] in _names(results):
        return found[0]
    asked = "several environments" if environment is None else f"--environment {environment}"
    raise UsageError(
        f"{asked}: the records are of {', '.join(_names(results))}; expected one of them with --environment."
    )


def measure(results: Sequence[RunResults], environment: str) -> tuple[list[Measured], int]:
    """Return every policy and asked return of the results, over the start states that all of them have, and how many
    more than these one of them has."""
    groups = [group for one in results for group in _groups(one, environment)]
    shared = shared_starts(results, environment)
    longest = max(len({record["start"] for record in records}) for *_, records in groups)
    if not shared:
        raise UsageError(
            f"the records of {environment} share no start state; expected policies that acted from the same ones. Run "
            "`foretell evaluate` for all with the same --root-seed and --episodes."
        )
    order = list(dict.fromkeys(record["start"] for record in groups[0][-1] if record["start"] in shared))
    return [_measured(*group, order) for group in groups], longest - len(shared)


def places(results: Sequence[RunResults], environment: str) -> list[int]:
    """Return for every row of the table the place of its run among the results."""
    return [place for place, one in enumerate(results) for _ in _groups(one, environment)]


def shared_starts(results: Sequence[RunResults], environment: str) -> set[int]:
    """Return the start states that every policy has, for every asked return and with every seed."""
    return set.intersection(*(_starts(records) for one in results for *_, records in _groups(one, environment)))


def _groups(results: RunResults, environment: str) -> list[tuple[str, str, float | None, Records]]:
    """Return the records of each policy and asked return, with whose networks act and a label; what the run's own rule
    asks comes first."""
    records = [record for record in results.records if record["environment"] == environment]
    policies = list(dict.fromkeys(record["policy"] for record in records))
    if not policies:
        raise UsageError(f"{results.path}: has no records of {environment}; run `foretell evaluate` there.")
    groups: list[tuple[str, str, float | None, Records]] = []
    for policy in policies:
        alone = len(policies) == 1 and not policy.endswith(GREEDY)
        label = results.label if alone else f"{results.label}: {policy}"
        networks = label if results.config is None else results.label
        own = [record for record in records if record["policy"] == policy]
        targets = {record["target"] for record in own}
        for target in sorted(targets, key=lambda one: (one is not None, one or 0.0)):
            groups.append((networks, label, target, [record for record in own if record["target"] == target]))
    return groups


def _starts(records: Records) -> set[int]:
    """Return the start states that every seed has."""
    seeds = {record["seed"] for record in records}
    return set.intersection(*({r["start"] for r in records if r["seed"] == seed} for seed in seeds))


def _measured(networks: str, label: str, target: float | None, records: Records, order: Sequence[int]) -> Measured:
    shared = {*order}
    (scores,) = scores_by_policy([record for record in records if record["start"] in shared], label).values()
    columns = [scores.starts.index(start) for start in order]
    datasets = dict.fromkeys(record["dataset"] for record in records if record["dataset"] is not None)
    return Measured(
        networks=networks, label=label, policy=records[0]["policy"], target=target, algorithm=records[0]["algorithm"],
        dataset=", ".join(datasets) or None,
        scores=replace(scores, starts=tuple(order), returns=scores.returns[:, columns]),
    )  # fmt: skip


def _row(own: Measured, first: Measured, low: float | None, high: float | None) -> dict[str, Any]:
    score = None
    if low is not None and high is not None:
        score = round(normalized_score(own.scores.mean, random=low, expert=high), 9)
    returns = own.scores.returns
    # One stream for all rows: equal records have equal intervals, and those that `foretell evaluate` prints of them.
    mean = estimate_mean(returns, samples=BOOTSTRAP_SAMPLES, generator=stream(ROOT_SEED, "bootstrap"))
    difference = Estimate(value=0.0, low=0.0, high=0.0)
    if own is not first:
        difference = estimate_difference(
            returns, first.scores.returns, samples=BOOTSTRAP_SAMPLES, generator=stream(ROOT_SEED, "bootstrap"),
            same_seeds=own.networks == first.networks and own.scores.seeds == first.scores.seeds,
        )  # fmt: skip
    return {
        "label": own.label,
        "algorithm": own.algorithm,
        "dataset": own.dataset,
        "target_return": own.target,
        "mean_return": mean.value,
        "ci95": [mean.low, mean.high],
        "iqm": interquartile_mean(returns.mean(axis=1)),
        "difference": difference.value,
        "difference_ci95": [difference.low, difference.high],
        "normalized_score": score,
        "training_seeds": [seed for seed in own.scores.seeds if seed is not None],
        "episodes": len(own.scores.starts),
    }
