"""Numbers as symbols: every dimension cut into bins, one symbol each (Janner et al. 2021, section 3.1)."""

from __future__ import annotations

from typing import get_args

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from foretell.core.errors import UsageError
from foretell.sequences.configs import Binning


class Discretizer(nn.Module):
    """Bins of `dimensions` numbers; a module, so that its edges travel with a network's weights.

    Before `fit` every dimension is cut uniformly from -1 to 1. Values outside belong to the outermost bins. Where many
    of the data are one and the same number, that number has bins of no width, and is given back exactly; in bins by
    quantiles, so is every number of a dimension with at most (bins + 1) / 2 different ones.
    """

    edges: Tensor
    """(dimensions, bins + 1), ascending, not strictly."""

    def __init__(self, dimensions: int, bins: int):
        super().__init__()
        self.register_buffer("edges", torch.linspace(-1, 1, bins + 1).repeat(dimensions, 1))

    @property
    def bins(self) -> int:
        """Symbols of each dimension."""
        return self.edges.shape[1] - 1

    @property
    def centers(self) -> Float[Tensor, "dimensions bins"]:
        """What the symbols stand for."""
        return (self.edges[:, :-1] + self.edges[:, 1:]) / 2

    def fit(self, values: Float[np.ndarray, "rows dimensions"], binning: Binning) -> None:
        """Cut every dimension from its smallest to its largest value. Raises `UsageError` for an unknown binning."""
        if binning not in get_args(Binning):
            raise UsageError(f"binning is {binning!r}; expected one of {', '.join(get_args(Binning))}.")
        values = np.asarray(values, np.float32)
        places = np.linspace(0, 1, self.bins + 1)
        if binning == "quantile":
            edges = np.quantile(values, places, axis=0).T
            for own, column in zip(edges, values.T, strict=True):
                found = np.unique(column)
                if 2 * len(found) <= len(own):  # a bin for each, however rare, and one between it and the next
                    own[:] = np.pad(found.repeat(2), (0, len(own) - 2 * len(found)), mode="edge")
        else:
            low, high = values.min(0).astype(np.float64), values.max(0).astype(np.float64)
            edges = low[:, None] + (high - low)[:, None] * places
        edges = np.maximum.accumulate(edges.astype(np.float32), axis=1)
        self.edges.copy_(torch.from_numpy(np.ascontiguousarray(edges)))

    def encode(self, values: Float[Tensor, "*batch dimensions"]) -> Int[Tensor, "*batch dimensions"]:
        """Return the symbols 0 to bins - 1 that the values belong to.

        >>> cut = Discretizer(1, 4)
        >>> cut.encode(torch.tensor([[-0.9], [-0.5], [0.1], [7.0]])).flatten()
        tensor([0, 1, 2, 3])
        """
        columns = values.reshape(-1, len(self.edges)).T.contiguous()
        behind = torch.searchsorted(self.edges, columns, right=True)
        before = torch.searchsorted(self.edges, columns)
        symbols = torch.where(behind - before > 1, before, behind - 1).clamp(0, self.bins - 1)  # its own bin, if it has
        return symbols.T.reshape(values.shape)

    def decode(self, symbols: Int[Tensor, "*batch dimensions"]) -> Float[Tensor, "*batch dimensions"]:
        """Return the middle of each symbol's bin; at most half a bin from what was encoded.

        >>> Discretizer(1, 4).decode(torch.tensor([[0], [3]])).flatten()
        tensor([-0.7500,  0.7500])
        """
        dimension = torch.arange(len(self.edges), device=symbols.device)
        return self.centers[dimension, symbols]
