"""Norm and clipping of all gradients together through the C library; PyTorch's operators go tensor by tensor."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from foretell.training.native.loading import library
from foretell.training.native.tables import Table


def norm(table: Table) -> Tensor | None:
    """Return the norm of all together, summed in float64; None where there is no library, or it does not take these."""
    functions = library()
    if functions is None or not table.taken:
        return None
    found = torch.empty((), dtype=torch.float32)  # in a twentieth of the time of `torch.tensor`
    functions.norm(len(table), table.counts, table.lie, found.data_ptr())
    return found


def clip(table: Table, norm: Tensor, most: float) -> bool:
    """Scale all, of this `norm` together, down to at most `most`; return False where this cannot be done here.

    To the bits of PyTorch's operators.
    """
    functions = library()
    if functions is None or not table.taken or norm.dtype is not torch.float32:
        return False
    factor = (
        np.float32(1) / (np.float32(float(norm)) + np.float32(1e-6)) * np.float32(most)
    )  # rounds as the operators do
    if not factor >= 1:
        functions.scale(len(table), table.counts, table.lie, float(factor))
    return True
