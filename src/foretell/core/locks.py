"""Folders and files that one process at a time works on."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator
from pathlib import Path

from foretell.core import system
from foretell.core.errors import LockedError, UsageError
from foretell.core.files import make_folder, resource_errors
from foretell.core.warning import warn_caller

LOCK = ".lock"
"""The file that stands for a folder, and the ending of one that stands for a file."""


@contextlib.contextmanager
def folder_lock(folder: Path) -> Generator[None]:
    """Hold the folder for this process alone; the operating system lets go when the process ends, however it ends.

    Raises `LockedError` at once where another process holds it. Nothing of ours stays in a folder that turns out to be
    somebody else's (`UsageError`).
    """
    folder = Path(folder)
    path = folder / LOCK
    handle, ours = _locked(path, folder)
    remove = False
    try:
        yield
    except UsageError:
        remove = ours
        raise
    finally:
        _let_go(handle, path, remove=remove)


@contextlib.contextmanager
def output_lock(output: Path) -> Generator[None]:
    """Hold a file that is to be written for this process alone, as `folder_lock` does a folder. Nothing of it stays."""
    output = Path(output)
    made = _missing(output.parent)
    path = output.with_name(f".{output.name[-200:]}{LOCK}")
    handle, _ = _locked(path, output)
    try:
        yield
    finally:
        _let_go(handle, path, remove=True)
        _remove_empty(made)


@contextlib.contextmanager
def early_lock(folder: Path) -> Generator[None]:
    """Hold the folder until `folder_lock` takes it over in this process, or the block ends.

    For a command that has seconds of loading to do before it can begin: others are told at once. Raises as
    `folder_lock` does. Where nobody takes the folder over, nothing of ours stays.
    """
    folder = Path(folder)
    made, path = _missing(folder), folder / LOCK
    handle, ours = _locked(path, folder)
    key = _identity(handle)
    _EARLY[key] = handle, ours
    try:
        yield
    finally:
        if _EARLY.pop(key, None) is not None:
            _let_go(handle, path, remove=ours)
            _remove_empty(made)


@contextlib.contextmanager
def a_turn(folder: Path) -> Generator[None]:
    """Wait for one's turn to read a file of the folder and write it anew: moments, not the length of a run.

    Makes the folder; leaves no file. Where its file system knows no locks everybody goes on at once. Raises as
    `resource_errors` does.
    """
    folder = Path(folder)
    with resource_errors(folder):
        make_folder(folder)
        handle = system.open_for_turns(folder)
    try:
        with contextlib.suppress(OSError):
            system.lock(handle)
        yield
    finally:
        os.close(handle)


_EARLY: dict[tuple[int, int], tuple[int, bool]] = {}
"""Locks to be taken over, by device and inode: the open file, and whether it was made for the lock."""


def _missing(folder: Path) -> list[Path]:
    """Return what is missing of a folder and those above it, the innermost first."""
    return [one for one in (folder, *folder.parents) if not one.exists()]


def _remove_empty(folders: list[Path]) -> None:
    for one in folders:
        with contextlib.suppress(OSError):  # not empty: somebody else's by now
            one.rmdir()


def _let_go(handle: int, path: Path, *, remove: bool) -> None:
    if remove:
        with contextlib.suppress(PermissionError):  # another person's, in a folder where each removes his own (/tmp)
            system.close_and_remove(handle, path)
    else:
        os.close(handle)


def _identity(file: int | Path) -> tuple[int, int]:
    found = os.stat(file)
    return found.st_dev, found.st_ino


def _opened(path: Path) -> int:
    """Open a lock file, made where it is missing; another person's to read, which is enough to lock it."""
    flags = getattr(os, "O_NOFOLLOW", 0)
    try:
        return os.open(path, flags | os.O_RDWR | os.O_CREAT, 0o666)  # less the umask
    except PermissionError:
        if not path.exists():
            raise
        return os.open(path, flags | os.O_RDONLY)


def _locked(path: Path, held: Path) -> tuple[int, bool]:
    """Return the open lock file, and whether it was made for this lock; `held` is what it stands for."""
    while True:
        with resource_errors(held):
            make_folder(path.parent)
            ours = not path.exists()
            handle = _opened(path)
        if early := _EARLY.pop(_identity(handle), None):
            os.close(handle)
            return early
        try:
            if not system.lock(handle, wait=False):
                warn_caller(
                    f"{held}: lies on a file system without locks; nothing keeps another process from working on it at "
                    "the same time. See to it that none does."
                )
            if _identity(handle) == _identity(path):
                return handle, ours
        except FileNotFoundError:
            pass
        except BlockingIOError:
            os.close(handle)
            raise LockedError(
                f"{held}: another process is at work on it, or another thread of this one; wait for it, or choose "
                "another name."
            ) from None
        os.close(handle)  # whoever held it has removed it in the meantime
