"""One layer of the encoder and one of the decoder, post-norm (Vaswani et al. 2017, sections 3.1 and 3.3)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from foretell.models.dropout import dropout
from foretell.models.transformer.attention import KeysValues, MultiHeadAttention
from foretell.models.transformer.configs import StackConfig


@dataclass(frozen=True, kw_only=True)
class AttentionMaps:
    """Weights of every attention, (batch, heads, queries, keys), the first layer's first; hand it in empty."""

    encoder: list[Tensor] = field(default_factory=list)
    """Self-attention of the encoder."""
    decoder: list[Tensor] = field(default_factory=list)
    """Causal self-attention of the decoder."""
    memory: list[Tensor] = field(default_factory=list)
    """Attention of the decoder to the encoder's output."""


@dataclass(kw_only=True)
class LayerCache:
    """What one decoder layer keeps in decoding; filled by the layer."""

    own: KeysValues | None = None
    """Of the tokens decoded so far."""
    memory: KeysValues | None = None
    """Of the encoder's output, computed once."""

    def reorder(self, rows: Int[Tensor, " rows"]) -> None:
        """Take over the tokens of other rows of the batch; the memory stays, for it has to be the same for both."""
        self.own = self.own.select(rows) if self.own else None


class FeedForward(nn.Module):
    r"""$\mathrm{FFN}(x) = \max(0, x W_1 + b_1) W_2 + b_2$ (Eq. 2), the same for every token."""

    def __init__(self, config: StackConfig):
        super().__init__()
        self.probability = config.dropout
        self.inner = nn.Linear(config.width, config.feedforward_width)
        self.outer = nn.Linear(config.feedforward_width, config.width)

    def forward(
        self, tokens: Float[Tensor, "batch time width"], generator: torch.Generator | None = None
    ) -> Float[Tensor, "batch time width"]:
        """Transform each token by itself; dropout falls on the hidden units."""
        return self.outer(dropout(torch.relu(self.inner(tokens)), self.probability, generator))


class EncoderLayer(nn.Module):
    r"""Self-attention, then feed-forward, each as $\mathrm{LayerNorm}(x + \mathrm{Dropout}(\mathrm{Sublayer}(x)))$."""

    def __init__(self, config: StackConfig):
        super().__init__()
        self.probability = config.dropout
        self.attention = MultiHeadAttention(config.width, config.heads, config.dropout)
        self.norm_attention = nn.LayerNorm(config.width)
        self.feedforward = FeedForward(config)
        self.norm_feedforward = nn.LayerNorm(config.width)

    def forward(
        self,
        tokens: Float[Tensor, "batch time width"],
        allowed: Bool[Tensor, "#batch 1 #time time"],
        generator: torch.Generator | None = None,
        maps: AttentionMaps | None = None,
    ) -> Float[Tensor, "batch time width"]:
        """Transform the tokens; `allowed` is True where one (third axis) may see another (fourth)."""
        attended = self.attention(tokens, tokens, allowed, generator, maps.encoder if maps else None)
        tokens = self.norm_attention(tokens + dropout(attended, self.probability, generator))
        transformed = self.feedforward(tokens, generator)
        return self.norm_feedforward(tokens + dropout(transformed, self.probability, generator))


class DecoderLayer(nn.Module):
    r"""Self-attention, attention to the memory, feed-forward, each followed by dropout, sum and LayerNorm."""

    def __init__(self, config: StackConfig):
        super().__init__()
        self.probability = config.dropout
        self.attention = MultiHeadAttention(config.width, config.heads, config.dropout)
        self.norm_attention = nn.LayerNorm(config.width)
        self.memory_attention = MultiHeadAttention(config.width, config.heads, config.dropout)
        self.norm_memory = nn.LayerNorm(config.width)
        self.feedforward = FeedForward(config)
        self.norm_feedforward = nn.LayerNorm(config.width)

    def forward(
        self,
        tokens: Float[Tensor, "batch time width"],
        allowed: Bool[Tensor, "#batch 1 time known"],
        memory: Float[Tensor, "batch memory_time width"],
        memory_allowed: Bool[Tensor, "#batch 1 #time memory_time"],
        generator: torch.Generator | None = None,
        *,
        cache: LayerCache | None = None,
        maps: AttentionMaps | None = None,
    ) -> Float[Tensor, "batch time width"]:
        """Transform the tokens; `allowed` says which of the tokens each may see, `memory_allowed` which of the memory.

        With a `cache` the tokens follow those of earlier calls, and see them too: `known` counts both.
        """
        own, read = self.attention.keys_values(tokens), cache.memory if cache else None
        if read is None:
            read = self.memory_attention.keys_values(memory)
        if cache is not None:
            own = cache.own.append(own) if cache.own else own
            cache.own, cache.memory = own, read
        attended = self.attention.attend(tokens, own, allowed, generator, maps.decoder if maps else None)
        tokens = self.norm_attention(tokens + dropout(attended, self.probability, generator))
        attended = self.memory_attention.attend(tokens, read, memory_allowed, generator, maps.memory if maps else None)
        tokens = self.norm_memory(tokens + dropout(attended, self.probability, generator))
        transformed = self.feedforward(tokens, generator)
        return self.norm_feedforward(tokens + dropout(transformed, self.probability, generator))
