"""Numbers of a timestep, and tables of symbols that stand for neighbouring ones."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from foretell.models.configs import SequenceShape
from foretell.sequences.batch import SequenceBatch

WAVES = 8
"""Cosines over the range that initial tables are sums of."""


def columns(batch: SequenceBatch, shape: SequenceShape) -> Float[Tensor, "batch time slots"]:
    """Return every number of a timestep in the order of the slots; discrete actions as zeros."""
    actions = torch.zeros_like(batch.rewards)[..., None] if shape.discrete else batch.actions
    return torch.cat([batch.observations, actions, batch.rewards[..., None], batch.returns_to_go], dim=-1)


def smooth_tables(
    tables: int, symbols: int, width: int, generator: torch.Generator
) -> Float[Tensor, "tables symbols width"]:
    """Return tables in which neighbouring symbols have similar rows: random sums of a few cosines, mean square 1.

    A table of independent rows has to learn from data that bin 17 lies between 16 and 18; this one begins with it.
    """
    places = torch.arange(symbols) / max(1, symbols - 2)  # the last symbol is no number
    waves = torch.arange(1, WAVES + 1)
    basis = torch.cat([torch.ones(symbols, 1), torch.cos(math.pi * waves * places[:, None]) / waves], dim=1)
    drawn = basis @ torch.randn(tables, WAVES + 1, width, generator=generator)
    return drawn / drawn.square().mean((1, 2), keepdim=True).sqrt()


def neighbourhood(symbols: int, deviation: float, numbers: int | None = None) -> Float[Tensor, "symbols symbols"]:
    """Return for each symbol what it shares with others: a normal distribution over its neighbours.

    The first `numbers` symbols stand for numbers, by default all but the last; the others stay alone.

    >>> neighbourhood(4, 1.0)[1]
    tensor([0.2741, 0.4519, 0.2741, 0.0000])
    """
    places = torch.arange(symbols)
    spread = torch.exp(-0.5 * ((places[:, None] - places) / deviation) ** 2)
    numbers = symbols - 1 if numbers is None else numbers
    spread[numbers:], spread[:, numbers:] = 0.0, 0.0
    spread[numbers:, numbers:] = torch.eye(symbols - numbers)
    return spread / spread.sum(1, keepdim=True)


def symbol_errors(
    logits: Float[Tensor, "tokens symbols"],
    targets: Int[Tensor, " tokens"],
    spread: Float[Tensor, "rows symbols"] | None,
) -> Float[Tensor, " tokens"]:
    """Cross-entropy in nats of each target; or of the distribution `spread[target]`, whose rows targets then number."""
    if spread is None:
        return functional.cross_entropy(logits, targets, reduction="none")
    return -(spread[targets] * logits.log_softmax(-1)).sum(-1)
