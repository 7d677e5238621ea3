"""What C is told of tensors that it reads or moves thousands of times: where they lie, looked up once."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor


def taken(tensors: Sequence[Tensor]) -> bool:
    """Whether the libraries of this folder take these: float32 on the CPU, in one piece each."""
    return all(one.is_cpu and one.dtype is torch.float32 and one.is_contiguous() for one in tensors)


def lie(tensors: Sequence[Tensor]) -> ctypes.Array:
    """Return a table of where they lie; it does not keep them alive."""
    return _numbers(ctypes.c_void_p, tuple([one.data_ptr() for one in tensors]))


def counts(tensors: Sequence[Tensor]) -> ctypes.Array:
    """Return a table of how many numbers each holds."""
    return _numbers(ctypes.c_int64, tuple([one.numel() for one in tensors]))


@lru_cache(maxsize=64)
def _numbers(kind: type, numbers: tuple[int, ...]) -> ctypes.Array:
    return (kind * len(numbers))(*numbers)
