"""`EnsembleMLP` through the C library: what `agents.backpropagation.TorchPass` does, in memory made once."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from foretell.agents.native.building import Library, addresses
from foretell.agents.networks import EnsembleMLP

DEEP = 512
"""The longest sums that core/native/products.h adds up at a time."""


class _Perceptrons(ctypes.Structure):
    _fields_ = [
        ("sgemm", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("deep", "members", "rows", "layers", "widest")),
        *((name, ctypes.c_void_p) for name in (
            "sizes", "weights", "biases", "weight_gradients", "bias_gradients", "kept", "first_scratch",
            "second_scratch",
        )),
    ]  # fmt: skip


class Scratch:
    """Memory that a pass needs no longer than a call lasts, the same for all passes of one agent."""

    def __init__(self) -> None:
        self._pair = [torch.empty(0), torch.empty(0)]

    def pair(self, count: int) -> list[Tensor]:
        """Return two tensors of at least `count` numbers, to be kept by who uses them."""
        if self._pair[0].numel() < count:
            self._pair = [torch.empty(count) for _ in range(2)]
        return self._pair


class NativePass:
    """Forward and backward of one network for batches of `rows`; what `forward` returns lasts until the next.

    `deep`: of longer sums, so many terms at a time are added up, where core/native/products.h does it.
    Of a network without `grad`, such as a target, only `forward` may be called: hidden layers may be in the scratch.
    """

    def __init__(self, functions: Library, network: EnsembleMLP, rows: int, shared: Scratch, *, deep: int = DEEP):
        self._functions, self.network, self.rows = functions, network, rows
        sizes = [network.layers[0][0].shape[1], *(weight.shape[2] for weight, _ in network.layers)]
        weights, biases = zip(*network.layers)
        gradients = [[one.grad for one in group if one.grad is not None] for group in (weights, biases)]
        scratch = shared.pair(network.members * rows * max(sizes))
        self._kept = [torch.empty(network.members, rows, width) for width in sizes[1:]]
        if not gradients[0] and len(set(sizes[1:-1])) == 1:  # threads are not at the same layer at all times
            self._kept[:-1] = [scratch[layer % 2] for layer in range(len(sizes) - 2)]
        tables = [(ctypes.c_int64 * len(sizes))(*sizes),
                  *(addresses(group) for group in (weights, biases, *gradients, self._kept))]  # fmt: skip
        self._own = [*scratch, *gradients, *tables]  # what the structure points to has to live as long
        self._of = _Perceptrons(
            functions.sgemm, deep, network.members, rows, len(weights), max(sizes), *map(ctypes.addressof, tables),
            *(one.data_ptr() for one in scratch),
        )  # fmt: skip
        self.address = ctypes.addressof(self._of)  # for other functions of the library that take a network's passes
        self._weights = sum(one.numel() for layer in network.layers for one in layer)
        self._partial, self._found = torch.empty(0), torch.empty(network.members * rows, dtype=torch.int64)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the outputs `(members, rows, outputs)`."""
        self.read = inputs.contiguous()
        self._functions.forward(self.address, self.read.data_ptr(), torch.get_num_threads())
        return self._kept[-1]

    def backward(self, gradient: Tensor) -> None:
        """Write `grad` of every parameter, from the gradient `(members, rows, outputs)` of the first rows' outputs."""
        gradient, threads = gradient.contiguous(), torch.get_num_threads()
        self._functions.backward(
            self.address, gradient.shape[1], gradient.data_ptr(), self.read.data_ptr(),
            self.partial(threads).data_ptr(), threads,
        )  # fmt: skip

    def gradient_of_inputs(self, gradient: Tensor, first: int) -> Tensor:
        """Return the gradient `(rows, wanted)` with respect to the inputs from number `first` on, over all members."""
        gradient, found = gradient.contiguous(), torch.empty(gradient.shape[1], self.read.shape[1] - first)
        self._functions.inputs(
            self.address, gradient.shape[1], gradient.data_ptr(), first, found.shape[1], found.data_ptr(),
            self._found.data_ptr(), torch.get_num_threads(),
        )  # fmt: skip
        return found

    def partial(self, threads: int) -> Tensor:
        """Room for gradients of what threads beyond one a member take of its rows."""
        members = self.network.members
        shape = -(-threads // members) - 1, self._weights
        if self._partial.shape != shape:
            self._partial = torch.empty(shape)
        return self._partial
