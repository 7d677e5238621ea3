"""Where HDF5 writes to: a file whose errors are kept until they can be raised.

HDF5 writes much of a file while it is closed, and crashes the process where a write then fails: a full disk would end a
recording without a word. So every write goes through here, HDF5 is told that all went well, and whoever writes asks.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from foretell.core import system


class Sink:
    """A file object for h5py. The first error, of whatever kind, is kept; nothing is written after it."""

    def __init__(self, path: Path):
        self._handle = system.open_bytes(path, os.O_RDWR)
        self._place = 0
        self._error: BaseException | None = None

    def check(self) -> None:
        """Raise the error that was kept, if there is one."""
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Close the file."""
        os.close(self._handle)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place; return it."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: os.fstat(self._handle).st_size}[whence]
        self._place = start + offset
        return self._place

    def tell(self) -> int:
        """Return the place."""
        return self._place

    def write(self, data: Any) -> int:
        """Write all of `data` at the place."""
        part = memoryview(data).cast("B")
        self._try(self._write, part)
        self._place += len(part)
        return len(part)

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer from the place on; what lies behind the end of the file is zeros."""
        target = memoryview(buffer).cast("B")
        found = system.read_at(self._handle, len(target), self._place).ljust(len(target), b"\0")
        target[:] = found
        self._place += len(found)
        return len(found)

    def read(self, size: int) -> bytes:
        """Return `size` bytes from the place on."""
        found = bytearray(size)
        self.readinto(found)
        return bytes(found)

    def truncate(self, size: int | None = None) -> int:
        """Make the file this long."""
        self._try(os.ftruncate, self._handle, self._place if size is None else size)
        return size or 0

    def flush(self) -> None:
        """Nothing waits here: the file is flushed to the disk when it is whole."""

    def _write(self, data: memoryview) -> None:
        place = self._place
        while data:
            written = system.write_at(self._handle, data, place)
            data, place = data[written:], place + written

    def _try(self, function: Callable[..., Any], *arguments: Any) -> None:
        if self._error is None:
            try:
                function(*arguments)
            except BaseException as error:  # Ctrl-C too: not even that may reach HDF5
                self._error = error
