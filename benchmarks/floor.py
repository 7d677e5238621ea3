"""The matrix products of one update and nothing else, each of the whole batch; pieces in the cache can be faster."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from itertools import pairwise

import torch

from foretell.agents.configs import SACConfig
from foretell.models.configs import DecisionTransformerConfig

TOKENS = 3


@dataclass(frozen=True, kw_only=True)
class Product:
    """(rows, inner) times (inner, columns), `batch` times over; 1 for a plain product."""

    rows: int
    inner: int
    columns: int
    batch: int = 1


def products(config: DecisionTransformerConfig, batch_size: int) -> list[Product]:
    """Return the forward products of our network. The last block computes observation tokens alone."""
    width, heads, time_ = config.width, config.heads, config.context_length
    found = []
    for layer in range(config.layers):
        tokens = TOKENS * time_
        wanted = time_ if layer == config.layers - 1 else tokens
        every, some = batch_size * tokens, batch_size * wanted
        attention = {"batch": batch_size * heads}
        found += [
            Product(rows=some, inner=width, columns=width),  # queries
            Product(rows=every, inner=width, columns=2 * width),  # keys, values
            Product(rows=wanted, inner=width // heads, columns=tokens, **attention),  # scores
            Product(rows=wanted, inner=tokens, columns=width // heads, **attention),  # weighted values
            Product(rows=some, inner=width, columns=width),
            Product(rows=some, inner=width, columns=4 * width),
            Product(rows=some, inner=4 * width, columns=width),
        ]
    return found


def floor_seconds(forward: list[Product], repetitions: int) -> float:
    """Return the median time of all products forward, and the two of each backward, into memory made before."""
    return _median_seconds([triple for product in forward for triple in _three(product)], repetitions)


def sac_floor_seconds(config: SACConfig, repetitions: int) -> float:
    """Return the median time of one update's products between hidden layers (twin-Q form; the thin layers at both ends
    left out), into memory made before.

    The policy goes forward in two states and backward in one. The Q-functions go forward and backward for their own
    loss, their targets forward, and for the policy's loss forward and back to the action.
    """
    work = []
    for inner, columns in pairwise(config.hidden_sizes):
        policy = _three(Product(rows=config.batch_size, inner=inner, columns=columns))
        critics = _three(Product(rows=config.batch_size, inner=inner, columns=columns, batch=2))
        work += [*policy, policy[0], *critics, critics[0], *critics[:2]]
    return _median_seconds(work, repetitions)


def _median_seconds(work: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]], repetitions: int) -> float:
    for left, right, result in work:
        torch.bmm(left, right, out=result)
    times = []
    for _ in range(repetitions):
        started = time.perf_counter()
        for left, right, result in work:
            torch.bmm(left, right, out=result)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def _three(product: Product) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Y = A B, dA = dY B', dB = A' dY."""
    size = product.batch
    left = torch.randn(size, product.rows, product.inner)
    right = torch.randn(size, product.inner, product.columns)
    result = torch.randn(size, product.rows, product.columns)
    return [
        (left, right, result.clone()),
        (result, right.transpose(1, 2), torch.empty_like(left)),
        (left.transpose(1, 2), result, torch.empty_like(right)),
    ]
