"""Muon's step through the C library: a matrix after the other, where PyTorch's operators stack those of one shape."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import lru_cache

import torch

from foretell.models.native.building import native
from foretell.training.native.loading import library
from foretell.training.native.tables import Table


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
    weights: Table, gradients: Table, momenta: Table, stored: Sequence[int], *, momentum: float, rate: float,
    decay: float, coefficients: tuple[float, float, float], iterations: int,
) -> bool:  # fmt: skip
    """Move weights, of which the rows are `stored` matrices, and their momenta; return False where this cannot be done.

    It takes float32 on the CPU, in one piece each. Raises `MemoryError`.
    """
    blas, functions = native(), library()
    if blas is None or functions is None or not (weights.taken and gradients.taken and momenta.taken):
        return False
    matrices = _matrices(tuple(stored), weights.shapes, gradients.places, momenta.places, weights.places)
    settings = _Settings(blas.product.value, momentum, rate, decay, *coefficients, iterations)
    with blas.one_thread_a_product():
        failed = functions.muon(ctypes.byref(settings), len(matrices), matrices, torch.get_num_threads())
    if failed:
        raise MemoryError("no memory for the step of Muon.")
    return True


@lru_cache(maxsize=8)
def _matrices(stored: tuple[int, ...], shapes: tuple[tuple[int, ...], ...], *places: tuple[int, ...]) -> ctypes.Array:
    """Return a table of all matrices, given how many each weight stores, its shape, and where the three of each lie."""
    item = torch.float32.itemsize
    return (_Matrix * sum(stored))(*[
        _Matrix(rows // count, columns, *(begin + part * rows // count * columns * item for begin in lie))
        for count, (rows, columns), *lie in zip(stored, shapes, *places, strict=True) for part in range(count)
    ])  # fmt: skip
