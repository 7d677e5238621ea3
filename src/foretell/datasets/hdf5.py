"""Opening HDF5 files that may come from strangers: plain arrays inside the file itself, and nothing else.

A link to another file, storage outside the file, a virtual dataset, a filter that would load a plugin, a declared size
that the file does not hold: each is refused before a value is read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from foretell.core.errors import DatasetError

MAX_OBJECTS = 10_000
MAX_EXPANSION = 1100
"""Deflate compresses by 1032 at most; a file that declares more for its size is a bomb or damaged."""
FREE_EXPANSION_BYTES = 1 << 26
"""Small enough to be read whatever the file's size: tiny files carry fixed overheads either way."""
KNOWN_FILTERS = {1: "gzip", 2: "shuffle", 3: "fletcher32", 4: "szip", 5: "nbit", 6: "scaleoffset", 32000: "lzf"}


@contextlib.contextmanager
def open_arrays(path: Path) -> Iterator[dict[str, h5py.Dataset]]:
    """Yield every array of the file by its path inside, checked; close the file afterwards.

    Raises `DatasetError` where the file is missing, cut short, not HDF5, damaged, or holds what is refused here.
    """
    path = Path(path)
    if not path.is_file():
        raise DatasetError(f"{path}: no such file; expected a dataset in D4RL's HDF5 form. Is the path right?")
    try:
        with h5py.File(path, "r", locking=False) as file:
            arrays = _walk(file, path)
            _check_sizes(arrays, path)
            yield arrays
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise DatasetError(f"{path}: {_reason(path, error)}") from error


def load(array: h5py.Dataset, path: Path) -> np.ndarray:
    """Return the array: mapped from the file where it lies there in one piece, else read into memory."""
    offset = array.id.get_offset()
    if offset is None or array.ndim == 0 or array.size == 0:
        return np.asarray(array[()])
    return np.memmap(path, dtype=array.dtype, mode="r", offset=offset, shape=array.shape)


def load_small(array: h5py.Dataset) -> np.ndarray:
    """Return the array in memory; a string of any length as a fixed-length byte string."""
    values = array[()]
    return np.asarray(values if array.dtype != object else np.bytes_(values))


def _walk(file: h5py.File, path: Path) -> dict[str, h5py.Dataset]:
    found: dict[str, h5py.Dataset] = {}
    waiting: list[tuple[str, h5py.Group]] = [("", file)]
    visited = 0
    while waiting:
        prefix, group = waiting.pop()
        for name in group:
            where = f"{prefix}{name}"
            visited += 1
            if visited > MAX_OBJECTS:  # groups that hold each other would never end
                raise DatasetError(
                    f"{path}: more than {MAX_OBJECTS} objects; expected one array a column. "
                    "Is it a dataset in D4RL's form?"
                )
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                raise DatasetError(
                    f"{path}: {where!r} is a link ({type(link).__name__}); expected the array itself. "
                    "Copy the linked data into the file."
                )
            item = group[name]
            if isinstance(item, h5py.Group):
                waiting.append((f"{where}/", item))
            elif isinstance(item, h5py.Dataset):
                _check_plain(item, f"{path}: {where!r}")
                found[where] = item
    return found


def _check_plain(array: h5py.Dataset, where: str) -> None:
    if array.is_virtual or array.external:
        raise DatasetError(f"{where} lies in other files; expected it inside this one. Copy the data into the file.")
    string = h5py.check_string_dtype(array.dtype)
    if array.dtype.hasobject and not (string is not None and array.shape == ()):
        raise DatasetError(f"{where} has type {array.dtype} (objects); expected numbers. Leave it out or convert it.")
    properties = array.id.get_create_plist()
    filters = [properties.get_filter(i)[0] for i in range(properties.get_nfilters())]
    unknown = [number for number in filters if number not in KNOWN_FILTERS]
    if unknown:
        raise DatasetError(
            f"{where} is stored with HDF5 filter {unknown[0]}; expected none or one of "
            f"{', '.join(KNOWN_FILTERS.values())}. Write it again, for example with gzip."
        )


def _check_sizes(arrays: dict[str, h5py.Dataset], path: Path) -> None:
    held = path.stat().st_size
    contiguous = unpacked = 0
    for array in arrays.values():
        if array.chunks is None and array.id.get_create_plist().get_layout() == h5py.h5d.CONTIGUOUS:
            contiguous += array.nbytes
        else:
            unpacked += array.nbytes
    if contiguous > held:
        raise DatasetError(
            f"{path}: arrays of {contiguous} bytes are declared in a file of {held} bytes; expected the file to hold "
            "them. It was cut short or damaged: fetch or make it again."
        )
    if unpacked > max(FREE_EXPANSION_BYTES, MAX_EXPANSION * held):
        raise DatasetError(
            f"{path}: compressed arrays unpack to {unpacked} bytes from a file of {held} bytes; expected at most "
            f"{MAX_EXPANSION} times its size. Do not open this file."
        )


def _reason(path: Path, error: Exception) -> str:
    with open(path, "rb") as handle:
        head = handle.read(8)
    if path.stat().st_size == 0:
        return "the file is empty; expected a dataset in D4RL's HDF5 form. Fetch or make it again."
    if "truncated" in str(error):
        return "the file was cut short; expected a whole HDF5 file. Fetch or make it again."
    if head != b"\x89HDF\r\n\x1a\n":
        return "not an HDF5 file; expected a dataset in D4RL's HDF5 form. Is it the right file?"
    return f"the HDF5 file cannot be read ({str(error).splitlines()[0]}). Fetch or make it again."
