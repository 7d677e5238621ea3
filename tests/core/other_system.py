"""Runs a command of Foretell as on a system without `fcntl`, `resource`, `fork` and the rest that Windows lacks.

What is open here can be neither renamed nor removed. `msvcrt.locking` is one lock a file, as far as it is used.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

LACKING = (
    "fork", "pread", "pwrite", "fchmod", "getuid", "sysconf", "O_NONBLOCK", "O_CLOEXEC", "O_NOFOLLOW",
)  # fmt: skip
flock = fcntl.flock


def locking(handle: int, mode: int, size: int) -> None:
    """Lock the file without waiting; the place is far behind what anybody reads or writes."""
    assert mode == 3
    assert size == 1
    assert os.lseek(handle, 0, os.SEEK_CUR) > 1 << 33
    try:
        flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise PermissionError(errno.EACCES, "Permission denied") from None


def _open_here(path: Any) -> bool:
    wanted = os.path.realpath(path)
    for entry in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{entry}") == wanted:
                return True
        except FileNotFoundError:
            pass
    return False


def _called_by(file: str) -> bool:
    return sys._getframe(2).f_code.co_filename.endswith(file)


def _refusing(plain: Callable[..., None]) -> Callable[..., None]:
    def guarded(path: Any, *arguments: Any, **options: Any) -> None:
        if _called_by("tempfile.py"):  # it does otherwise there
            return plain(path, *arguments, **options)
        for one in (path, *(arguments if plain in (os.replace, os.rename) else ())):
            if options.get("dir_fd") is None and _open_here(one):
                raise PermissionError(errno.EACCES, "used by another process", str(one))
        return plain(path, *arguments, **options)

    return guarded


def _no_folders(plain: Callable[..., int]) -> Callable[..., int]:
    def guarded(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
        if options.get("dir_fd") is None and not _called_by("shutil.py") and Path(path).is_dir():
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return plain(path, flags, *arguments, **options)

    return guarded


def become() -> None:
    """Take away from this process what the other system lacks."""
    sys.modules["fcntl"] = sys.modules["resource"] = None  # type: ignore[assignment]
    sys.modules["msvcrt"] = types.SimpleNamespace(locking=locking, LK_NBLCK=3)  # type: ignore[assignment]
    for name in LACKING:
        delattr(os, name)
    unlink, replace, rename = os.unlink, os.replace, os.rename
    os.unlink = os.remove = _refusing(unlink)
    os.replace, os.rename = _refusing(replace), _refusing(rename)
    os.open = _no_folders(os.open)
    os.environ["FORETELL_NATIVE"] = "0"  # C is compiled on Linux alone


if __name__ == "__main__":
    import torch
    import torch.utils.tensorboard  # what it needs of this system it has by now

    become()
    import safetensors.torch

    def renames(*_: Any, **__: Any) -> None:
        """Stand where `save_file` does: it renames another file to its path, out of Python's sight."""
        raise PermissionError(errno.EACCES, "Access denied")

    safetensors.torch.save_file = renames
    from foretell.cli.main import main

    torch.set_num_threads(1)
    sys.exit(main(sys.argv[1:]))
