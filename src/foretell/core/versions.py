"""The versions that numbers depend on, for run folders, datasets and reports."""

from __future__ import annotations

import platform
from importlib.metadata import version

import foretell

NUMERICS = 61
"""Changes under "Numerics" in CHANGELOG.md: a run that began before the last of them may go on with other numbers."""


def versions(*packages: str) -> dict[str, str]:
    """Return the versions of Foretell, Python, NumPy and Gymnasium, and of further `packages`."""
    return {
        "foretell": foretell.__version__, "python": platform.python_version(),
        **{package: version(package) for package in ("numpy", "gymnasium", *packages)},
    }  # fmt: skip
