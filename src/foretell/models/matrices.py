"""Which weights of a network lead from hidden units to hidden units."""

from __future__ import annotations

from torch import nn

from foretell.models.layers import Block


def hidden_matrices(network: nn.Module) -> list[tuple[nn.Parameter, int]]:
    """Return the matrices of the layers that a network stacks, each with how many are stored in it, one on another.

    Embeddings and heads are none: one side of theirs is not hidden units, and they lie in no `nn.ModuleList`.
    """
    stacked = [
        layer for stack in network.modules() if isinstance(stack, nn.ModuleList) for layer in stack.modules()
    ]  # fmt: skip
    found: dict[nn.Parameter, int] = {}
    for layer in stacked:
        stored = 4 if isinstance(layer, nn.LSTM) else 1  # its gates
        found |= {one: stored for one in layer.parameters(recurse=False) if one.ndim == 2 and one not in found}
        if isinstance(layer, Block):
            found |= {one: 3 for one in layer.query_key_value.parameters() if one.ndim == 2}
    return list(found.items())
