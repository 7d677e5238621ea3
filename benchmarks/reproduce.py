"""`foretell reproduce` at its defaults, from nothing: wall time, and the memory of all its processes together."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measuring import Options, Row
from benchmarks.process_tree import tree_memory

BOUND_SECONDS = 300.0
BOUND_MIB = 2048.0
SAMPLED_EVERY_SECONDS = 1.0
"""Reading the memory of the processes takes a hundredth of a second, in which they wait."""


def rows(options: Options) -> Iterator[Row]:
    """Yield seconds and peak memory. With --quick it is `foretell reproduce --quick`.

    Where `--out` is given the experiment is kept in `--out`/pendulum: the numbers in the README can come of this run.
    """
    with tempfile.TemporaryDirectory() as temporary:
        parent = Path(temporary) if options.out == Options().out else options.out
        folder = parent / ("pendulum-quick" if options.quick else "pendulum")
        if folder.exists():
            raise SystemExit(
                f"{folder}: exists; the time is measured from nothing. Remove it, or choose another --out."
            )
        arguments = ["reproduce", "--out", str(folder), *(["--quick"] if options.quick else [])]
        elapsed, resident, proportional = watched([sys.executable, "-m", "foretell", *arguments])
    setting = {"command": "foretell reproduce" + " --quick" * options.quick, "sampled_every_s": SAMPLED_EVERY_SECONDS}
    yield Row(
        benchmark="reproduce", name="wall time", unit="s", ours=elapsed, setting=setting,
        bound=f"at most {BOUND_SECONDS:g} s", holds=elapsed <= BOUND_SECONDS,
    )  # fmt: skip
    yield Row(
        benchmark="reproduce", name="peak memory, resident, summed", unit="MiB", ours=resident, setting=setting,
        bound=f"at most {BOUND_MIB:g} MiB", holds=resident <= BOUND_MIB,
        extra={"shared_pages_counted_once_mib": proportional},
    )  # fmt: skip


def watched(command: list[str]) -> tuple[float, float, float]:
    """Run a command; return its wall seconds and its tree's peaks of summed RSS and of summed PSS, MiB."""
    started = time.perf_counter()
    resident = proportional = 0.0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            rss, pss = tree_memory(process.pid)
            resident, proportional = max(resident, rss), max(proportional, pss)
            time.sleep(SAMPLED_EVERY_SECONDS)
    if process.returncode:
        raise SystemExit(f"{' '.join(command[1:])} ended with code {process.returncode}; there is nothing to measure.")
    return time.perf_counter() - started, resident, proportional
