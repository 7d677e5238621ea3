"""Scaled dot-product attention and multi-head attention (Vaswani et al. 2017, section 3.2)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from foretell.models.dropout import dropout


def attention_weights(
    queries: Float[Tensor, "batch heads queries head_dim"],
    keys: Float[Tensor, "batch heads keys head_dim"],
    allowed: Bool[Tensor, "#batch 1 #queries keys"],
) -> Float[Tensor, "batch heads queries keys"]:
    r"""How much each query takes of each key: $\mathrm{softmax}(QK^\top / \sqrt{d_k})$, rows that add up to 1.

    `allowed` is True where a query may see a key. A query that may see none takes nothing: its row is 0.

    >>> queries, keys = torch.ones(1, 1, 1, 4), torch.zeros(1, 1, 3, 4)
    >>> attention_weights(queries, keys, torch.tensor([[[[True, False, True]]]]))[0, 0]
    tensor([[0.5000, 0.0000, 0.5000]])
    """
    scores = (queries * (1 / math.sqrt(queries.shape[-1]))) @ keys.transpose(-1, -2)
    nothing = ~allowed.any(-1, keepdim=True)
    weights = scores.masked_fill(~(allowed | nothing), -torch.inf).softmax(-1)
    return weights.masked_fill(nothing, 0.0)


def scaled_dot_product_attention(
    queries: Float[Tensor, "batch heads queries head_dim"],
    keys: Float[Tensor, "batch heads keys head_dim"],
    values: Float[Tensor, "batch heads keys value_dim"],
    allowed: Bool[Tensor, "#batch 1 #queries keys"],
    probability: float = 0.0,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "batch heads queries value_dim"]:
    r"""Attended values, $\mathrm{softmax}(QK^\top / \sqrt{d_k}) V$ (Eq. 1); 0 for a query that may see no key.

    `allowed` is True where a query may see a key. Dropout, where there is a generator, falls on the weights.
    """
    if generator is None or probability == 0.0:
        return functional.scaled_dot_product_attention(queries, keys, values, attn_mask=allowed)
    return dropout(attention_weights(queries, keys, allowed), probability, generator) @ values


class KeysValues(NamedTuple):
    """Keys and values of one attention, split into heads: what cached decoding keeps from call to call."""

    keys: Float[Tensor, "batch heads keys head_dim"]
    values: Float[Tensor, "batch heads keys head_dim"]

    def append(self, newer: KeysValues) -> KeysValues:
        """Return these and, after them in time, the newer ones."""
        return KeysValues(torch.cat([self.keys, newer.keys], 2), torch.cat([self.values, newer.values], 2))

    def select(self, rows: Int[Tensor, " rows"]) -> KeysValues:
        """Return those of the rows of the batch that are named, in that order."""
        return KeysValues(self.keys[rows], self.values[rows])


class MultiHeadAttention(nn.Module):
    r"""$\mathrm{Concat}(head_1, \dots, head_h) W^O$, $head_i = \mathrm{Attention}(Q W_i^Q, K W_i^K, V W_i^V)$ (3.2.2).

    | paper | here |
    |---|---|
    | $W_i^Q, W_i^K, W_i^V$ for all $i$ | `query`, `key`, `value` |
    | $W^O$ | `output` |
    | $h$, $d_k = d_v$ | `heads`, head_dim = width / heads |

    The linear layers have biases, which the paper's equation has not and PyTorch's module has.
    """

    def __init__(self, width: int, heads: int, probability: float = 0.0):
        super().__init__()
        self.heads, self.probability = heads, probability
        self.query, self.key, self.value, self.output = (nn.Linear(width, width) for _ in range(4))

    def forward(
        self,
        tokens: Float[Tensor, "batch queries width"],
        memory: Float[Tensor, "batch keys width"],
        allowed: Bool[Tensor, "#batch 1 #queries keys"],
        generator: torch.Generator | None = None,
        maps: list[Tensor] | None = None,
    ) -> Float[Tensor, "batch queries width"]:
        """Attend from `tokens` to `memory`, which are the same in self-attention.

        `allowed` is True where a token may see a token of the memory. Where a list `maps` is given, the weights
        (batch, heads, queries, keys), as they are before dropout, are appended to it.
        """
        return self.attend(tokens, self.keys_values(memory), allowed, generator, maps)

    def keys_values(self, memory: Float[Tensor, "batch keys width"]) -> KeysValues:
        """Return the keys and values of `memory`, for `attend`."""
        return KeysValues(self._split(self.key(memory)), self._split(self.value(memory)))

    def attend(
        self,
        tokens: Float[Tensor, "batch queries width"],
        known: KeysValues,
        allowed: Bool[Tensor, "#batch 1 #queries keys"],
        generator: torch.Generator | None = None,
        maps: list[Tensor] | None = None,
    ) -> Float[Tensor, "batch queries width"]:
        """Attend from `tokens` to keys and values that are known already; otherwise as `forward`."""
        queries = self._split(self.query(tokens))
        attended = scaled_dot_product_attention(queries, *known, allowed, self.probability, generator)
        if maps is not None:
            maps.append(attention_weights(queries, known.keys, allowed))
        return self.output(attended.transpose(1, 2).flatten(2))  # (batch, queries, width)

    def _split(self, values: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "batch heads tokens head_dim"]:
        return values.unflatten(-1, (self.heads, -1)).transpose(1, 2)
