"""One name for the content of a dataset: SHA-256 over its columns, whatever file they lie in."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from foretell.core.errors import DatasetError

if TYPE_CHECKING:
    from foretell.datasets.dataset import Dataset

REPLACED = (
    "the file was edited or damaged: fetch or make it again. Of columns that you replaced in Python, leave out what "
    "the file says of them: stored_fingerprint=None, path=None."
)
"""What to do about columns that are not those that were written."""
BLOCK_ROWS = 1 << 16
"""Rows hashed at a time, so that a mapped file larger than memory can be hashed too."""
BLOCK_NUMBERS = 1 << 22
"""Numbers of a column that are computed with at a time, at most: of images that is fewer rows."""


class ColumnHasher:
    """Hashes columns that arrive in blocks of rows; the result does not depend on how they were cut."""

    def __init__(self) -> None:
        self._digests: dict[str, hashlib._Hash] = {}
        self._rows: dict[str, int] = {}
        self._kinds: dict[str, str] = {}

    def update(self, columns: Mapping[str, np.ndarray]) -> None:
        """Take in the next rows of each column."""
        for name, values in columns.items():
            if name not in self._digests:
                self._digests[name] = hashlib.sha256()
                self._kinds[name] = f"{values.dtype.str} {values.shape[1:]}"
            self._digests[name].update(np.ascontiguousarray(values).view(np.uint8).data)
            self._rows[name] = self._rows.get(name, 0) + len(values)

    def hexdigest(self) -> str:
        """Return the SHA-256 over every column's name, type, shape and bytes, in the order of the names."""
        lines = [
            f"{name} {self._kinds[name]} {self._rows[name]} {self._digests[name].hexdigest()}\n"
            for name in sorted(self._digests)
        ]
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def fingerprint(columns: Mapping[str, np.ndarray]) -> str:
    """Return the fingerprint of whole columns, all of one length."""
    hasher = ColumnHasher()
    rows = max(map(len, columns.values()), default=0)
    for start in range(0, rows, BLOCK_ROWS):
        hasher.update({name: values[start : start + BLOCK_ROWS] for name, values in columns.items()})
    return hasher.hexdigest()


def block_rows(values: np.ndarray) -> int:
    """Return how many rows of a column to compute with at a time: `BLOCK_ROWS`, or as many as have `BLOCK_NUMBERS`."""
    return max(1, min(BLOCK_ROWS, BLOCK_NUMBERS // max(1, math.prod(values.shape[1:]))))


def checksum_of(arrays: Mapping[str, np.ndarray]) -> str:
    """Return the SHA-256 over the names, types, shapes and bytes of arrays of any shape: what is not a column."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        values = np.ascontiguousarray(arrays[name]).reshape(-1)  # a single value would else be one without axes
        digest.update(f"{name!r} {values.dtype.str} {np.shape(arrays[name])}\n".encode())
        digest.update(values.view(np.uint8).data if values.size else b"")
    return digest.hexdigest()


def unchanged(dataset: Dataset) -> Dataset:
    """Return a dataset whose columns are those that were written, for whoever copies it.

    One linear pass. Raises `DatasetError` where the file keeps a fingerprint and the columns have another.
    """
    if dataset.stored_fingerprint not in (None, dataset.fingerprint()):
        raise DatasetError(
            f"{dataset.path or dataset.name}: the columns are not those that were written (the stored fingerprint "
            f"differs); {REPLACED}"
        )
    return dataset
