"""`foretell reproduce --league --seeds 1`, from nothing: wall time, and the memory of all its processes together."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measuring import Options, Row
from benchmarks.reproduce import SAMPLED_EVERY_SECONDS, watched

BOUND_SECONDS = 1200.0


def rows(options: Options) -> Iterator[Row]:
    """Yield seconds, with the peak memory beside them. With --quick it is the league's smoke run.

    Where `--out` is given the league is kept in `--out`/league: the tables in the docs can come of this run.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = (Path(temporary) if options.out == Options().out else options.out) / "league"
        if folder.exists():
            raise SystemExit(f"{folder}: exists; the time is measured from nothing. Remove it.")
        arguments = ["reproduce", "--league", "--seeds", "1", *(["--quick"] if options.quick else [])]
        elapsed, resident, proportional = watched([sys.executable, "-m", "foretell", *arguments, "--out", str(folder)])
    yield Row(
        benchmark="league", name="wall time", unit="s", ours=elapsed,
        setting={"command": " ".join(["foretell", *arguments]), "sampled_every_s": SAMPLED_EVERY_SECONDS},
        bound=f"at most {BOUND_SECONDS:g} s", holds=elapsed <= BOUND_SECONDS,
        extra={"peak_resident_mib": resident, "shared_pages_counted_once_mib": proportional},
    )  # fmt: skip
