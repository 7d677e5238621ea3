"""What a perceptron answers to one row, through the C library: calls of PyTorch take longer than the sums."""

from __future__ import annotations

import ctypes

import torch
from jaxtyping import Float
from torch import Tensor

from foretell.agents.native.building import Library, addresses, usable
from foretell.agents.networks import EnsembleMLP


class _Known:
    """Where the layers of a network lie."""

    def __init__(self, library: Library, network: EnsembleMLP):
        weights, biases = zip(*network.layers)
        self.sizes = [weights[0].shape[1], *(weight.shape[2] for weight in weights)]
        self.library, self._own = library, (weights, biases)
        self.places = _places(network)
        tables = (ctypes.c_int64 * len(self.sizes))(*self.sizes), addresses(weights), addresses(biases)
        self.given = library.sgemm, len(weights), *tables


def _places(network: EnsembleMLP) -> list[int]:
    return [part.data_ptr() for layer in network.layers for part in layer]


class OneRow:
    """The numbers of `EnsembleMLP.forward` for one row, to its bits where PyTorch's BLAS adds up in turn, as on AMD.

    Any number of threads may ask one of these at a time. A copy looks the network up for itself.
    """

    def __init__(self) -> None:
        self._known: _Known | None = None

    def __reduce__(self) -> tuple[type[OneRow], tuple[()]]:
        return OneRow, ()

    def __call__(self, network: EnsembleMLP, row: Float[Tensor, "*shape"]) -> Float[Tensor, "1 1 outputs"] | None:
        """Return the outputs; None where C does not take these, and PyTorch's operators have to."""
        known = self._known
        if known is None or known.places != _places(network):
            library = usable(*network.parameters()) if network.members == 1 else None
            known = self._known = _Known(library, network) if library else None
        if known is None or row.shape != (1, known.sizes[0]) or not usable(row):
            return None
        scratch, outputs = torch.empty(2, max(known.sizes)), torch.empty(1, 1, known.sizes[-1])
        known.library.one_row(*known.given, row.data_ptr(), scratch.data_ptr(), outputs.data_ptr())
        return outputs
