"""`EnsembleMLP` through the C library: what `agents.backpropagation.TorchPass` does, in memory made once."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from foretell.agents.native.building import Library, addresses
from foretell.agents.networks import EnsembleMLP


class _Perceptrons(ctypes.Structure):
    _fields_ = [
        ("sgemm", ctypes.c_void_p), ("members", ctypes.c_int64), ("rows", ctypes.c_int64), ("layers", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in (
            "sizes", "weights", "biases", "weight_gradients", "bias_gradients", "kept", "first_scratch",
            "second_scratch",
        )),
    ]  # fmt: skip


class NativePass:
    """Forward and backward of one network for batches of `rows`; what `forward` returns lasts until the next."""

    def __init__(self, functions: Library, network: EnsembleMLP, rows: int):
        self._functions, self.network, self.rows = functions, network, rows
        sizes = [network.layers[0][0].shape[1], *(weight.shape[2] for weight, _ in network.layers)]
        self._kept = [torch.empty(network.members, rows, width) for width in sizes[1:]]
        scratch = [torch.empty(network.members, rows, max(sizes)) for _ in range(2)]
        weights, biases = zip(*network.layers)
        gradients = [[one.grad for one in group if one.grad is not None] for group in (weights, biases)]
        tables = [(ctypes.c_int64 * len(sizes))(*sizes),
                  *(addresses(group) for group in (weights, biases, *gradients, self._kept))]  # fmt: skip
        self._own = [*scratch, *gradients, *tables]  # what the structure points to has to live as long
        self._of = _Perceptrons(
            functions.sgemm, network.members, rows, len(weights), *map(ctypes.addressof, tables),
            *(one.data_ptr() for one in scratch),
        )  # fmt: skip
        self._address = ctypes.addressof(self._of)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the outputs `(members, rows, outputs)`."""
        self._inputs = inputs.contiguous()
        self._functions.forward(self._address, self._inputs.data_ptr(), torch.get_num_threads())
        return self._kept[-1]

    def backward(self, gradient: Tensor) -> None:
        """Write `grad` of every parameter, from the gradient `(members, rows, outputs)` of the first rows' outputs."""
        gradient = gradient.contiguous()
        self._functions.backward(
            self._address, gradient.shape[1], gradient.data_ptr(), self._inputs.data_ptr(), 0, 0, None,
            torch.get_num_threads(),
        )  # fmt: skip

    def gradient_of_inputs(self, gradient: Tensor, first: int) -> Tensor:
        """Return the gradient `(rows, wanted)` with respect to the inputs from number `first` on, over all members."""
        gradient, found = gradient.contiguous(), torch.empty(gradient.shape[1], self._inputs.shape[1] - first)
        self._functions.backward(
            self._address, gradient.shape[1], gradient.data_ptr(), None, first, found.shape[1], found.data_ptr(),
            torch.get_num_threads(),
        )  # fmt: skip
        return found
