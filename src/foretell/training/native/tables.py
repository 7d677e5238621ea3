"""What C is told of tensors that it reads or moves thousands of times: where they lie, looked up once."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor


class Table:
    """Where tensors lie and how many numbers each holds; it does not keep them alive.

    `taken` is whether the libraries of this folder take them: float32 on the CPU, in one piece each.
    """

    def __init__(self, tensors: Sequence[Tensor]):
        self.taken = all(one.is_cpu and one.dtype is torch.float32 and one.is_contiguous() for one in tensors)
        self.places, self.shapes = tuple(map(Tensor.data_ptr, tensors)), tuple([tuple(one.shape) for one in tensors])
        self.lie = (ctypes.c_void_p * len(tensors))(*self.places)
        self._numbers = [one.numel() for one in tensors]
        self.counts = (ctypes.c_int64 * len(tensors))(*[one.numel() for one in tensors])

    def __len__(self) -> int:
        return len(self.places)

    def holds(self, tensors: Sequence[Tensor]) -> bool:
        """Whether these, of the same types, lie where those lay that it was made of, as long and in one piece again."""
        return (
            self.places == tuple(map(Tensor.data_ptr, tensors)) and self._numbers == list(map(Tensor.numel, tensors))
            and all(map(Tensor.is_contiguous, tensors))
        )  # fmt: skip
