"""AdamW's step through the C library: of small parameters, what surrounds PyTorch's kernel takes longer than it."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from foretell.training.native.loading import library
from foretell.training.native.tables import Table


class _Settings(ctypes.Structure):
    _fields_ = [(name, ctypes.c_double) for name in ("rate", "beta1", "beta2", "epsilon", "decay")]


def norm(table: Table) -> Tensor | None:
    """Return the norm of all together; None where there is no library, or it does not take these.

    To the bits of PyTorch's operators where those are compiled for AVX2, elsewhere to rounding.
    """
    functions = library()
    if functions is None or not table.taken:
        return None
    found = torch.empty(len(table) + 1)  # those of each, then that of all
    functions.adamw_norm(len(table), table.counts, table.lie, found.data_ptr(), found[-1:].data_ptr())
    return found[-1]


def step(*tables: Table, rate: float, betas: tuple[float, float], epsilon: float, decay: float) -> bool:
    """Move weights and moments, and count the steps; return False where this cannot be done here.

    `tables`: weights, gradients, first moments, second moments, numbers of steps. To the bits of PyTorch's fused AdamW
    where that is compiled for AVX2, elsewhere to rounding.
    """
    functions = library()
    if functions is None or not all(table.taken for table in tables):
        return False
    weights, *_ = tables
    settings = _Settings(rate, *betas, epsilon, decay)
    functions.adamw(ctypes.byref(settings), len(weights), weights.counts, *[table.lie for table in tables])
    return True
