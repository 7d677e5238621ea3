"""A folder of several seeds: one run folder each, `seed-0` and so on, alike in everything else."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from foretell.core.checksums import KEY
from foretell.core.errors import UsageError
from foretell.core.files import read_sealed_json
from foretell.training.run_settings import differences, flat


def runs_of_seeds(path: Path) -> list[Path]:
    """Return the run folders of all seeds that were begun in `path`, by seed; none where it is a run, or no folder."""
    if (path / "config.json").exists():
        return []
    found = [one.parent for one in path.glob("seed-*/config.json") if re.fullmatch(r"seed-\d+", one.parent.name)]
    return sorted(found, key=lambda one: int(one.name.removeprefix("seed-")))


def require_alike(runs: Sequence[Path]) -> None:
    """Raise `UsageError` where runs differ in more than their seed: a mean over them would be of nothing."""
    configs = [read_sealed_json(run / "config.json") for run in runs]
    for run, other in zip(runs[1:], configs[1:], strict=True):
        first = configs[0]
        keys = dict.fromkeys((*flat(first), *flat(other)))
        asked = [key for key in keys if key not in ("seed", KEY) and not key.startswith("versions.")]
        if different := differences(first, other, asked):
            raise UsageError(
                f"{run}: differs from {runs[0]} in more than its seed ({different}); a mean over both says nothing. "
                "Evaluate each by itself."
            )
