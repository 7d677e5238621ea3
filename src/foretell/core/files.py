"""Files that are either whole or absent.

Every artefact is written to a temporary file in its own folder, flushed to disk and renamed into place, so that a
reader, or the next start after a crash, never meets half of one. What a run's artefacts hold is sealed besides
(`core.checksums`), so that damage that comes later is noticed by whoever reads them.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import json
import os
import shutil
import stat
from collections.abc import Generator, Iterable, Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any

from foretell.core import system
from foretell.core.checksums import KEY, holds, opened_lines, sealed_lines
from foretell.core.errors import CheckpointError, ResourceError, UsageError
from foretell.core.strict_json import MAX_JSON_BYTES, parse_json
from foretell.core.system import flush
from foretell.core.temporaries import make_temporary

UNFIT = (errno.ENAMETOOLONG, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ELOOP)
"""Errors that say that nothing can lie at a path, however much room there is."""


@contextlib.contextmanager
def atomic_path(path: Path) -> Generator[Path]:
    """Yield a temporary path beside `path`; on success it is flushed and renamed to `path`, on failure removed.

    Raises `ResourceError` where the folder cannot be written or the disk is full.
    """
    path = Path(path)
    with resource_errors(path):
        make_folder(path.parent)
        handle, temporary = make_temporary(path)
        try:
            yield temporary
            flush(temporary)
            handle = system.let_go_to_rename(handle)
            system.replace(temporary, path)
            flush(path.parent)
        finally:
            system.close_and_remove(handle, temporary)


def refuse_to_overwrite(path: str | Path) -> None:
    """Raise `UsageError` where something lies at `path` already."""
    if Path(path).exists():
        raise UsageError(f"{path}: exists, and nothing is overwritten; choose another path, or remove it.")


def where_it_leads(path: Path) -> Path:
    """Return what a symbolic link leads to, else the path itself: what is written is renamed into its place, and would
    take the link's. Only for what a person named; a link that lies in somebody's folder is not followed.

    Raises `UsageError` for one that leads to itself.
    """
    found = Path(os.path.realpath(path)) if path.is_symlink() else path
    if found.is_symlink():
        raise UsageError(f"{path}: is a link that leads to itself; choose another path for the output.")
    return found


def make_folder(path: Path) -> None:
    """Make a folder and those above it that are missing, each of them on the disk when this returns.

    Raises `UsageError` for a name that is not UTF-8, and for a `..` behind a folder that is missing: it would have to
    be made to be left again.
    """
    if str(path).encode("utf-8", "replace").decode() != str(path):
        raise UsageError(f"{path!r}: is not UTF-8, as TensorBoard and others expect; choose another path.")
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    if any(folder.name == ".." for folder in missing):
        raise UsageError(f"{path}: goes up from a folder that does not exist; expected a path without that detour.")
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        flush(folder.parent)


@contextlib.contextmanager
def resource_errors(path: Path) -> Generator[None]:
    """Turn the operating system's word that `path` cannot be written into a `ResourceError` that says why.

    Where nothing can ever lie there, because of how it is called or what it leads through, into a `UsageError`.
    """
    try:
        yield
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise ResourceError(
                f"{path}: {error.strerror} for its file system, or `ulimit -f`; {free_space(path)}."
            ) from error
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise ResourceError(f"{path}: {error.strerror}; {free_space(path)}. Free some and run again.") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise ResourceError(f"{path}: {error.strerror}; expected a folder that can be written.") from error
        if error.errno in UNFIT:
            raise UsageError(f"{path}: {error.strerror}; choose another path for the output.") from error
        raise ResourceError(f"{path}: {error}; {free_space(path)}. The disk or the path is at fault.") from error


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
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all. NaN and infinity are refused with `ValueError`."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_json_lines(path: Path, records: Iterable[dict[str, Any]], *, growing: bool = False) -> None:
    """Write one sealed JSON object a line, whole or not at all; none at all is one empty line.

    Lines of a run folder belong to its configuration. To a `growing` file lines will be appended.
    """
    path = Path(path)
    write_text(path, sealed_lines(list(records), owner_of(path.parent), growing=growing) or "\n")


def owner_of(folder: Path) -> str:
    """Return the checksum of the configuration that lies in this folder; nothing where none does.

    Raises `CheckpointError` where there is one that cannot be read: what is written now could not be read later.
    """
    path = folder / "config.json"
    config = read_json(path) if path.exists() else None
    return str(config.get(KEY, "")) if isinstance(config, dict) else ""


@contextlib.contextmanager
def open_file(path: Path) -> Generator[BufferedReader]:
    """Open a file to read bytes. Raises `OSError`, also where it is no file that ends: a pipe, a device."""
    with open(path, "rb", opener=system.open_at_once) as handle:
        if not stat.S_ISREG(os.fstat(handle.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        yield handle


def read_bytes(path: Path) -> bytes:
    """Return what a file holds. Raises `OSError` as `open_file` does."""
    with open_file(path) as handle:
        return handle.read()


def read_json(path: Path) -> Any:
    """Read a JSON file that Foretell wrote.

    Raises `CheckpointError` where it is missing, over 1 MiB, not JSON, or holds NaN or a key twice.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise CheckpointError(f"{path}: {path.stat().st_size} bytes; expected at most {MAX_JSON_BYTES}.")
        return parse_json(read_bytes(path).decode("utf-8"))
    except OSError as error:
        raise CheckpointError(
            f"{path}: {error.strerror}; expected a file that Foretell wrote. Is the path right?"
        ) from None
    except ValueError as error:
        raise CheckpointError(f"{path}: not readable as JSON ({error}); restore it or start a new run.") from None


