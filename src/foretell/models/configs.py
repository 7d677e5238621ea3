"""Settings of the networks; free of torch, so that the command line can show them at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from foretell.core.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class SequenceShape:
    """What the data fixes: shapes of one timestep, and how many timesteps an episode can have."""

    observation_shape: tuple[int, ...]
    action_dim: int
    """Dimensions of a continuous action; number of actions where `discrete`."""
    discrete: bool
    max_timesteps: int
    """Rows of the timestep embedding: the environment's horizon, or the longest episode in the data."""


@dataclass(frozen=True, kw_only=True)
class DecisionTransformerConfig:
    """Decision Transformer (Chen et al. 2021; the report's Algorithm 1). Defaults: their Table 9 where not said."""

    context_length: int = 20
    """K: timesteps seen, three tokens each."""
    width: int = 128
    """Embedding dimension of every token."""
    layers: int = 3
    """Transformer blocks."""
    heads: int = 1
    """Attention heads; divides the width."""
    dropout: float = 0.1
    """Probability that a unit is dropped in training, after the embedding, in attention and after each sub-layer."""
    activation: Literal["relu", "gelu"] = "relu"
    """Nonlinearity of the feed-forward layers."""
    action_head: Literal["tanh", "linear"] = "tanh"
    """tanh keeps continuous actions inside the range that the policy scales to the environment's."""

    def __post_init__(self) -> None:
        for name in ("context_length", "width", "layers", "heads"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; expected at least 1.")
        if self.width % self.heads:
            raise UsageError(f"width {self.width} is not divisible by {self.heads} heads; choose a multiple.")
        if not 0 <= self.dropout < 1:
            raise UsageError(f"dropout is {self.dropout}; expected a probability below 1.")
