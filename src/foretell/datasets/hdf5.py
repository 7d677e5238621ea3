"""Opening HDF5 files that may come from strangers: plain arrays inside the file itself, and nothing else.

The file is opened once, read-only, and what is opened is what is mapped. Its groups are walked one hard link at a time;
anything else that HDF5 can hold (links, storage outside the file, virtual arrays, references, filters that would load a
plug-in, sizes that the file does not hold) is refused before a value is read (`datasets.hdf5_rules`).
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Generator
from pathlib import Path

import h5py
import numpy as np
from h5py import h5d, h5g, h5l, h5o, h5pl

from foretell.core import system
from foretell.core.errors import DatasetError
from foretell.core.memory import is_short
from foretell.datasets import hdf5_rules as rules
from foretell.datasets.hdf5_decoding import decoded

MAX_OBJECTS = 10_000
MAX_DEPTH = 16
SIGNATURE = b"\x89HDF\r\n\x1a\n"
_DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError, IndexError, AttributeError)
"""What h5py raises for files that are damaged or made to be odd."""


@contextlib.contextmanager
def open_arrays(path: Path) -> Generator[dict[str, h5py.Dataset | np.ndarray]]:
    """Yield every array of the file by its path inside, checked; close the file afterwards.

    Those that do not lie in the file in one piece are decoded already (`datasets.hdf5_decoding`).

    Raises `DatasetError` where the file is missing, cut short, not HDF5, damaged, or holds what is refused here,
    `MemoryError` where it is memory that is missing.
    """
    path = Path(path)
    with _descriptor(path) as handle, _no_plugins():
        held = os.fstat(handle).st_size
        _check_start(path, system.read_at(handle, len(SIGNATURE), 0))
        try:
            with h5py.File(system.name_of(handle, path), "r", locking=False) as file:
                _check_form(file, path)
                arrays = _walk(file, path)
                rules.check_sizes(arrays, held, path)
                for name, array in arrays.items():
                    rules.check_storage(array, held, f"{path}: {name!r}")
                yield arrays | decoded(arrays, path)
        except _DAMAGE as error:
            if getattr(error, "errno", 0) == errno.ENOMEM or ("allocation failed" in str(error) and is_short()):
                raise MemoryError(f"{path}: no memory to read it") from error  # not the file's fault
            raise DatasetError(f"{path}: {_reason(error)}") from error


def load(array: h5py.Dataset | np.ndarray) -> np.ndarray:
    """Return the array: mapped from the file where it lies there in one piece, else read into memory."""
    if isinstance(array, np.ndarray):
        return array
    offset = array.id.get_offset()
    if offset is None or array.ndim == 0 or array.size == 0:
        return np.asarray(array[()])
    return np.memmap(array.file.filename, dtype=array.dtype, mode="r", offset=offset, shape=array.shape)


def load_small(array: h5py.Dataset | np.ndarray) -> np.ndarray:
    """Return the array in memory; a string of any length as a fixed-length byte string."""
    if isinstance(array, np.ndarray):
        return array
    values = array[()]
    return np.asarray(values if array.dtype != object else np.bytes_(values))


def refuse_other_files(path: Path) -> None:
    """Raise `DatasetError` where a file that another library will read leads to others: by links, storage outside of
    itself, or virtual arrays. What HDF5 raises goes through."""
    with h5py.File(path, "r", locking=False) as file:

        def leading(name: bytes, link: h5l.LinkInfo) -> bytes | None:
            if link.type != h5l.TYPE_HARD:
                return name
            if not isinstance(found := h5o.open(file.id, name), h5d.DatasetID):
                return None
            properties = found.get_create_plist()
            return name if properties.get_layout() == h5d.VIRTUAL or properties.get_external_count() else None

        if name := file.id.links.visit(leading, info=True):  # ends at the first that is not None
            raise DatasetError(
                f"{path}: {name.decode(errors='replace')!r:.100} leads elsewhere; expected everything inside the file. "
                "Copy the data into it."
            )


@contextlib.contextmanager
def _descriptor(path: Path) -> Generator[int]:
    missing = DatasetError(f"{path}: no such file; expected a dataset in D4RL's HDF5 form. Is the path right?")
    try:
        handle = system.open_at_once(path, os.O_RDONLY)  # a pipe would wait for its other end
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR) or (system.OPEN_FILES_STAY and path.is_dir()):
            raise missing from None
        raise DatasetError(f"{path}: cannot be opened ({error.strerror}); expected a file that can be read.") from None
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise missing
        yield handle
    finally:
        os.close(handle)


@contextlib.contextmanager
def _no_plugins() -> Generator[None]:
    """Leave HDF5 no place to look for plug-ins: a file could name one as a filter, and have its code run."""
    places = [h5pl.get(index) for index in range(h5pl.size())]
    for _ in places:
        h5pl.remove(0)
    try:
        yield
    finally:
        for place in places:
            h5pl.append(place)


def _check_start(path: Path, start: bytes) -> None:
    if not start:
        raise DatasetError(
            f"{path}: the file is empty; expected a dataset in D4RL's HDF5 form. Fetch or make it again."
        )
    if start != SIGNATURE:
        raise DatasetError(
            f"{path}: not an HDF5 file, or one that begins with something else; expected a dataset in D4RL's HDF5 "
            "form. Is it the right file?"
        )


def _check_form(file: h5py.File, path: Path) -> None:
    """Say of a form that is known, by its names alone, what it is; it would be refused for something in it."""
    if {"actions_0", "observations_0"} <= set(file):
        raise DatasetError(
            f"{path}: a ReplayBuffer of d3rlpy ('observations_0', 'actions_0' and so on, of each episode); expected "
            "D4RL's form, 'observations', 'actions', 'rewards', 'terminals' of all episodes one behind the other. "
            "Join them to a foretell.Dataset and write that (docs/datasets.md)."
        )
    if (demo := _demonstration(file)) is not None:
        raise DatasetError(
            f"{path}: robomimic's form (data/{demo} and so on, a group an episode, observations in parts); expected "
            "D4RL's form, 'observations', 'actions', 'rewards', 'terminals' of all episodes one behind the other. Read "
            "them into foretell.Episode and write these with foretell.write_d4rl (docs/datasets.md)."
        )


def _demonstration(file: h5py.File) -> str | None:
    """Return the name of a demonstration in robomimic's form; None where there is none."""
    if "data" not in file or not isinstance(file.get("data", getlink=True), h5py.HardLink):
        return None
    group = file["data"]
    return next((name for name in group if name.startswith("demo_")), None) if isinstance(group, h5py.Group) else None


