"""What runs left behind: records, events and settings, of run folders, folders of seeds and record files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from foretell.core.errors import CheckpointError, UsageError
from foretell.core.files import read_json_lines
from foretell.core.forms import Name
from foretell.core.run_forms import read_config
from foretell.core.seeds_folder import require_alike, runs_of_seeds
from foretell.core.warning import warn_caller
from foretell.reporting.inputs import read_events
from foretell.reporting.records import FORM, check_alike, check_records

RECORDS = "evaluations.jsonl"
SUFFIX = ".jsonl"


@dataclass(frozen=True, kw_only=True, eq=False)
class RunResults:
    """One run, or several seeds of it, or a file of records alone, of which `config` and `events` know nothing."""

    path: Path
    label: str
    records: Sequence[Mapping[str, Any]]
    config: Mapping[str, Any] | None
    """Settings of the run, of several seeds the first's."""
    events: Sequence[Sequence[Mapping[str, Any]]]
    """Of each seed."""


def read_results(paths: Sequence[Path]) -> list[RunResults]:
    """Read run folders, folders of seeds, and files of records; each is labelled by its name, by its path where two
    have the same one.

    Raises `UsageError` where one is given twice, and where seeds differ in more than the seed; `CheckpointError` where
    one is none of these or has no records yet, or a file is damaged.
    """
    doubled = [path for path, count in Counter(path.resolve() for path in paths).items() if count > 1]
    if doubled:
        raise UsageError(f"{doubled[0]}: is given twice; expected every run once.")
    found = [_read(path) for path in paths]
    names = Counter(one.label for one in found)
    return [one if names[one.label] == 1 else replace(one, label=str(one.path)) for one in found]


def _read(path: Path) -> RunResults:
    label = path.stem if path.suffix == SUFFIX else path.resolve().name
    if path.is_file() and path.suffix == SUFFIX:
        return RunResults(path=path, label=label, records=_records(path), config=None, events=())
    seeds = runs_of_seeds(path)
    runs = seeds or ([path] if (path / "config.json").exists() else [])
    if not runs:
        what = "is no run" if path.exists() else "does not exist"
        raise CheckpointError(
            f"{path}: {what}; expected a run folder, a folder of several seeds, a file of evaluation records "
            f"({SUFFIX}), or an experiment's folder with its experiment.json. Make one with `foretell train` or "
            "`foretell reproduce`."
        )
    require_alike(seeds)
    found = _records_of(path, seeds)
    if seeds:
        _check_same_data(path, seeds, found)
        runs = _recorded(path, seeds, found)
    logs = [run / "events.jsonl" for run in runs]
    return RunResults(
        path=path,
        label=label,
        records=found,
        config=read_config((runs or seeds)[0] / "config.json"),
        events=[read_events(log) for log in logs if log.exists()],
    )


def _records_of(path: Path, seeds: Sequence[Path]) -> list[Mapping[str, Any]]:
    """Return what was recorded of a run, or of all seeds together; else what was recorded of each."""
    if (path / RECORDS).exists():
        return _records(path / RECORDS)
    found = [record for run in seeds or [path] for record in _records_of_one(run)]
    if not found:
        raise CheckpointError(f"{path}: holds no evaluation records. Make them with `foretell evaluate {path}`.")
    return found


def _recorded(path: Path, seeds: Sequence[Path], records: Sequence[Mapping[str, Any]]) -> list[Path]:
    """Return the seeds that there are records of; warns of the others."""
    recorded = {record["seed"] for record in records}
    found = [run for run in seeds if int(run.name.removeprefix("seed-")) in recorded]
    if missing := [run.name for run in seeds if run not in found]:
        warn_caller(
            f"{path}: there are no records of {', '.join(missing)}; the report is of the others alone. Run `foretell "
            f"evaluate {path}` for all."
        )
    return found


def _check_same_data(path: Path, seeds: Sequence[Path], records: Sequence[Mapping[str, Any]]) -> None:
    """Raise `CheckpointError` where all records of a seed are of runs on other data: they are another folder's."""
    for run in seeds:
        config = read_config(run / "config.json")
        seed, learned = config.get("seed"), (config.get("dataset") or {}).get("fingerprint")
        data = [one.get("data") for one in records if one["seed"] == seed]
        if learned and data and not {None, learned[:16]} & {*data}:
            raise CheckpointError(
                f"{path}: its records of seed {seed} are of a run on other data than {run}; they are another folder's. "
                f"Remove {path / RECORDS} and run `foretell evaluate {path}` again."
            )


def _records_of_one(run: Path) -> list[Mapping[str, Any]]:
    """Return what was recorded of a run by itself, else of its seed beside all the others'."""
    if (run / RECORDS).exists():
        return _records(run / RECORDS)
    run = run.resolve()
    beside = run.parent / RECORDS
    if run not in runs_of_seeds(run.parent) or not beside.exists():
        return []
    seed = int(run.name.removeprefix("seed-"))
    return [record for record in _records(beside) if record["seed"] == seed]


def _records(path: Path) -> list[Mapping[str, Any]]:
    records = read_json_lines(path)
    check_records(records, str(path), {**FORM, "environment": Name})
    check_alike(records, str(path))
    if not records:
        raise CheckpointError(f"{path}: holds no evaluation records. Run `foretell evaluate` again.")
    return [*records]
