"""Muon's step through the C library: a matrix after the other, where PyTorch's operators stack those of one shape."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path

import torch
from torch import Tensor

from foretell.core.compiling import PRODUCTS, shared_library
from foretell.models.native.building import native
from foretell.training.native.tables import taken


class _Matrix(ctypes.Structure):
    _fields_ = [
        ("rows", ctypes.c_int64), ("columns", ctypes.c_int64), ("gradient", ctypes.c_void_p),
        ("momentum", ctypes.c_void_p), ("weight", ctypes.c_void_p),
    ]  # fmt: skip


class _Settings(ctypes.Structure):
    _fields_ = [
        ("sgemm", ctypes.c_void_p),
        *((name, ctypes.c_float) for name in ("momentum", "rate", "decay", "first", "second", "third")),
        ("iterations", ctypes.c_int64),
    ]  # fmt: skip


def step(
    weights: Sequence[Tensor], gradients: Sequence[Tensor], momenta: Sequence[Tensor], stored: Sequence[int], *,
    momentum: float, rate: float, decay: float, coefficients: tuple[float, float, float], iterations: int,
) -> bool:  # fmt: skip
    """Move weights, of which the rows are `stored` matrices, and their momenta; return False where this cannot be done.

    It takes float32 on the CPU, in one piece each. Raises `MemoryError`.
    """
    blas, library = native(), _library()
    if blas is None or library is None or not taken([*weights, *gradients, *momenta]):
        return False
    matrices = _matrices(tuple([
        (count, *weight.shape, gradient.data_ptr(), moved.data_ptr(), weight.data_ptr())
        for weight, gradient, moved, count in zip(weights, gradients, momenta, stored, strict=True)
    ]))  # fmt: skip
    settings = _Settings(blas.product.value, momentum, rate, decay, *coefficients, iterations)
    with blas.one_thread_a_product():
        failed = library.foretell_muon(ctypes.byref(settings), len(matrices), matrices, torch.get_num_threads())
    if failed:
        raise MemoryError("no memory for the step of Muon.")
    return True


def available() -> bool:
    """Whether there is a library."""
    return native() is not None and _library() is not None


@lru_cache(maxsize=8)
def _matrices(weights: tuple[tuple[int, int, int, int, int, int], ...]) -> ctypes.Array:
    """Return a table of all matrices, given of each weight how many it stores, its shape and where the three lie."""
    item = torch.float32.itemsize
    return (_Matrix * sum(count for count, *_ in weights))(*[
        _Matrix(rows // count, columns, *(begin + part * rows // count * columns * item for begin in lie))
        for count, rows, columns, *lie in weights for part in range(count)
    ])  # fmt: skip


@cache
def _library() -> ctypes.CDLL | None:
    """Return the library, built if it has to be; None where it is switched off or cannot be had."""
    try:
        path = shared_library(Path(__file__).parent / "muon.c", [PRODUCTS], flags=["-fopenmp"])
        if path is None:
            return None
        library = ctypes.CDLL(str(path))
        step = library.foretell_muon
    except (OSError, AttributeError, subprocess.SubprocessError):
        return None
    step.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_int]
    step.restype = ctypes.c_int
    return library
