"""Evaluation records, checked and laid out as matrices: one row a training seed, one column a start state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from foretell.core.decimals import counted
from foretell.core.errors import CheckpointError
from foretell.core.forms import Form, check_form
from foretell.core.run_forms import RECORD
from foretell.core.warning import warn_caller

FORM = {**{key: form for key, form in RECORD.items() if key != "length?"}, "length": int}
"""What every record holds (docs/evaluation.md): one line per (policy, training seed, start state)."""

MEND = "Remove its lines and run `foretell evaluate` again."


@dataclass(frozen=True, kw_only=True, eq=False)
class PolicyScores:
    """Every return of one policy, in reward units: `returns[i, j]` is of `seeds[i]` from start state `starts[j]`."""

    policy: str
    seeds: tuple[int | None, ...]
    starts: tuple[int, ...]
    returns: Float[np.ndarray, "seeds starts"]
    targets: tuple[float, ...]
    """The distinct asked returns, ascending; empty where nothing was asked (random, SAC)."""

    @property
    def mean(self) -> float:
        """Mean return of all episodes."""
        return float(self.returns.mean())


def scores_by_policy(
    records: Sequence[Mapping[str, Any]], source: str = "evaluations.jsonl"
) -> dict[str, PolicyScores]:
    """Lay out the records of every policy over one shared list of start states (ascending).

    Raises `CheckpointError`, naming policy, seed and start, where a policy lacks a start state for a seed or has it
    twice, and where a record lacks a key or its return is not a finite number.
    """
    if not records:
        raise CheckpointError(f"{source}: holds no records; expected one per episode. Run `foretell evaluate` first.")
    check_records(records, source)
    starts = tuple(sorted({record["start"] for record in records}))
    policies = dict.fromkeys(record["policy"] for record in records)
    return {
        policy: _scores_of(policy, [record for record in records if record["policy"] == policy], starts, source)
        for policy in policies
    }


def check_records(records: Sequence[Mapping[str, Any]], source: str, form: Form = FORM) -> None:
    """Raise `CheckpointError`, naming the record, where one lacks a key or a number is not a finite number."""
    for number, record in enumerate(records, start=1):
        check_form(record, form, f"{source}: record {number}", MEND)


def check_alike(records: Sequence[Mapping[str, Any]], source: str) -> None:
    """Raise `CheckpointError` where one policy's records are of several algorithms; warn where they are of other runs.

    Seeds may have learned from data of their own, called otherwise.
    """
    for policy in dict.fromkeys(record["policy"] for record in records):
        _check_policy(policy, [record for record in records if record["policy"] == policy], source)


def _check_policy(policy: str, records: Sequence[Mapping[str, Any]], source: str) -> None:
    algorithms = list(dict.fromkeys(str(record["algorithm"]) for record in records))
    if len(algorithms) > 1:
        raise CheckpointError(
            f"{source}: the records of policy {policy!r} are of {', '.join(algorithms)}; expected one algorithm, of "
            "which they are training seeds. Evaluate each with a --name of its own."
        )
    settings = {record["settings"] for record in records if record.get("settings")}  # older records say nothing
    data = {(record["dataset"], record["data"]) for record in records if record.get("data")}
    others = ["with other settings"] * (len(settings) > 1)
    others += ["on other data of the same name"] * (len({name for name, _ in data}) < len(data))
    if others:
        warn_caller(
            f"{source}: seeds of policy {policy!r} were trained or act differently ({', '.join(others)}), and are "
            "taken for one policy. Evaluate each with a --name of its own to have them apart."
        )


def _scores_of(policy: str, records: Sequence[Mapping[str, Any]], starts: tuple[int, ...], source: str) -> PolicyScores:
    seeds = tuple(sorted({record["seed"] for record in records}, key=lambda seed: -1 if seed is None else seed))
    rows, columns = (
        {seed: row for row, seed in enumerate(seeds)},
        {start: column for column, start in enumerate(starts)},
    )
    returns = np.full((len(seeds), len(starts)), np.nan)
    for record in records:
        cell = rows[record["seed"]], columns[record["start"]]
        if not np.isnan(returns[cell]):
            raise CheckpointError(
                f"{source}: policy {policy!r}, seed {record['seed']}, start {record['start']} is there twice; expected "
                f"every start state once per seed. {MEND}"
            )
        returns[cell] = record["return"]
    if np.isnan(returns).any():
        row, column = np.argwhere(np.isnan(returns))[0]
        raise CheckpointError(
            f"{source}: policy {policy!r}, seed {seeds[row]} has no record for start {starts[column]}; expected the "
            f"same {counted(len(starts), 'start state')} for every policy and seed. {MEND}"
        )
    targets = sorted({float(record["target"]) for record in records if record["target"] is not None})
    return PolicyScores(policy=policy, seeds=seeds, starts=starts, returns=returns, targets=tuple(targets))
