"""Each guard taken away in turn: a test notices. Not part of `make test`: it starts pytest once for each guard.

A guard is a piece of source text and what stands there once the guard is gone. The full form copies `src` and `tests`
to an empty folder, changes that one piece, and runs the tests that are to notice, which must then fail; with nothing
changed they must pass. `python -m faults guards` in the folder `tests`; GUARDS=WORD in the environment takes those of
which the name holds the word.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from faults.harness import Scale, Tally, fault_check

ROOT = Path(__file__).parents[2]
FAILED = 1
"""Exit code of pytest where tests failed, and nothing else went wrong."""
PATIENCE = 60
"""Seconds for one test: without its guard it may hang."""


@dataclass(frozen=True, kw_only=True)
class Guard:
    """`text` occurs once in `file` (below `src/foretell`); with `instead` in its place, one of the `tests` fails."""

    name: str
    file: str
    text: str
    instead: str
    tests: tuple[str, ...]

    def removed(self, source: str) -> str:
        """Return the source without the guard."""
        assert source.count(self.text) == 1, f"{self.file}: {self.text!r} occurs {source.count(self.text)} times"
        return source.replace(self.text, self.instead)


GUARDS: list[Guard] = []


def guard(name: str, file: str, text: str, instead: str, *tests: str) -> None:
    """Add a guard; `tests` are names of pytest below the folder `tests`."""
    GUARDS.append(Guard(name=name, file=file, text=text, instead=instead, tests=tests))


def copy(folder: Path) -> None:
    """Copy what the tests need, but for what was compiled."""
    for name in ("src", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    shutil.copy(ROOT / "pyproject.toml", folder)


def run_tests(folder: Path, tests: list[str]) -> subprocess.CompletedProcess[str]:
    """Run tests of the copy, on the copy, up to the first that fails."""
    options = ("-x", "-q", "-p", "no:cacheprovider", "-p", "pytest_timeout", f"--timeout={PATIENCE}")
    environment = {
        **os.environ, "PYTHONPATH": str(folder / "src"), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }  # fmt: skip
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, *tests], cwd=folder / "tests", text=True, capture_output=True,
        env=environment, check=False,
    )  # fmt: skip


@fault_check("guards: each taken away in turn", quick=False)
def each_in_turn(scale: Scale) -> tuple[int, int]:
    tally, folder = Tally(), scale.folder
    copy(folder)
    chosen = [one for one in GUARDS if os.environ.get("GUARDS", "") in one.name]
    whole = run_tests(folder, sorted({test for one in chosen for test in one.tests}))
    tally.add(whole.returncode == 0, f"with all guards in place: {whole.stdout[-2000:]}{whole.stderr[-500:]}")
    for one in chosen:
        path = folder / "src/foretell" / one.file
        source = path.read_text(encoding="utf-8")
        path.write_text(one.removed(source), encoding="utf-8")
        ended = run_tests(folder, list(one.tests))
        path.write_text(source, encoding="utf-8")
        noticed = ended.returncode == FAILED
        said = "nobody notices" if ended.returncode == 0 else f"pytest ended with {ended.returncode}"
        tally.add(noticed, f"{one.name}: {said} ({', '.join(one.tests)})")
    return tally.figures


from faults import guards_of_data, guards_of_files, guards_of_learning  # noqa: E402, F401  they fill the table
