"""Memory of a process and all its descendants, read from /proc (Linux)."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from pathlib import Path

PROC = Path("/proc")


def tree_memory(root: int) -> tuple[float, float]:
    """Return the tree's summed RSS and summed PSS, MiB. A shared page counts in full in each RSS, once in PSS."""
    resident = proportional = 0.0
    for pid in tree(root):
        with contextlib.suppress(OSError):  # ended between being listed and being read
            sizes = _sizes(pid)
            resident += sizes.get("Rss", 0.0)
            proportional += sizes.get("Pss", 0.0)
    return resident, proportional


def tree(root: int) -> list[int]:
    """Return the process ids of `root` and all its descendants. Raises `SystemExit` where there is no /proc."""
    if not PROC.is_dir():
        raise SystemExit(f"{PROC} is not there: memory of processes is measured on Linux alone.")
    children: dict[int, list[int]] = defaultdict(list)
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                after_name = (entry / "stat").read_text().rpartition(")")[2]  # a command's name may hold spaces
                children[int(after_name.split()[1])].append(int(entry.name))
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting += children[pid]
    return found


def _sizes(pid: int) -> dict[str, float]:
    lines = (PROC / str(pid) / "smaps_rollup").read_text(encoding="ascii").splitlines()
    fields = (line.split() for line in lines if line.endswith("kB"))
    return {words[0].rstrip(":"): int(words[1]) / 1024 for words in fields}
