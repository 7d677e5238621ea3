"""What operating systems do each in their own way: locks, files that are open, reading at a place, limits.

Foretell runs on Linux, macOS and Windows. Whoever needs more of the system than Python's `open` asks here, and finds
what the system has: where `fcntl` is missing (Windows), locks are `msvcrt`'s, folders cannot be opened, and a file that
is open can be neither renamed nor removed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib
import os
import platform
import secrets
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from foretell.core.containers import container_cores


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


fcntl, msvcrt, resource = map(_module, ("fcntl", "msvcrt", "resource"))
OPEN_FILES_STAY = fcntl is None
"""Whether a file that is open can be neither renamed nor removed."""
ENDS_ARE_HEARD = fcntl is not None
"""Whether a process that another one ends hears of it first."""
_BYTES = getattr(os, "O_BINARY", 0)
_CUTS = frozenset("&|<>^();,")
"""Characters that a shell of Windows reads as its own, outside of quotation marks."""
_LOCKED_BYTE = 1 << 40
"""Windows locks bytes, and nobody else may read or write those: one far behind the end of any file."""
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EBADF)
"""What a network's file system says that was mounted without them, or has none for files that may only be read."""
_SECONDS, _LOOKS = 0.05, 60
"""Between two looks at a file that somebody else has open, a virus scanner say, and how many until it counts."""


def open_bytes(path: str | Path, flags: int) -> int:
    """Open a file as bytes; return its handle. Raises `OSError`."""
    return os.open(path, flags | _BYTES)


def open_at_once(path: str | Path, flags: int) -> int:
    """The same of what may be anything: the other end of a pipe is not waited for."""
    return open_bytes(path, flags | getattr(os, "O_NONBLOCK", 0))


def make_file(folder: Path, beginning: str, ending: str) -> tuple[int, Path]:
    """Make a file of which nobody knows; return its handle and where it lies. Raises `OSError`.

    Eight characters are between `beginning` and `ending`. On Windows `tempfile` tries for ever in a folder that cannot
    be written.
    """
    while True:
        path = folder / f"{beginning}{secrets.token_hex(4)}{ending}"
        with contextlib.suppress(FileExistsError):
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _BYTES, 0o666), path  # less the umask


def require_writable(folder: Path) -> None:
    """Raise `OSError` where no file can be made in the folder; none stays."""
    if fcntl is not None:
        with tempfile.TemporaryFile(dir=folder):
            return
    close_and_remove(*make_file(folder, ".room.", ""))


def lock(handle: int, *, wait: bool = True) -> bool:
    """Lock an open file until it is closed; return whether it is, for there are file systems without locks.

    Raises `BlockingIOError` where another holds it and `wait` is False.
    """
    if fcntl is not None:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            return False
        return True
    place = os.lseek(handle, 0, os.SEEK_CUR)
    try:
        while True:
            os.lseek(handle, _LOCKED_BYTE, os.SEEK_SET)
            try:
                msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
                return True
            except OSError as error:
                if error.errno not in (errno.EACCES, errno.EDEADLK, 0):  # Wine gives no number
                    raise
                if not wait:
                    raise BlockingIOError(errno.EAGAIN, "locked by another process") from None
            time.sleep(_SECONDS)
    finally:
        os.lseek(handle, place, os.SEEK_SET)


def open_for_turns(folder: Path) -> int:
    """Return the handle of something to lock for all who work in this folder; nothing is left there.

    On Windows, for all of this user: an empty file in the folder for temporary ones, which stays.
    """
    if fcntl is not None:
        return os.open(folder, os.O_RDONLY)
    name = hashlib.sha256(os.path.normcase(folder.resolve()).encode()).hexdigest()[:24]
    return open_bytes(Path(tempfile.gettempdir()) / f"foretell-{name}.lock", os.O_RDWR | os.O_CREAT)


