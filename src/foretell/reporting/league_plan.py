"""What a league compares: methods, the datasets they learned from, and the policy that came of each pair."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from foretell.core.errors import CheckpointError
from foretell.reporting.tables import RANDOM, SAC

OPTIMUM = "optimum"
"""The policy that regret is measured against: the best that can be done from each start state."""

REFERENCES = {RANDOM: "random policy", SAC: "SAC agent", OPTIMUM: "optimum"}
"""The policies that every method is measured against, with their labels."""

MEND = "Mend it, or make it again with `foretell reproduce --league`."


@dataclass(frozen=True, kw_only=True)
class Method:
    """A way of learning a policy: `label` is its name for people, `condition` what the policy is told, if anything."""

    name: str
    label: str
    algorithm: str
    condition: str | None


@dataclass(frozen=True, kw_only=True)
class Entry:
    """The policy, by its name in the records, that a method learned from a dataset."""

    policy: str
    method: Method
    dataset: str


@dataclass(frozen=True, kw_only=True)
class LeaguePlan:
    """Rows and columns of a league, in their order, and the cells that are filled."""

    methods: tuple[Method, ...]
    datasets: tuple[str, ...]
    entries: tuple[Entry, ...]
    """In the order of the methods, and for each of the datasets."""


def league_plan(experiment: Mapping[str, Any], where: str = "experiment.json") -> LeaguePlan:
    """Return the plan that stands in `experiment["league"]`.

    Raises `CheckpointError`, naming `where`, where a part or key is missing, a name is there twice or cannot be a
    file's name, or an entry's method or dataset is none of the league's.
    """
    where = f"{where}: league"
    league = _object(experiment.get("league"), ("methods", "datasets", "entries"), where)
    methods = [
        Method(**_object(value, ("name", "label", "algorithm", "condition"), f"{where}.methods[{number}]"))
        for number, value in enumerate(_list(league["methods"], f"{where}.methods"))
    ]
    datasets = _list(league["datasets"], f"{where}.datasets")
    _check_names([*REFERENCES, *(method.name for method in methods)], f"{where}.methods")
    _check_names(datasets, f"{where}.datasets")
    _check_labels([method.label for method in methods], f"{where}.methods")
    entries: dict[tuple[str, str], Entry] = {}
    for number, value in enumerate(_list(league["entries"], f"{where}.entries")):
        entry = _entry(value, methods, datasets, f"{where}.entries[{number}]")
        place = entry.method.name, entry.dataset
        if place in entries:
            raise CheckpointError(
                f"{where}.entries[{number}]: {place[0]!r} on {place[1]!r} is there twice; expected one entry. {MEND}"
            )
        entries[place] = entry
    _check_names([*REFERENCES, *(entry.policy for entry in entries.values())], f"{where}.entries")
    places = [(method.name, dataset) for method in methods for dataset in datasets]
    ordered = tuple(entries[place] for place in places if place in entries)
    return LeaguePlan(methods=tuple(methods), datasets=tuple(datasets), entries=ordered)


def _entry(value: Any, methods: Sequence[Method], datasets: Sequence[str], where: str) -> Entry:
    value = _object(value, ("policy", "method", "dataset"), where)
    known = {method.name: method for method in methods}
    for key, names in (("method", list(known)), ("dataset", datasets)):
        if value[key] not in names:
            raise CheckpointError(f"{where} has {key} {value[key]!r}; expected one of {', '.join(names)}. {MEND}")
    return Entry(policy=value["policy"], method=known[value["method"]], dataset=value["dataset"])


def _object(value: Any, keys: Sequence[str], where: str) -> dict[str, Any]:
    """Return the keys of an object; others may stand beside them."""
    missing = [key for key in keys if key not in value] if isinstance(value, dict) else keys
    if missing:
        raise CheckpointError(f"{where} lacks {missing[0]!r}; expected an object with {', '.join(keys)}. {MEND}")
    return {key: value[key] for key in keys}


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise CheckpointError(f"{where} is {value!r}; expected a list with at least one item. {MEND}")
    return value


def _check_names(names: Sequence[Any], where: str) -> None:
    """Hold names to what a file can be called, and to being told apart."""
    for number, name in enumerate(names):
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
            raise CheckpointError(
                f"{where}: {name!r} names a file; expected letters, digits, '.', '_' and '-'. Rename it."
            )
        if name in names[:number]:
            raise CheckpointError(f"{where}: {name!r} is the name of two; expected a name for each. Rename one.")


def _check_labels(labels: Sequence[Any], where: str) -> None:
    for number, label in enumerate(labels):
        if not isinstance(label, str) or not label.strip() or label in labels[:number]:
            raise CheckpointError(
                f"{where}[{number}] has label {label!r}; expected a name for people that no other method has. {MEND}"
            )
