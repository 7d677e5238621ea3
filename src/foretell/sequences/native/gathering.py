"""Windows through the C library: of small batches, what surrounds NumPy's gathering takes longer than it."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from foretell.core.compiling import EXACT, loaded

TYPES = {np.dtype(name): getattr(torch, name) for name in ("float32", "float64", "uint8", "bool", "int64", "int32")}
"""What columns may be made of."""


class _Column(ctypes.Structure):
    _fields_ = [("from", ctypes.c_void_p), ("bytes", ctypes.c_int64)]


class _Data(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in ("steps", "episodes", "length", "time", "count")),
        *((name, ctypes.c_void_p) for name in ("starts", "ends", "rewards", "columns")),
    ]  # fmt: skip


class Gathering:
    """Columns of a dataset, and where its episodes begin and end, as the library takes them."""

    def __init__(
        self, library: ctypes.CDLL, columns: Sequence[np.ndarray], rewards: np.ndarray | None, starts: np.ndarray,
        ends: np.ndarray, length: int, time: int,
    ):  # fmt: skip
        self._library, self._time = library, time
        self._types = [(one.shape[1:], TYPES[one.dtype]) for one in columns]
        table = (_Column * len(columns))(
            *[_Column(one.ctypes.data, one.dtype.itemsize * one[:1].size) for one in columns]
        )
        self._own = [*columns, rewards, starts, ends, table]  # what the structure points to has to live as long
        self._data = _Data(
            len(columns[0]), len(starts), length, time, len(columns), starts.ctypes.data, ends.ctypes.data,
            None if rewards is None else rewards.ctypes.data, ctypes.addressof(table),
        )  # fmt: skip

    def windows(
        self, last: Int[np.ndarray, " batch"]
    ) -> tuple[
        list[np.ndarray], Int[np.ndarray, "batch time"], Int[np.ndarray, " batch"], Bool[np.ndarray, "batch time"], bool
    ]:
        """Return the windows that end with these rows: of each column `(batch, time, ...)`, their timesteps, the row
        behind each episode's last, which timesteps are real, and whether any is padding, which holds the first one.

        Raises `IndexError` for rows that the dataset does not have.
        """
        rows, shape = _row_numbers(last), (len(last), self._time)
        found = [torch.empty((*shape, *more), dtype=kind) for more, kind in self._types]
        timesteps, ends = torch.empty(shape, dtype=torch.int64), torch.empty(len(last), dtype=torch.int64)
        mask = torch.empty(shape, dtype=torch.bool)
        to = (ctypes.c_void_p * len(found))(*map(Tensor.data_ptr, found))
        padded = self._library.foretell_windows(
            ctypes.byref(self._data), len(last), rows.data_ptr(), to, *map(Tensor.data_ptr, (timesteps, ends, mask))
        )
        if padded < 0:
            raise IndexError(f"rows {last.min()} to {last.max()}; the dataset has 0 to {self._data.steps - 1}.")
        return list(map(Tensor.numpy, found)), timesteps.numpy(), ends.numpy(), mask.numpy(), padded > 0

    def bring(self, last: Int[np.ndarray, " batch"]) -> None:
        """Ask the memory for the windows that end with these rows, so that they are at hand when they are wanted."""
        rows = _row_numbers(last)
        self._library.foretell_bring(ctypes.byref(self._data), len(last), rows.data_ptr())

    def returns_to_go(
        self, rewards: Float[np.ndarray, "batch time"], last: Int[np.ndarray, " batch"],
        ends: Int[np.ndarray, " batch"], behind: Float[np.ndarray, " batch"] | None,
    ) -> Float[np.ndarray, "batch time"] | None:  # fmt: skip
        """Return the return-to-go of every timestep of windows with these rewards; None of rewards not in float32.

        The rewards before the rows in `ends` are added to what lies `behind` them; None where nothing does.
        """
        if self._data.rewards is None or rewards.dtype != np.float32:
            return None
        found = torch.empty(rewards.shape, dtype=torch.float64)
        given = _row_numbers(last), _row_numbers(ends), torch.from_numpy(np.ascontiguousarray(rewards)), found
        self._library.foretell_returns(
            ctypes.byref(self._data), len(last), None if behind is None else behind.ctypes.data,
            *map(Tensor.data_ptr, given),
        )  # fmt: skip
        return found.numpy()


def _row_numbers(rows: Int[np.ndarray, " batch"]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(rows, np.int64))


def gathering(
    columns: Sequence[np.ndarray], *, summed: np.ndarray | None, starts: np.ndarray, ends: np.ndarray,
    length: int | None, time: int,
) -> Gathering | None:  # fmt: skip
    """Return what gathers windows of `time` timesteps; None where the library cannot be had, or does not take the data.

    `summed` are the rewards, where returns-to-go are wanted, `length` is that of every episode, where all have the
    same. It takes columns that are aligned and in one piece, of the common `TYPES`.
    """
    arrays = [*columns, starts, ends]
    plain = all(one.flags.c_contiguous and one.flags.aligned and one.dtype in TYPES for one in arrays)
    library = _library() if plain and starts.dtype == ends.dtype == np.int64 else None
    if library is None:
        return None
    rewards = summed if summed is not None and summed.dtype == np.float32 else None
    return Gathering(library, columns, rewards, starts, ends, length or 0, time)


@cache
def _library() -> ctypes.CDLL | None:
    """Return the library, built if it has to be; None where it is switched off or cannot be had."""
    library = loaded(Path(__file__).parent / "windows.c", flags=EXACT)
    if library is None:
        return None
    windows, bring, returns = library.foretell_windows, library.foretell_bring, library.foretell_returns
    bring.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p]
    windows.argtypes = returns.argtypes = [*bring.argtypes, *[ctypes.c_void_p] * 4]
    windows.restype, bring.restype, returns.restype = ctypes.c_int64, None, None
    return library