def let_go_to_rename(handle: int) -> int | None:
    """Return the handle of a file that is about to be renamed; None where it had to be closed for that."""
    if not OPEN_FILES_STAY:
        return handle
    os.close(handle)
    return None


def close_and_remove(handle: int | None, path: Path) -> None:
    """Remove a file, where it is still there, and let go of the handle that locks it. Raises `OSError`."""
    if OPEN_FILES_STAY:
        if handle is not None:
            os.close(handle)
        with contextlib.suppress(FileNotFoundError, PermissionError):  # the next to lock it was faster
            path.unlink()
        return
    try:
        path.unlink(missing_ok=True)
    finally:
        if handle is not None:
            os.close(handle)


def replace(path: Path, final: Path) -> None:
    """Rename a file to its final name, in the place of what is there. Raises `OSError`."""
    _patiently(os.replace, path, final)


def rename(path: Path, final: Path) -> None:
    """Rename a folder to its final name, where nothing is. Raises `OSError`."""
    _patiently(os.rename, path, final)


def _patiently(renames: Callable[[Path, Path], None], path: Path, final: Path) -> None:
    """On Windows somebody who looks at either for a moment is waited for."""
    for looks_left in reversed(range(_LOOKS if OPEN_FILES_STAY else 1)):
        try:
            renames(path, final)
            return
        except PermissionError:
            if not looks_left:
                raise
        time.sleep(_SECONDS)


def flush(path: Path) -> None:
    """Bring a file or a folder to the disk. An error is not tried again: the kernel would then say that all is well."""
    if OPEN_FILES_STAY and path.is_dir():
        return  # its entries are the file system's own care there
    handle = open_bytes(path, os.O_RDWR if OPEN_FILES_STAY else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_at(handle: int, size: int, place: int) -> bytes:
    """Return up to `size` bytes from a place in a file."""
    if hasattr(os, "pread"):
        return os.pread(handle, size, place)
    os.lseek(handle, place, os.SEEK_SET)
    return os.read(handle, size)


def write_at(handle: int, data: memoryview, place: int) -> int:
    """Write at a place in a file; return how many bytes were."""
    if hasattr(os, "pwrite"):
        return os.pwrite(handle, data, place)
    os.lseek(handle, place, os.SEEK_SET)
    return os.write(handle, data)


def command_line(words: Sequence[str]) -> str:
    """Return a command as it is typed into a shell of this system."""
    if fcntl is not None:
        return shlex.join(words)
    plain = [subprocess.list2cmdline([word]) for word in words]
    return " ".join(f'"{word}"' if _CUTS.intersection(word) and '"' not in word else word for word in plain)


def with_variable(name: str, value: str, command: str) -> str:
    """Return a command line before which a variable of the environment is set, in a shell of this system."""
    if fcntl is not None:
        return f"{name}={command_line([value])} {command}"
    return f'set "{name}={value}" && {command}'


def has_left(error: OSError) -> bool:
    """Whether an error in printing says that the reader of a pipe has read enough; on Windows it has another name."""
    return isinstance(error, BrokenPipeError) or (OPEN_FILES_STAY and error.errno == errno.EINVAL)


def signal_this_process(number: int) -> None:
    """Send a signal to this process, as another would; on Windows the first thread hears of it once it is at work."""
    if fcntl is not None:
        os.kill(os.getpid(), number)
    else:  # to kill is there to end
        signal.raise_signal(number)


def name_of(handle: int, path: Path) -> str:
    """Return a name by which the very file that is open can be opened again; its path where there is none."""
    return f"/dev/fd/{handle}" if fcntl is not None else str(path)


def cores() -> int:
    """Return how many cores this process may use: of a machine that is shared out (SLURM, containers), not all."""
    allowed = getattr(os, "sched_getaffinity", None)
    found = len(allowed(0)) if allowed else os.cpu_count() or 1
    return min(found, container_cores() or found)


def processor_name() -> str:
    """Return what the processor is called; what kind it is where nobody says."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        for line in lines:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
