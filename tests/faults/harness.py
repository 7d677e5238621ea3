"""Fault checks: each injects faults, counts how often the right thing came of it, and can be run alone.

A check is a function `(scale) -> (passed, total)` with a name, in one of `MODULES`. The quick form of each runs in
`make test`; `make faults` runs the full form of all and writes the figures.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MODULES = (
    "file_operations", "full_disk", "damage", "fuzzing", "hostile_hdf5", "episode_defects", "clean_recordings",
    "divergence", "interruption", "signals", "simultaneous", "folders", "paths", "determinism",
    "memory", "guards",
)  # fmt: skip
"""Modules of this folder that hold checks, in the order in which they run."""
SHOWN = 10
"""Failures of a check that are said; the rest is counted."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How much is tried, and an empty folder to try it in."""

    full: bool
    folder: Path

    def pick(self, quick: int, full: int) -> int:
        """Return the number for this scale."""
        return full if self.full else quick


Check = Callable[[Scale], tuple[int, int]]
CHECKS: dict[str, Check] = {}
LONG: set[str] = set()
"""Checks that have no quick form."""


def fault_check(name: str, *, quick: bool = True) -> Callable[[Check], Check]:
    """Register a check under the name that `results/faults.json` will show."""

    def register(check: Check) -> Check:
        assert CHECKS.setdefault(name, check) is check, name
        if not quick:
            LONG.add(name)
        return check

    return register


class Tally:
    """Counts cases, and says which ones failed."""

    def __init__(self) -> None:
        self.passed = self.total = 0

    def add(self, good: bool, what: object) -> None:
        """Count one case; `what` says which it was."""
        self.total += 1
        self.passed += good
        if not good and self.total - self.passed <= SHOWN:
            print(f"    failed: {what}", file=sys.stderr, flush=True)

    @property
    def figures(self) -> tuple[int, int]:
        """What a check returns."""
        return self.passed, self.total


def load_checks() -> dict[str, Check]:
    """Import every module with checks; return them by name, in order."""
    for name in MODULES:
        importlib.import_module(f"faults.{name}")
    return CHECKS


def run_check(name: str, *, full: bool) -> dict[str, Any]:
    """Run one check in a folder of its own; return its row of `results/faults.json`."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        passed, total = CHECKS[name](Scale(full=full, folder=Path(folder)))
    return {"name": name, "passed": passed, "total": total, "seconds": round(time.monotonic() - started, 1)}
