"""What every benchmark shares: timing two sides in turn, and the row that is kept of it."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("foretell", "torch", "numpy", "gymnasium", "h5py")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line says to every benchmark."""

    quick: bool = False
    """Sizes that only show that a benchmark works."""
    out: Path = Path("results/sac-scores")
    """Where runs that take long are kept, so that a later start continues them."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measurement. `ratio` says how many times better ours is than the peer: above 1 we win, whatever the unit."""

    benchmark: str
    name: str
    setting: dict[str, Any]
    unit: str
    ours: float
    peer: float | None = None
    peer_name: str | None = None
    peer_version: str | None = None
    ratio: float | None = None
    ratio_min: float | None = None
    ratio_max: float | None = None
    repetitions: int = 1
    bound: str | None = None
    holds: bool | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the row with everything its numbers depend on; floats to four significant digits."""
        facts = {"machine": machine(), "versions": versions(), "commit": commit()}
        return {name: _rounded(value) for name, value in (asdict(self) | facts).items()}


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Values of both sides, one for each repetition, all in one unit."""

    ours: list[float]
    peer: list[float]
    higher_is_better: bool

    def fields(self) -> dict[str, Any]:
        """Return the fields of a `Row`: medians, and the ratio's median, minimum and maximum over repetitions."""
        found = {"ours": statistics.median(self.ours), "repetitions": len(self.ours)}
        if not self.peer:
            return found
        pairs = zip(self.ours, self.peer, strict=True)
        ratios = [ours / peer if self.higher_is_better else peer / ours for ours, peer in pairs]
        return found | {
            "peer": statistics.median(self.peer), "ratio": statistics.median(ratios),
            "ratio_min": min(ratios), "ratio_max": max(ratios),
        }  # fmt: skip


def alternate(
    ours: Callable[[], float], peer: Callable[[], float] | None, repetitions: int, *, higher_is_better: bool
) -> Comparison:
    """Measure ours, peer, ours, peer, ...: what else the machine does then falls on both. Warm up before."""
    comparison = Comparison(ours=[], peer=[], higher_is_better=higher_is_better)
    for _ in range(repetitions):
        comparison.ours.append(ours())
        if peer:
            comparison.peer.append(peer())
    return comparison


def rate(action: Callable[[int], object], count: int) -> float:
    """Call `action(0)` to `action(count - 1)`; return calls a second."""
    started = time.perf_counter()
    for index in range(count):
        action(index)
    return count / (time.perf_counter() - started)


def seconds(action: Callable[[], object]) -> float:
    """Return how long one call takes."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


@cache
def machine() -> dict[str, Any]:
    """Return processor, cores and memory."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {"cpu": model, "cores": os.cpu_count(), "memory_gib": round(memory, 1), "system": platform.system()}


@cache
def versions() -> dict[str, str | None]:
    """Return the versions that timings depend on."""
    return {"python": platform.python_version(), **{package: installed(package) for package in PACKAGES}}


def installed(package: str) -> str | None:
    """Return the version of a package, None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@cache
def commit() -> str | None:
    """Return the commit that was timed, with -dirty behind it where files other than results differ from it."""
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        changed = _git("status", "--porcelain", "--", ".", ":!benchmarks/results", ":!results")
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + ("-dirty" if changed else "")


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value
