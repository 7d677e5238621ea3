"""Where numbers stopped being finite. Looked for only once an update is known to hold one that is not: it is slow."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

SQUARABLE = 1e15
"""Gradients below it have a finite norm, millions of them together."""
_LOWER = "Lower learning_rate."
CONTINUE = "Run the same command again, which continues from the last checkpoint: that one is finite."


def all_finite(batch: Any, *numbers: Tensor) -> bool:
    """Say whether every float of a dataclass of tensors is finite, and every one of the numbers.

    Losses alone do not tell: a network that reads symbols takes NaN for one of them.
    """
    if not all(math.isfinite(float(number)) for number in numbers):
        return False
    floats = _floats(batch)
    if all(part.is_cpu for part in floats):  # NumPy: a call of PyTorch's takes longer than to look at a small batch
        with np.errstate(over="ignore", invalid="ignore"):
            return all(map(_finite, floats))
    return math.isfinite(float(summed(batch)))


def _finite(part: Tensor) -> bool:
    """Say whether all numbers are finite: surely where their sum is; finite ones may add up to one that is not."""
    numbers = (part.detach() if part.requires_grad else part).numpy()
    return math.isfinite(np.add.reduce(numbers, axis=None)) or bool(np.isfinite(numbers).all())


def summed(batch: Any, *numbers: Tensor) -> Tensor:
    """Return the sum of the numbers and of every float of a dataclass of tensors: finite where all of them are."""
    return torch.stack([*numbers, *(part.sum() for part in _floats(batch))]).sum()


def _floats(batch: Any) -> list[Tensor]:
    return [part for part in vars(batch).values() if isinstance(part, Tensor) and part.is_floating_point()]


def where_not_finite(
    batch: Any,
    axes: tuple[str, ...],
    weights: Mapping[str, Tensor],
    losses: Mapping[str, Tensor],
    gradients: Mapping[str, Tensor],
) -> str:
    """Return what is not finite, where, and what to do: a weight, a part of the batch, a loss or a gradient.

    `weights` are those before the update, `batch` is a dataclass of tensors and `axes` name its leading dimensions
    ("window", "timestep"). Causes are looked for before their effects: whatever is not finite makes losses and
    gradients so, and weights can make batches so (units that were fitted, actions that were taken), not the reverse.
    """
    if found := _first(weights):
        name, value, index = found
        return f"the weight {name} holds {value} at {list(index)}. {CONTINUE}"
    parts = {field.name: getattr(batch, field.name) for field in fields(batch)}
    if found := _first({name: part for name, part in parts.items() if isinstance(part, Tensor)}):
        name, value, index = found
        named = ", ".join(f"{axis} {i}" for axis, i in zip((*axes, "component"), index))
        return f"{name} of the batch hold {value} at {named}. Run `foretell inspect` on the data."
    if found := _first(losses):
        name, value, _ = found
        return f"the {name} is {value}, though batch and weights are finite: numbers outgrew float32. {_LOWER}"
    if found := _first(gradients):
        name, value, index = found
        return f"the gradient of {name} holds {value} at {list(index)}, though the loss is finite. {_LOWER}"
    largest = max(gradients, key=lambda name: float(gradients[name].abs().max()))
    size = float(gradients[largest].abs().max())
    if size < SQUARABLE:
        return f"a number was not finite, and all are when they are computed again: is the memory sound? {CONTINUE}"
    return f"the gradient of {largest} reaches {size:g}, whose square outgrows float32. {_LOWER}"


def _first(tensors: Mapping[str, Tensor]) -> tuple[str, float, tuple[int, ...]] | None:
    """Return name, value and index of the first value that is not finite."""
    for name, tensor in tensors.items():
        bad = ~torch.isfinite(tensor.detach())
        if bool(bad.any()):
            index = tuple(int(i) for i in bad.nonzero()[0])
            return name, float(tensor.detach()[index]), index
    return None


def named_gradients(parameters: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """Return the gradients that lie on named parameters; those without one are left out."""
    return {name: parameter.grad for name, parameter in parameters if parameter.grad is not None}
