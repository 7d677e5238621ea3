"""A folder of several seeds: one run folder each, `seed-0` and so on, alike in everything else."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from foretell.core.errors import UsageError
from foretell.core.run_forms import read_config
from foretell.core.run_settings import differences, flat, is_of_one_seed

REPORT = ("table.json", "table.md", "table.csv", "table.tex", "report.html", "figures")
"""What a report leaves in the folder."""


BEGUN_WITH = ("initial_weights", "values_from", "normalization.")
"""Settings in which seeds may differ: each may have begun with its own seed's weights, in their units, or values."""


def runs_of_seeds(path: Path) -> list[Path]:
    """Return the run folders of all seeds that were begun in `path`, by seed; none where it is a run, or no folder."""
    if (path / "config.json").exists():
        return []
    found = [one.parent for one in path.glob("seed-*/config.json")]
    return sorted(filter(_is_a_seeds, found), key=lambda one: int(one.name.removeprefix("seed-")))


def run_of_seed(path: Path, seed: int) -> Path:
    """Return the run of this seed in a folder of several; `path` itself where it is none.

    Raises `UsageError` where it holds other seeds.
    """
    there = runs_of_seeds(path)
    found = path / f"seed-{seed}"
    if there and found not in there:
        seeds = ", ".join(one.name.removeprefix("seed-") for one in there)
        raise UsageError(f"{path}: holds runs of seeds {seeds}; expected one of seed {seed} as well, or a single run.")
    return found if there else path


def _is_a_seeds(run: Path) -> bool:
    return re.fullmatch(r"seed-(0|[1-9]\d*)", run.name) is not None


def require_the_same(folder: Path, asked: Mapping[str, Any]) -> None:
    """Raise `UsageError` where a seed in the folder was trained with other settings than these (JSON values)."""
    for run in runs_of_seeds(folder)[:1]:
        if different := differences(read_config(run / "config.json"), asked):
            raise UsageError(
                f"{run}: was trained otherwise ({different}); the seeds of a folder differ in nothing else. Choose "
                "another --out, or the same settings."
            )


def require_alike(runs: Sequence[Path]) -> None:
    """Raise `UsageError` where runs differ in more than their seed, or not in it: a mean over them would be of nothing.

    Each holds the seed that its folder is named after.
    """
    configs = [read_config(run / "config.json") for run in runs]
    for run, config in zip(runs, configs, strict=True):
        if f"seed-{config.get('seed')}" != run.name:
            raise UsageError(
                f"{run}: holds seed {config.get('seed')}, which its name is not; expected the run of `--seed "
                f"{run.name.removeprefix('seed-')}`. Was every run trained with the same seed? Evaluate it by itself."
            )
    for run, other in zip(runs[1:], configs[1:], strict=True):
        first = configs[0]
        keys = dict.fromkeys((*flat(first), *flat(other)))
        asked = [key for key in keys if not (is_of_one_seed(key) or key.startswith(BEGUN_WITH))]
        if different := differences(first, other, asked):
            raise UsageError(
                f"{run}: differs from {runs[0]} in more than its seed ({different}); a mean over both says nothing. "
                "Evaluate each by itself."
            )
