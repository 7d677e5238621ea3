"""Settings of the Transformer; free of torch. Defaults: the base model of Vaswani et al. 2017, Table 3."""

from __future__ import annotations

from dataclasses import dataclass

from foretell.core.errors import UsageError
from foretell.core.settings import check_at_least_one, check_probability_below_one, check_settings


@dataclass(frozen=True, kw_only=True)
class StackConfig:
    """A stack of encoder or decoder layers, whatever its tokens are (section 3.1)."""

    width: int = 512
    """d_model: dimension of every token."""
    layers: int = 6
    """N: layers of the encoder, and as many of the decoder."""
    heads: int = 8
    """h: attention heads; divides the width."""
    feedforward_width: int = 2048
    """d_ff: hidden units of the feed-forward layers."""
    dropout: float = 0.1
    """P_drop: probability that a unit is dropped in training."""

    def __post_init__(self) -> None:
        check_settings(self)
        check_at_least_one(self, "width", "layers", "heads", "feedforward_width")
        check_heads(self.width, self.heads)
        check_probability_below_one(self, "dropout")


@dataclass(frozen=True, kw_only=True)
class TransformerConfig(StackConfig):
    """Encoder and decoder of sequences of symbols, numbered from 0."""

    vocabulary_size: int
    """Symbols of sources and targets together, the three special ones among them."""
    max_length: int
    """Longest sequence, and rows of the table of position encodings."""
    label_smoothing: float = 0.1
    """epsilon_ls: probability that the training target spreads evenly over the vocabulary (section 5.4)."""
    share_embeddings: bool = True
    """One matrix for both embeddings and the layer before the softmax (section 3.4)."""
    padding: int = 0
    """Symbol that fills sequences up at their end; never visible."""
    start: int = 1
    """Symbol that a target begins with."""
    end: int = 2
    """Symbol that a target ends with."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least_one(self, "max_length")
        check_probability_below_one(self, "label_smoothing")
        special = (self.padding, self.start, self.end)
        if len(set(special)) < 3 or not all(0 <= symbol < self.vocabulary_size for symbol in special):
            raise UsageError(
                f"padding, start and end are {self.padding}, {self.start} and {self.end}; expected three different "
                f"symbols from 0 to {self.vocabulary_size - 1} (vocabulary_size {self.vocabulary_size})."
            )


def check_heads(width: int, heads: int) -> None:
    """Raise `UsageError` where attention heads do not share out the width evenly."""
    if width % heads:
        raise UsageError(f"width {width} is not divisible by {heads} heads; choose a multiple.")
