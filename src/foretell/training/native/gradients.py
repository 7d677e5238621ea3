"""The norm and the scaling of all gradients together through the C library; PyTorch's operators go tensor by tensor."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from foretell.core.compiling import shared_library
from foretell.training.native.tables import counts, lie, taken


def norm(gradients: Sequence[Tensor]) -> Tensor | None:
    """Return the norm of all together, summed in float64; None where there is no library, or it does not take these."""
    library = _library()
    if library is None or not taken(gradients):
        return None
    found = library.foretell_norm(len(gradients), counts(gradients), lie(gradients))
    return torch.tensor(found, dtype=torch.float32)


def scale(gradients: Sequence[Tensor], factor: Tensor) -> bool:
    """Multiply all by a number, to the bits of PyTorch's operators; return False where this cannot be done here."""
    library = _library()
    if library is None or not taken([*gradients, factor]):
        return False
    library.foretell_scale(len(gradients), counts(gradients), lie(gradients), float(factor))
    return True


@cache
def _library() -> ctypes.CDLL | None:
    """Return the library, built if it has to be; None where it is switched off or cannot be had."""
    try:
        path = shared_library(Path(__file__).parent / "gradients.c")
        if path is None:
            return None
        library = ctypes.CDLL(str(path))
        of_all, scaled = library.foretell_norm, library.foretell_scale
    except (OSError, AttributeError, subprocess.SubprocessError):
        return None
    of_all.argtypes = [ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p]
    scaled.argtypes = [*of_all.argtypes, ctypes.c_float]
    of_all.restype, scaled.restype = ctypes.c_double, None
    return library
