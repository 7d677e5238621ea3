"""What earlier reports left in a folder, and this one does not make again: it goes, and nothing else does."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from foretell.core.errors import CheckpointError
from foretell.core.files import read_json
from foretell.reporting.style import FIGURES
from foretell.reporting.suite_report import FILES, folders_of

OWN_FIGURE = r"(returns|learning|scores|asked-[A-Za-z0-9._-]+)\.(svg|png)"
"""What figures of a comparison are called: nothing else is removed."""


def figures_of(folder: Path) -> set[str]:
    """Return the names of the figures that an earlier report left beside its table, none where there was no such."""
    try:
        return {name for name in _table(folder)[FIGURES] if re.fullmatch(OWN_FIGURE, name)}
    except (KeyError, TypeError):  # somebody else's, or an older version's
        return set()


def remove_figures(folder: Path, figures: set[str], but: Iterable[Path]) -> None:
    """Remove figures of an earlier report from its folder, `but` those that were made again."""
    for name in figures - {path.name for path in but}:
        (folder / FIGURES / name).unlink(missing_ok=True)


def folders_within(folder: Path) -> dict[str, str]:
    """Return the environments of an earlier report over several, with the name of each one's folder inside."""
    protocol = _table(folder).get("protocol")
    environments = protocol.get("environments") if isinstance(protocol, Mapping) else None
    return folders_of(environments) if isinstance(environments, Mapping) else {}


def remove_reports(folder: Path, within: Mapping[str, str], but: Iterable[str]) -> None:
    """Remove the reports of environments from their folders inside, `but` of folders that are written again.

    A folder goes where nothing else is left in it; what is no such environment's report is not touched, and no link is
    followed.
    """
    written = {name.casefold() for name in but}
    for environment, name in within.items():
        own = folder / name
        protocol = _table(own).get("protocol")
        reported = isinstance(protocol, Mapping) and protocol.get("environment") == environment
        if name.casefold() in written or own.is_symlink() or not reported or (own / "experiment.json").exists():
            continue
        if not (own / FIGURES).is_symlink():
            remove_figures(own, figures_of(own), ())
        for file in FILES:
            (own / file).unlink(missing_ok=True)
        for emptied in (own / FIGURES, own):
            with contextlib.suppress(OSError):  # something else lies there
                emptied.rmdir()


def _table(folder: Path) -> dict[str, Any]:
    """Return the table of an earlier report; nothing where there is none."""
    try:
        found = read_json(folder / "table.json")
    except CheckpointError:
        return {}
    return found if isinstance(found, dict) else {}
