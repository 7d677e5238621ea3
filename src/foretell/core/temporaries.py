"""Files that are being written: locked by whoever writes them, so that what a killed process left can be told apart."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from foretell.core import system


def make_temporary(path: Path) -> tuple[int, Path]:
    """Make a file beside `path`; return its handle, whose lock lasts until it is closed, and where it lies.

    Those of earlier writers of `path` that were killed are removed; other people's, where they may not be written to,
    stay. Raises `OSError`.
    """
    beginning = f".{path.name[:40]}."
    with os.scandir(path.parent) as entries:
        there = [entry.name for entry in entries if entry.is_file(follow_symlinks=False)]
    for name in there:
        as_long = len(name) == len(beginning) + 8 + len(path.suffix)
        if as_long and name.startswith(beginning) and name.endswith(path.suffix):
            _remove_if_abandoned(path.parent / name)
    while True:
        handle, made = system.make_file(path.parent, beginning, path.suffix)
        try:
            system.lock(handle)
            if os.fstat(handle).st_nlink:
                return handle, made
            os.close(handle)  # it was taken for abandoned before it was locked
        except BaseException:
            os.close(handle)
            made.unlink(missing_ok=True)
            raise


def _remove_if_abandoned(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError, BlockingIOError, PermissionError):  # taken, or another person's
        handle = system.open_at_once(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
        try:
            locked = system.lock(handle, wait=False)
        except BaseException:
            os.close(handle)
            raise
        if locked:
            system.close_and_remove(handle, path)
        else:  # nobody knows whose it is
            os.close(handle)
