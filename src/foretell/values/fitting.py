"""Fitting a small network to data: Adam, a learning rate that falls to 0 along a cosine."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from foretell.agents.adam import SmallAdam
from foretell.agents.backpropagation import Passes
from foretell.agents.networks import EnsembleMLP

TOGETHER = 64
"""Updates whose rows are read at once: reading takes as long as computing where it is done batch by batch."""
TOGETHER_BYTES = 1 << 26
"""Bytes read at once, at most: of wide observations that is fewer updates, down to one."""


@torch.no_grad()
def fit(
    network: EnsembleMLP,
    drawn: Iterator[tuple[Tensor, ...]],
    slopes: Callable[..., Float[Tensor, "1 rows outputs"]],
    *,
    updates: int,
    learning_rate: float,
) -> None:
    """Take a step for each of `updates` batches, inputs and what `slopes` reads beside the outputs; freeze the network.

    `slopes` are those of the loss by the outputs: of losses as small as these, autograd takes longer than the network.
    The numbers are autograd's and `torch.optim.Adam`'s to rounding.
    """
    parameters = list(network.parameters())
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    passes, optimizer = Passes(), SmallAdam(parameters, learning_rate)
    for update in range(updates):
        inputs, *told = next(drawn)
        through = passes.of(network, len(inputs))
        through.backward(slopes(through.forward(inputs), *told))
        optimizer.param_groups[0]["lr"] = learning_rate * 0.5 * (1 + math.cos(math.pi * update / updates))
        optimizer.advance()
    network.requires_grad_(False)
    for parameter in parameters:
        parameter.grad = None


def batches(
    draw: Callable[[int], Int[np.ndarray, " batch"]],
    read: Callable[[Int[np.ndarray, " rows"]], tuple[Tensor, ...]],
    updates: int,
) -> Iterator[tuple[Tensor, ...]]:
    """Yield for every update what `read` gives for the rows that `draw` names, many updates' rows read at once.

    >>> list(batches(lambda update: np.array([update, 5]), lambda rows: (torch.from_numpy(rows),), 2))
    [(tensor([0, 5]),), (tensor([1, 5]),)]
    """
    first, together = 0, 1
    while first < updates:
        drawn = [draw(update) for update in range(first, min(first + together, updates))]
        columns = [column.split([len(rows) for rows in drawn]) for column in read(np.concatenate(drawn))]
        if first == 0:  # which says how much one is
            one = sum(column[0].nbytes for column in columns)
            together = max(1, min(TOGETHER, TOGETHER_BYTES // max(1, one)))
        first += len(drawn)
        yield from zip(*columns, strict=True)
