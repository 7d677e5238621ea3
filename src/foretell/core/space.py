"""Whether what is to come has room: asked before long work begins, where a refusal costs nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

from foretell.core import system
from foretell.core.errors import ResourceError
from foretell.core.files import resource_errors


def require_file(path: Path) -> None:
    """Return where records can be written to `path`, in folders that are there or can be made. Raises as
    `require_room`."""
    require_room(next(folder for folder in path.absolute().parents if folder.exists()), 2**20, "records")


def require_room(folder: Path, needed: int, what: str = "checkpoints and weights") -> None:
    """Return where a folder can be written and its disk has `needed` bytes free for `what`.

    Raises `ResourceError` where it cannot, has not, or does not say what is free: work would be lost at its first save.
    """
    with resource_errors(folder):
        system.require_writable(folder)
        free = shutil.disk_usage(folder).free
    if free < needed:
        raise ResourceError(
            f"{folder}: {free / 2**20:,.1f} MiB free; expected {needed / 2**20:,.1f} MiB for {what}. "
            "Free some and run again."
        )
