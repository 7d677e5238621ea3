"""What a container lets its processes have: the limits of Linux's control groups, of both versions."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Generator
from pathlib import Path

ROOT, OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def container_limit(root: Path = ROOT, own: Path = OWN) -> int | None:
    """Return the bytes that the control groups of this process may hold together, None where that is not limited."""
    found = []
    for folder, first in _groups("memory", root, own):
        with contextlib.suppress(OSError, ValueError):  # "max", or a group that is not to be seen from inside
            found.append(int((folder / ("memory.limit_in_bytes" if first else "memory.max")).read_text()))
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0
    return min((limit for limit in found if limit < machine), default=None)


def container_cores(root: Path = ROOT, own: Path = OWN) -> int | None:
    """Return as how many cores the control groups let this process compute (`docker --cpus`), rounded up; None where
    that is not limited."""
    found = []
    for folder, first in _groups("cpu", root, own):
        with contextlib.suppress(OSError, ValueError):  # "max", or a group that is not to be seen from inside
            names = ("cpu.cfs_quota_us", "cpu.cfs_period_us") if first else ("cpu.max",)
            quota, period = map(int, " ".join((folder / name).read_text() for name in names).split())
            if quota > 0 and period > 0:
                found.append(math.ceil(quota / period))
    return min(found, default=None)


def _groups(controller: str, root: Path, own: Path) -> Generator[tuple[Path, bool]]:
    """Yield the folders of this process's groups that limit something, and whether they are of the first version."""
    try:
        entries = [line.split(":", 2) for line in own.read_text(encoding="utf-8").splitlines()]
    except OSError:
        return
    for _, controllers, path in entries:
        first, place = controller in controllers.split(","), Path(path.lstrip("/"))
        for folder in (place, *place.parents) if first or not controllers else ():
            yield (root / controller if first else root) / folder, first
