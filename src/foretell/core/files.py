"""Files that are either whole or absent.

Every artefact is written to a temporary file in its own folder, flushed to disk and renamed into place, so that a
reader, or the next start after a crash, never meets half of one.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from foretell.core.errors import CheckpointError, LockedError, ResourceError

MAX_JSON_BYTES = 1 << 20
"""A configuration or manifest larger than this is not ours; refused before it is parsed."""


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is flushed and renamed to `path`, on failure removed.

    Raises `ResourceError` where the folder cannot be written or the disk is full.
    """
    path = Path(path)
    with resource_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:80]}.", suffix=path.suffix)
        os.fchmod(handle, 0o644)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            _flush(temporary)
            os.replace(temporary, path)
            _flush(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def resource_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's word that `path` cannot be written into a `ResourceError` that says why."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG):
            raise ResourceError(f"{path}: {error.strerror}; {free_space(path)}. Free some and run again.") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise ResourceError(f"{path}: {error.strerror}; expected a folder that can be written.") from error
        if error.errno in (errno.ENAMETOOLONG, errno.ENOTDIR, errno.EEXIST, errno.EISDIR):
            raise ResourceError(f"{path}: {error.strerror}; choose another path for the output.") from error
        raise


def free_space(path: Path) -> str:
    """Return how much room is left where `path` lies, in words."""
    folder = Path(path)
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        return f"{shutil.disk_usage(folder).free / 2**20:,.0f} MiB free"
    except OSError:
        return "free space unknown"


def write_text(path: Path, text: str) -> None:
    """Write `text` whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all. NaN and infinity are refused with `ValueError`."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_json_lines(path: Path, records: Iterable[dict[str, Any]]) -> None:
    """Write one JSON object a line, whole or not at all."""
    write_text(path, "".join(json.dumps(record, allow_nan=False) + "\n" for record in records))


def read_json(path: Path) -> Any:
    """Read a JSON file that Foretell wrote.

    Raises `CheckpointError` where it is missing, over 1 MiB, not JSON, or holds NaN or a key twice.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise CheckpointError(f"{path}: {path.stat().st_size} bytes; expected at most {MAX_JSON_BYTES}.")
        return parse_json(path.read_bytes().decode("utf-8"))
    except OSError as error:
        raise CheckpointError(
            f"{path}: {error.strerror}; expected a file that Foretell wrote. Is the path right?"
        ) from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not readable as JSON ({error}); restore it or start a new run.") from None


def parse_json(text: str) -> Any:
    """Parse strict JSON: no NaN or infinity, no key twice. Raises `ValueError`."""
    return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_unique_keys)


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key appears twice")
    return found


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Read a file of one JSON object a line; a torn last line (a crash while appending) is left out.

    Raises `CheckpointError` where any other line cannot be read.
    """
    path = Path(path)
    try:
        text = path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error}); expected one JSON object a line.") from None
    lines = text.split("\n")
    records = []
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            records.append(parse_json(line))
        except ValueError as error:
            if number == len(lines):  # no newline behind it: the write was cut short
                break
            raise CheckpointError(f"{path}: line {number} is not JSON ({error}); restore the file.") from None
    return records


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


@contextlib.contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold the folder for this process alone; the operating system lets go when the process ends, however it ends.

    Raises `LockedError` at once where another process holds it.
    """
    folder = Path(folder)
    with resource_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LockedError(
                f"{folder}: another process is at work on it; wait for it or choose another folder."
            ) from None
        yield
    finally:
        os.close(handle)
