"""AdamW's step through the C library: of small parameters, what surrounds PyTorch's kernel takes longer than it."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from torch import Tensor

from foretell.core.compiling import EXACT, shared_library
from foretell.training.native.tables import counts, lie, taken


class _Settings(ctypes.Structure):
    _fields_ = [(name, ctypes.c_double) for name in ("rate", "beta1", "beta2", "epsilon", "decay")]


def step(
    weights: Sequence[Tensor], gradients: Sequence[Tensor], first: Sequence[Tensor], second: Sequence[Tensor],
    steps: Sequence[Tensor], *, rate: float, betas: tuple[float, float], epsilon: float, decay: float,
) -> bool:  # fmt: skip
    """Move weights and moments, and count the steps; return False where this cannot be done here.

    To the bits of PyTorch's fused AdamW where that is compiled for AVX2, elsewhere to rounding.
    """
    library, groups = _library(), (weights, gradients, first, second, steps)
    if library is None or not all(map(taken, groups)):
        return False
    settings = _Settings(rate, *betas, epsilon, decay)
    library.foretell_adamw(ctypes.byref(settings), len(weights), counts(weights), *map(lie, groups))
    return True


def available() -> bool:
    """Whether there is a library."""
    return _library() is not None


@cache
def _library() -> ctypes.CDLL | None:
    """Return the library, built if it has to be; None where it is switched off or cannot be had."""
    try:
        path = shared_library(Path(__file__).parent / "adamw.c", flags=EXACT)
        if path is None:
            return None
        library = ctypes.CDLL(str(path))
        stepped = library.foretell_adamw
    except (OSError, AttributeError, subprocess.SubprocessError):
        return None
    stepped.argtypes = [ctypes.c_void_p, ctypes.c_int64, *[ctypes.c_void_p] * 6]
    stepped.restype = None
    return library
