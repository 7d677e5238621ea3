"""Sums of bells and of cosines through the C library: one call where PyTorch's operators store every term of a sum."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from foretell.core.compiling import loaded

AS_WRITTEN = "-fno-associative-math"
"""Numbers are made whole by adding a large one and taking it away again."""
LARGEST_ANGLE = 1e5
"""Beyond it the library's cosine loses digits."""


def sum_of_bells(
    rows: Float[Tensor, "rows terms"], columns: Float[Tensor, "terms others"], weights: Float[Tensor, "members others"],
    lowest: float, highest: float,
) -> Float[Tensor, "rows members"] | None:  # fmt: skip
    """Return $e^{rows\\, columns}\\, weights^\\top$, exponents clamped; None where the library cannot take these.

    It takes float64 on the CPU, in one piece each, and exponents of size 708 at most.
    """
    return _sums(True, rows, columns, weights, lowest, highest) if -708 <= lowest <= highest <= 708 else None


def sum_of_cosines(
    rows: Float[Tensor, "rows terms"], columns: Float[Tensor, "terms others"], weights: Float[Tensor, "members others"]
) -> Float[Tensor, "rows members"] | None:
    """Return $\\cos(rows\\, columns)\\, weights^\\top$; None where `sum_of_bells` gives none, or angles are large."""
    if len(rows) and rows.abs().amax(0) @ columns.abs().amax(1) <= LARGEST_ANGLE:
        return _sums(False, rows, columns, weights, 0.0, 0.0)
    return None


def _sums(
    bells: bool, rows: Tensor, columns: Tensor, weights: Tensor, lowest: float, highest: float
) -> Float[Tensor, "rows members"] | None:
    given = rows.contiguous(), columns, weights
    taken = all(one.dtype == torch.float64 and one.device.type == "cpu" and one.is_contiguous() for one in given)
    if not taken or (function := _function()) is None:
        return None
    found = torch.empty(len(rows), len(weights), dtype=torch.float64)
    function(
        bells, *rows.shape, columns.shape[1], len(weights), *(one.data_ptr() for one in given), lowest, highest,
        found.data_ptr(), torch.get_num_threads(),
    )  # fmt: skip
    return found


@cache
def _function() -> Callable[..., None] | None:
    """Return what the library offers, built if it has to be; None where it is switched off or cannot be had."""
    library = loaded(Path(__file__).parent / "bells.c", flags=["-fopenmp", AS_WRITTEN])
    if library is None:
        return None
    function = library.foretell_sums
    whole, real, pointer = ctypes.c_int64, ctypes.c_double, ctypes.c_void_p
    function.argtypes = [ctypes.c_int, *[whole] * 4, *[pointer] * 3, real, real, pointer, ctypes.c_int]
    function.restype = None
    return function
