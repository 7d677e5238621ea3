"""The Transformer of sequences of symbols (Vaswani et al. 2017).

| paper | here |
|---|---|
| $(x_1, \\dots, x_n)$, $(y_1, \\dots, y_m)$ | `sources`, `targets` |
| $\\mathbf z$ | `memory`, the encoder's output |
| $d_{model}$, $N$, $h$, $d_{ff}$ | `width`, `layers`, `heads`, `feedforward_width` |
| $P_{drop}$, $\\epsilon_{ls}$ | `dropout`, `label_smoothing` |
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional
from torch.random import fork_rng

from foretell.core.errors import UsageError
from foretell.models.dropout import dropout
from foretell.models.layers import masked_mean
from foretell.models.recorded import is_recorded
from foretell.models.transformer.configs import TransformerConfig
from foretell.models.transformer.layers import AttentionMaps
from foretell.models.transformer.optimization import label_smoothed_errors
from foretell.models.transformer.stacks import Decoder, DecoderCache, Encoder, initialize_xavier, sinusoidal_positions


class Transformer(nn.Module):
    """Gives logits of the next symbol of a target, from a source and the target so far.

    Sequences are filled up with `padding` at their end; what is padded changes no other position. Weights come from
    `generator` alone; torch's global generator is left as it was.
    """

    positions: Tensor

    def __init__(self, config: TransformerConfig, generator: torch.Generator):
        super().__init__()
        self.config = config
        shape = (config.vocabulary_size, config.width)
        with fork_rng(devices=[]):
            self.embed_source = nn.Embedding(*shape)
            self.embed_target = None if config.share_embeddings else nn.Embedding(*shape)
            self.encoder, self.decoder = Encoder(config), Decoder(config)
            self.output = None if config.share_embeddings else nn.Linear(*reversed(shape), bias=False)
        self.register_buffer("positions", sinusoidal_positions(config.max_length, config.width), persistent=False)
        initialize_xavier(self, generator)

    def forward(
        self,
        sources: Int[Tensor, "batch source_time"],
        targets: Int[Tensor, "batch time"],
        generator: torch.Generator | None = None,
        maps: AttentionMaps | None = None,
    ) -> Float[Tensor, "batch time vocabulary"]:
        """Return the logits of the symbol after each of `targets`, which begin with `start`.

        A generator switches dropout on. Raises `UsageError` for sequences longer than `max_length`, and on the CPU for
        symbols beyond the vocabulary.
        """
        memory = self.encode(sources, generator, maps)
        return self.decode(targets, memory, self.mask(sources), generator, maps=maps)

    def loss(
        self,
        sources: Int[Tensor, "batch source_time"],
        targets: Int[Tensor, "batch time"],
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, ""]:
        """Label-smoothed cross-entropy in nats, a mean over the symbols of `targets` that come after `start`.

        A row of `targets` is start, ..., end and padding. Raises as `forward` does, and on the CPU where no row has a
        symbol after the first: there is nothing to take the mean of.
        """
        predicted = targets[:, 1:]
        self._check_predicted(predicted)
        logits = self(sources, targets[:, :-1], generator)
        return masked_mean(label_smoothed_errors(logits, predicted, self.config.label_smoothing), self.mask(predicted))

    def mask(self, symbols: Int[Tensor, "batch time"]) -> Bool[Tensor, "batch time"]:
        """Return True on real symbols."""
        return symbols != self.config.padding

    def encode(
        self,
        sources: Int[Tensor, "batch source_time"],
        generator: torch.Generator | None = None,
        maps: AttentionMaps | None = None,
    ) -> Float[Tensor, "batch source_time width"]:
        """Return the memory of the sources."""
        return self.encoder(self._embed(self.embed_source, sources, 0, generator), self.mask(sources), generator, maps)

    def decode(
        self,
        targets: Int[Tensor, "batch time"],
        memory: Float[Tensor, "batch source_time width"],
        memory_mask: Bool[Tensor, "batch source_time"],
        generator: torch.Generator | None = None,
        *,
        cache: DecoderCache | None = None,
        maps: AttentionMaps | None = None,
    ) -> Float[Tensor, "batch time vocabulary"]:
        """Return the logits after each of `targets`; with a `cache` these follow the targets of earlier calls."""
        table = self.embed_source if self.embed_target is None else self.embed_target
        tokens = self._embed(table, targets, cache.length if cache else 0, generator)
        hidden = self.decoder(tokens, memory, memory_mask, generator, cache=cache, maps=maps)
        return functional.linear(hidden, table.weight) if self.output is None else self.output(hidden)

    def _embed(
        self,
        table: nn.Embedding,
        symbols: Int[Tensor, "batch time"],
        first: int,
        generator: torch.Generator | None,
    ) -> Float[Tensor, "batch time width"]:
        last = first + symbols.shape[1]
        if last > self.config.max_length:
            raise UsageError(
                f"a sequence of {last} symbols; expected at most max_length, {self.config.max_length}. "
                "Cut it, or build the network with a larger max_length."
            )
        try:
            embedded = table(symbols)
        except IndexError:  # on the CPU; a GPU would have to be waited for
            self._check_known(symbols)
            raise
        tokens = embedded * math.sqrt(self.config.width) + self.positions[first:last]
        return dropout(tokens, self.config.dropout, generator)

    def _check_predicted(self, symbols: Int[Tensor, "batch time"]) -> None:
        """Raise `UsageError` where there is nothing to predict, or no such symbol; not where looking takes a wait."""
        if symbols.device.type != "cpu" or is_recorded():
            return
        if not bool(self.mask(symbols).any()):
            raise UsageError(
                "targets hold no symbol after the first of a row; expected start, the symbols to predict, end. "
                "Leave out batches of padding."
            )
        self._check_known(symbols)

    def _check_known(self, symbols: Int[Tensor, "batch time"]) -> None:
        size = self.config.vocabulary_size
        strange = symbols[(symbols < 0) | (symbols >= size)]
        if len(strange):
            raise UsageError(
                f"a symbol {int(strange[0])}; expected 0 to {size - 1}, for vocabulary_size is {size}. Build the "
                "network with a larger one, or number the symbols from 0."
            )
