"""Whether a configuration's sizes are those of the weights beside it, before memory is taken for a network of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from foretell.core.forms import shown

LARGEST = 1_000_000
"""Of each of a network's widths, layers, heads, bins and the timesteps that it sees at once."""
SMALL = 1 << 28
"""Numbers that are taken without asking: a gigabyte."""
MOST_BESIDE = 1 << 30
"""Numbers of tables that follow from sizes alone, of sinusoids for millions of timesteps say."""


def check_sizes(sizes: Mapping[str, Any], tensors: Mapping[str, Tensor], build: Callable[[], nn.Module]) -> None:
    """Raise `ValueError` where a network of these sizes would be another than that of the weights.

    `sizes` are numbers and lists of numbers, by name. Where they can mean no large network nothing is done; else
    `build` is called without memory, and names and shapes are compared.
    """
    for name in ("context_length", "width", "layers", "heads", "bins"):
        if not isinstance(one := sizes.get(name, 0), int) or not 0 <= one <= LARGEST:
            raise ValueError(f"{name} is {shown(one)}; expected a whole number up to {LARGEST:,}")
    numbers = [one for value in sizes.values() for one in (value if isinstance(value, list) else [value])]
    whole = sorted((one for one in numbers if isinstance(one, int) and not isinstance(one, bool)), reverse=True)
    if any(one < 0 for one in whole):
        raise ValueError(f"a size of {whole[-1]}; expected 0 or more")
    if (layers := sizes.get("layers", 1)) > len(tensors):
        raise ValueError(f"{layers} layers, and weights in {len(tensors)} tensors")
    if max(12 * (layers + 2) * math.prod(whole[:2]), math.prod(whole[:3]) // 2) <= SMALL:
        return
    with torch.device("meta"):
        network = build()
    needed = {name: list(value.shape) for name, value in network.state_dict().items()}
    for name, shape in needed.items():
        if name not in tensors or list(tensors[name].shape) != shape:
            found = list(tensors[name].shape) if name in tensors else "missing"
            raise ValueError(f"{name} is {found}, where these sizes need {shape}")
    beside = sum(value.numel() for name, value in network.named_buffers() if name not in needed)
    if beside > MOST_BESIDE:
        raise ValueError(f"tables of {beside:,} numbers beside the weights")


def check_layers(widths: Sequence[int], tensors: Mapping[str, Tensor]) -> None:
    """Raise `ValueError` where perceptrons with layers so wide hold more numbers than the weights."""
    held = sum(value.numel() for value in tensors.values())
    if len(widths) > len(tensors):
        raise ValueError(f"{len(widths)} layers, and weights in {len(tensors)} tensors")
    for one, other in itertools.pairwise([1, *widths, 1]):
        if min(one, other) < 1 or one * other > held:
            raise ValueError(f"layers of {list(widths)} numbers, and {held:,} in the weights")
