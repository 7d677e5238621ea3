"""Reading an experiment's folder: everything a report is made of, checked before anything is drawn."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from foretell.core.errors import CheckpointError
from foretell.core.files import read_json, read_json_lines
from foretell.core.forms import Name, check_form
from foretell.core.run_forms import check_events
from foretell.reporting.asked import Support
from foretell.reporting.records import check_records

MEND = "Run `foretell reproduce` on that folder again, which makes what is missing."

FORM = {
    "title": Name, "preset": str, "quick": bool, "commands": list, "versions": {...: str}, "wall_seconds": float,
    "machine": str, "validation_levels": {"random": float, "sac": float},
    "protocol": {
        "environment": Name, "root_seed": int, "evaluation_starts": int, "training_seeds": [int], "checkpoint": str,
        "acting": str, "target_rule": str, "bootstrap_samples": int,
    },
    "rows": [{
        "name": Name, "algorithm": Name, "dataset": (Name, None), "report": (float, None), "label?": Name,
        "condition?": (Name, None),
    }],
    "curves": [{"figure": Name, "title": Name, "dataset": (Name, None), "runs": [Name], "policy?": Name}],
}  # fmt: skip
"""What `experiment.json` holds."""
CARD = {
    "steps?": int, "episodes?": int, "warnings?": (list, None),
    "returns?": ({"quantiles?": ({...: float}, None), "mean?": (float, None), "max?": (float, None)}, None),
}  # fmt: skip
MOST_SAMPLES = 1_000_000
"""Resamples of a bootstrap: what they take grows with them."""


@dataclass(frozen=True, kw_only=True)
class ExperimentInputs:
    """The files of one experiment's folder, parsed. Cards, asked records and events may be missing, the rest not."""

    folder: Path
    experiment: Mapping[str, Any]
    records: Sequence[Mapping[str, Any]]
    asked: Sequence[Mapping[str, Any]]
    cards: Mapping[str, Mapping[str, Any]]
    events: Mapping[str, Sequence[Mapping[str, Any]]]
    """Of each run folder that has an `events.jsonl`, by its path in `experiment.json`."""


def read_experiment(folder: Path) -> ExperimentInputs:
    """Read `experiment.json`, `evaluations.jsonl` and, where they are, `asked.jsonl`, `cards/` and the runs' events.

    Raises `CheckpointError` where one of the first two is missing, or any of them is damaged or lacks a key.
    """
    folder = Path(folder)
    for name, maker in (("experiment.json", "foretell reproduce"), ("evaluations.jsonl", "foretell evaluate")):
        if not (folder / name).is_file():
            raise CheckpointError(
                f"{folder / name}: no such file; expected an experiment's folder. Make it with `{maker}`."
            )
    experiment = read_json(folder / "experiment.json")
    _check_experiment(experiment, folder / "experiment.json")
    runs = dict.fromkeys(run for curve in experiment["curves"] for run in curve["runs"])
    records = {
        path.name: read_json_lines(path)
        for path in (folder / "evaluations.jsonl", folder / "asked.jsonl")
        if path.is_file()
    }
    for name, lines in records.items():
        check_records(lines, str(folder / name))
    return ExperimentInputs(
        folder=folder,
        experiment=experiment,
        records=records["evaluations.jsonl"],
        asked=records.get("asked.jsonl", ()),
        cards={path.stem: _read_card(path) for path in sorted(folder.glob("cards/*.json"))},
        events={
            run: read_events(folder / run / "events.jsonl") for run in runs if (folder / run / "events.jsonl").is_file()
        },
    )


def _check_experiment(experiment: Any, path: Path) -> None:
    check_form(experiment, FORM, str(path), MEND)
    for run in (run for curve in experiment["curves"] for run in curve["runs"]):
        if PurePosixPath(run).is_absolute() or PureWindowsPath(run).drive or ".." in run.replace("\\", "/").split("/"):
            raise CheckpointError(f"{path}: a curve is of {run!r}; expected a folder inside the experiment's. {MEND}")
    if not 1 <= (samples := experiment["protocol"]["bootstrap_samples"]) <= MOST_SAMPLES:
        raise CheckpointError(f"{path}: bootstrap_samples is {samples}; expected 1 to {MOST_SAMPLES:,}. {MEND}")
    for name in [curve["figure"] for curve in experiment["curves"]] + [row["name"] for row in experiment["rows"]]:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
            raise CheckpointError(
                f"{path}: {name!r} names a file; expected letters, digits, '.', '_' and '-'. Rename it."
            )


def _read_card(path: Path) -> Mapping[str, Any]:
    card = read_json(path)
    check_form(card, CARD, str(path), MEND)
    for quantile in (card.get("returns") or {}).get("quantiles") or {}:
        try:
            held = 0 <= float(quantile) <= 1
        except ValueError:
            held = False
        if not held:
            raise CheckpointError(f"{path}: a quantile called {quantile!r:.60}; expected a number of 0 to 1. {MEND}")
    return card


def read_events(path: Path) -> Sequence[Mapping[str, Any]]:
    """Return the events of a run, each with what figures read; raises `CheckpointError` where one lacks it."""
    events = read_json_lines(path)
    check_events(events, path)
    return events


def support_of(card: Mapping[str, Any] | None) -> Support | None:
    """Return the outermost returns' quantiles of a dataset card, reward units; None where the card has none."""
    quantiles = ((card or {}).get("returns") or {}).get("quantiles")
    if not quantiles:
        return None
    low, high = min(quantiles, key=float), max(quantiles, key=float)
    return Support(low=float(quantiles[low]), high=float(quantiles[high]), share=float(high) - float(low))
