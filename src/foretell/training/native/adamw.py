"""AdamW's step through the C library: of small parameters, what surrounds PyTorch's kernel takes longer than it."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

from torch import Tensor

from foretell.training.native.loading import library
from foretell.training.native.tables import Table, table_of


class _Settings(ctypes.Structure):
    _fields_ = [(name, ctypes.c_double) for name in ("rate", "beta1", "beta2", "epsilon", "decay")]


def step(
    *groups: Sequence[Tensor] | Table, rate: float, betas: tuple[float, float], epsilon: float, decay: float
) -> bool:
    """Move weights and moments, and count the steps; return False where this cannot be done here.

    `groups`: weights, gradients, first moments, second moments, numbers of steps. To the bits of PyTorch's fused AdamW
    where that is compiled for AVX2, elsewhere to rounding.
    """
    functions, tables = library(), [*map(table_of, groups)]
    if functions is None or not all(table.taken for table in tables):
        return False
    weights, *_ = tables
    settings = _Settings(rate, *betas, epsilon, decay)
    functions.adamw(ctypes.byref(settings), len(weights), weights.counts, *[table.lie for table in tables])
    return True


def available() -> bool:
    """Whether there is a library."""
    return library() is not None
