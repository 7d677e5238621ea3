"""Evaluation records: one JSON object an episode, from which every table is computed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from foretell.core.decimals import counted
from foretell.core.errors import CheckpointError
from foretell.core.files import read_json_lines, write_json_lines
from foretell.core.forms import check_form
from foretell.core.locks import a_turn
from foretell.core.run_forms import RECORD
from foretell.core.warning import warn_caller
from foretell.evaluation.protocol import Outcome

IDENTITY = ("environment", "policy", "algorithm", "seed", "start", "target")
"""What tells two records apart."""
ROUNDING = 1e-3
"""Part of a return by which that of the same run may differ: how many episodes are at once is in its last bits, and an
episode makes more of them."""


def records_of(outcome: Outcome, facts: Mapping[str, Any], target: float | None) -> list[dict[str, Any]]:
    """Return a record for each episode; `facts` say whose they are, `target` is the return asked for."""
    return [
        {**facts, "start": start, "target": target, "return": float(earned), "length": int(length)}
        for start, earned, length in zip(outcome.starts, outcome.returns, outcome.lengths)
    ]


def read_records(path: Path) -> list[dict[str, Any]]:
    """Return the records that a file holds, none where there is no file yet.

    Raises `CheckpointError` where it holds something else, which nothing should be added to.
    """
    try:
        records = read_json_lines(path) if path.exists() else []
    except CheckpointError as error:
        raise CheckpointError(f"{error} Records would be added to it; to keep it, choose another --out.") from None
    for number, record in enumerate(records, start=1):
        try:
            check_form(record, dict.fromkeys(IDENTITY, object), f"record {number}", "")
            check_form(record, RECORD, f"record {number}", "", partial=True)
        except CheckpointError as error:
            raise CheckpointError(
                f"{path}: holds no evaluation records ({str(error).removesuffix('. ')}); choose another --out."
            ) from None
    return records


def save_records(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Add records to a file; those of the same environment, policy, algorithm, seed, start and target are replaced,
    with a warning where they had other returns, by more than rounding: another run may have been called the same.

    Several may save into one file at the same time. Raises `CheckpointError` where the file holds something else:
    nothing is then written.
    """
    with a_turn(path.parent):
        kept = {_identity(record): record for record in read_records(path)}
        known = [(kept[_identity(record)], record) for record in records if _identity(record) in kept]
        others = sum(not _alike(old.get("return"), record["return"]) for old, record in known)
        kept.update({_identity(record): dict(record) for record in records})
        write_json_lines(path, kept.values())
    if others:
        warn_caller(
            f"{path}: {counted(others, 'record')} of this policy, seed and these starts had other returns, and "
            f"{'was' if others == 1 else 'were'} replaced. Are they of another run? --name tells runs apart."
        )


def _alike(before: Any, now: float) -> bool:
    return isinstance(before, int | float) and math.isclose(before, now, rel_tol=ROUNDING, abs_tol=1e-6)


def _identity(record: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(record[name] for name in IDENTITY)
