"""Fitting a small network to data: Adam, a learning rate that falls to 0 along a cosine."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn

TOGETHER = 64
"""Updates whose rows are read at once: reading takes as long as computing where it is done batch by batch."""


def fit(network: nn.Module, losses: Iterator[Tensor], *, updates: int, learning_rate: float) -> None:
    """Take one step for each of `updates` losses, each computed when it is asked for; freeze the network."""
    optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate, fused=True)
    for update in range(updates):
        loss = next(losses)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * 0.5 * (1 + math.cos(math.pi * update / updates))
        optimizer.step()
    network.requires_grad_(False)


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
