"""Fitting a small network to data: Adam, a learning rate that falls to 0 along a cosine."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.optim.adam import adam

from foretell.agents.backpropagation import TorchPass
from foretell.agents.networks import EnsembleMLP

BETAS, EPSILON = (0.9, 0.999), 1e-8
"""Kingma and Ba 2015, section 2, as in PyTorch."""
TOGETHER = 64
"""Updates whose rows are read at once: reading takes as long as computing where it is done batch by batch."""


def fit(
    network: EnsembleMLP, drawn: Iterator[tuple[Tensor, ...]], loss: Callable[..., Float[Tensor, ""]], *, updates: int,
    learning_rate: float,
) -> None:  # fmt: skip
    """Take a step for each of `updates` batches: inputs, and what `loss` reads beside the outputs; freeze the network.

    The numbers are autograd's and `torch.optim.Adam`'s, without what these do around them for any network.
    """
    passes = TorchPass(network)
    parameters: list[Tensor] = list(network.parameters())
    gradients, first, second = ([torch.zeros_like(one) for one in parameters] for _ in range(3))
    steps = [torch.zeros(()) for _ in parameters]
    for parameter, gradient in zip(parameters, gradients):
        parameter.grad = gradient
    for update in range(updates):
        inputs, *told = next(drawn)
        with torch.no_grad():
            outputs = passes.forward(inputs)
        (slopes,) = torch.autograd.grad(loss(outputs.requires_grad_(), *told), outputs)
        with torch.no_grad():
            passes.backward(slopes)
            adam(
                parameters, gradients, first, second, [], steps, fused=True, amsgrad=False, maximize=False,
                lr=learning_rate * 0.5 * (1 + math.cos(math.pi * update / updates)), beta1=BETAS[0], beta2=BETAS[1],
                weight_decay=0.0, eps=EPSILON,
            )  # fmt: skip
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
    for first in range(0, updates, TOGETHER):
        drawn = [draw(update) for update in range(first, min(first + TOGETHER, updates))]
        columns = [column.split([len(rows) for rows in drawn]) for column in read(np.concatenate(drawn))]
        yield from zip(*columns, strict=True)