def read_sealed_json(path: Path) -> dict[str, Any]:
    """Read a JSON object that was sealed when it was written; its checksum is still in it.

    Raises `CheckpointError` as `read_json` does, and where it is not what was written.
    """
    found = read_json(path)
    if not holds(found):
        older = "it has no checksum, as of an older Foretell, whose runs this one does not read"
        why = (
            "its checksum does not fit: it was changed or damaged"
            if isinstance(found, dict) and KEY in found
            else older
        )
        raise CheckpointError(f"{path}: is not what Foretell wrote there ({why}). Restore it or start a new run.")
    return found


def read_json_lines(path: Path, *, first: int | None = None) -> list[dict[str, Any]]:
    """Read a file of one JSON object a line, or its `first` lines alone; their checksums are checked and left out.

    A torn last line (a crash while appending) is left out. Lines without any checksum are another program's, and
    taken as they are. Raises `CheckpointError` where anything else cannot be read or is not what was written.
    """
    path = Path(path)
    records: list[Any] = []
    lines: list[bytes] = []
    tail: bytes | None = None
    try:
        for line in _lines(path):
            tail = line if not line.endswith(b"\n") else b""
            if not tail and line.strip():
                if first is None or len(records) < first:
                    records.append(_parse_line(path, len(lines) + 1, line))
                lines.append(line.removesuffix(b"\n"))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error}); expected one JSON object a line.") from None
    if tail is None and first is None:
        raise CheckpointError(f"{path}: is empty; expected one JSON object a line. Restore the file.")
    if tail and (first is None or len(records) < first):
        try:
            records.append(parse_json(tail.decode("utf-8")))
            lines.append(tail)
        except ValueError:
            if not records or not _cut_short(tail):
                raise CheckpointError(f"{path}: its last line is damaged; restore the file.") from None
    if not records:
        return []
    try:
        return opened_lines(records, lines[:first], owner_of(path.parent), len(lines))
    except ValueError as error:
        raise CheckpointError(
            f"{path}: line {error} is not what Foretell wrote there (its checksum does not fit); the file was changed, "
            "cut short or is another run's. Restore it."
        ) from None


def _lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file, one after the other. Raises `CheckpointError` for one longer than any of ours."""
    with open_file(path) as handle:
        for number in itertools.count(1):
            if not (line := handle.readline(MAX_JSON_BYTES + 1)):
                return
            if len(line) > MAX_JSON_BYTES:
                raise CheckpointError(
                    f"{path}: line {number} is not JSON (expected at most {MAX_JSON_BYTES} bytes); restore the file."
                )
            yield line


def _parse_line(path: Path, number: int, line: bytes) -> Any:
    try:
        return parse_json(line.decode("utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path}: line {number} is not JSON ({error}); restore the file.") from None


def _cut_short(tail: bytes) -> bool:
    """Whether the write of this line was interrupted: it is JSON up to where it ends."""
    try:
        json.JSONDecoder().raw_decode(tail.decode("utf-8", "ignore"))
    except (ValueError, RecursionError):
        return True
    return False


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