def _walk(file: h5py.File, path: Path) -> dict[str, h5py.Dataset]:
    found: dict[str, h5py.Dataset] = {}
    waiting: list[tuple[str, h5py.Group, int]] = [("", file, 1)]
    names: dict[int, str] = {h5g.get_objinfo(file.id).objno[0]: "/"}
    while waiting:
        prefix, group, depth = waiting.pop()
        for name in group:
            where = f"{path}: {f'{prefix}{name}'!r:.100}"
            if len(names) > MAX_OBJECTS or depth > MAX_DEPTH:
                raise DatasetError(
                    f"{where}: more than {MAX_OBJECTS} objects, or {MAX_DEPTH} groups inside each other; expected one "
                    "array a column. Is it a dataset in D4RL's form?"
                )
            if not isinstance(name, str) or not name.isprintable() or len(name) > 100:
                raise DatasetError(f"{where} is no name; expected at most 100 characters that can be read. Rename it.")
            address = _address(group, name, where)
            if address in names:
                raise DatasetError(
                    f"{where} is the same object as {names[address]!r:.100}; expected each once. Copy the data."
                )
            names[address] = f"{prefix}{name}"
            item = group[name]
            if isinstance(item, h5py.Group):
                waiting.append((f"{prefix}{name}/", item, depth + 1))
            elif isinstance(item, h5py.Dataset):
                rules.check_kind(item, where)
                found[f"{prefix}{name}"] = item
            else:
                raise DatasetError(f"{where} is a {type(item).__name__}; expected arrays and groups. Leave it out.")
    return found


def _address(group: h5py.Group, name: str, where: str) -> int:
    """Return where in the file the object of this name lies; a name that is any other link is refused, not followed."""
    link = group.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink):
        raise DatasetError(
            f"{where} is a link ({type(link).__name__}); expected the array itself. Copy the linked data into the file."
        )
    return group.id.links.get_info(name.encode()).u


def _reason(error: Exception) -> str:
    said = str(error).splitlines()[0] if str(error) else type(error).__name__
    if "truncated" in said:
        return "the file was cut short; expected a whole HDF5 file. Fetch or make it again."
    return f"the HDF5 file cannot be read ({said:.200}). Fetch or make it again."
