"""Decoding arrays of HDF5 files in a process of its own: what kills the library there, or never ends, ends it alone.

An array that lies in its file in one piece is mapped or copied as it is. Chunks, filters and strings of any length are
decoded by HDF5's library, which files made to be odd can crash, or send round in circles.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import mmap
import os
import signal
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

import h5py
import numpy as np

from foretell.core.errors import DatasetError
from foretell.core.system import resource

PATIENCE = 8
"""Seconds for decoding, and one more for every `BYTES_PER_SECOND`."""
BYTES_PER_SECOND = 10_000_000
_ALIGNED = 64


def decoded(arrays: Mapping[str, h5py.Dataset], path: Path) -> dict[str, np.ndarray]:
    """Return the arrays that do not lie in the file in one piece, by name, in memory; strings as `np.bytes_`.

    Raises `DatasetError` where the library crashes or does not come to an end, what it raises itself as `OSError`,
    `MemoryError` where there is none left.
    """
    apart = {name: array for name, array in arrays.items() if array.dtype == object or array.id.get_offset() is None}
    if not apart:
        return {}
    if not hasattr(os, "fork"):  # Windows: whatever happens to the library happens to this process
        return {name: np.asarray(np.bytes_(array[()]) if array.dtype == object else array[()])
                for name, array in apart.items()}  # fmt: skip
    places, end = {}, 0
    for name, array in apart.items():
        if array.dtype != object:
            places[name] = end
            end += -(-array.nbytes // _ALIGNED) * _ALIGNED
    shared = mmap.mmap(-1, max(end, 1))
    seconds = PATIENCE + end // BYTES_PER_SECOND
    out, into = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other threads may run: the child does without them
        child = os.fork()
    if child == 0:
        _decode(apart, places, shared, into, seconds)
    os.close(into)
    try:
        with os.fdopen(out, "rb") as stream:
            said = stream.read()
    except BaseException:  # Ctrl-C: nobody waits for it any more
        os.kill(child, signal.SIGKILL)
        raise
    finally:
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code == -signal.SIGALRM:
        raise DatasetError(f"{path}: decoding it did not end within {seconds} s; {_MEND}")
    if code == -signal.SIGKILL:  # nobody but the system does that
        raise MemoryError(f"{path}: the process that decoded it was killed; memory may be short")
    if code:
        raise DatasetError(f"{path}: HDF5's library was ended by signal {-code} while decoding it; {_MEND}")
    answer = json.loads(said)
    if "error" in answer:
        error = MemoryError(answer["error"]) if answer["memory"] else OSError(answer["error"])
        if isinstance(error, OSError):
            error.errno = answer["errno"]
        raise error
    strings = {name: np.asarray(np.bytes_(text.encode("latin-1"))) for name, text in answer["strings"].items()}
    return strings | {name: _part(shared, apart[name], place) for name, place in places.items()}


def _part(shared: mmap.mmap, array: h5py.Dataset, place: int) -> np.ndarray:
    if not array.size:
        return np.empty(array.shape, array.dtype)
    return np.frombuffer(shared, array.dtype, array.size, place).reshape(array.shape)


_MEND = "it is damaged, or made to do harm. Fetch or make it again."


def _decode(
    arrays: Mapping[str, h5py.Dataset], places: Mapping[str, int], shared: mmap.mmap, into: int, seconds: int
) -> NoReturn:
    """In the child: decode, say what came of it, and end at once; nothing of the parent's is cleaned up twice."""
    faulthandler.disable()
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number in (signal.SIGALRM, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    signal.alarm(seconds)
    try:
        strings = {}
        for name, array in arrays.items():
            values = array[()]
            if name in places:
                _part(shared, array, places[name])[...] = values
            else:
                strings[name] = bytes(np.bytes_(values)).decode("latin-1")
        answer: dict[str, object] = {"strings": strings}
    except BaseException as error:  # for the parent to judge
        number = getattr(error, "errno", None)
        answer = {"error": str(error), "errno": number, "memory": isinstance(error, MemoryError)}
    with os.fdopen(into, "wb") as stream:
        stream.write(json.dumps(answer).encode())
    os._exit(0)
