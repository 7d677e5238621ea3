"""Settings of the networks; free of torch, so that the command line can show them at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from foretell.core.errors import UsageError
from foretell.core.settings import check_at_least_one, check_not_negative, check_probability_below_one, check_settings
from foretell.models.transformer.configs import check_heads
from foretell.sequences.configs import Binning

Activation = Literal["relu", "gelu"]
ActionHeadKind = Literal["tanh", "linear"]
ActionLoss = Literal["squared", "absolute"]
TimestepEmbedding = Literal["learned", "sinusoidal"]


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
    activation: Activation = "relu"
    """Nonlinearity of the feed-forward layers."""
    action_head: ActionHeadKind = "tanh"
    """tanh keeps continuous actions inside the range that the policy scales to the environment's."""
    action_loss: ActionLoss = "squared"
    """Error of continuous actions. squared, as published, learns their mean; absolute (ours) their median, which the
    few bad actions among many of one kind do not move."""
    timestep_embedding: TimestepEmbedding = "learned"
    """learned: a vector of its own for each timestep, as published. sinusoidal: that of Vaswani et al. 2017, section
    3.5 (ours), so that neighbours are alike: nothing to learn by heart of a timestep that few episodes show."""

    def __post_init__(self) -> None:
        check_settings(self)
        check_at_least_one(self, "context_length", "width", "layers", "heads")
        check_heads(self.width, self.heads)
        check_probability_below_one(self, "dropout")


@dataclass(frozen=True, kw_only=True)
class LSTMConfig:
    """LSTM in the transformer's place (Siebenborn et al. 2022). Defaults: the Decision Transformer's where not said."""

    context_length: int = 20
    """K: timesteps seen; the state starts at zero with the first of them."""
    width: int = 128
    """Units of every layer, and dimension of the embedding."""
    layers: int = 1
    """LSTM layers, one on top of the other (ours; a layer of width w has 8 w^2 weights, a transformer block 12 w^2)."""
    dropout: float = 0.1
    """Probability that a unit is dropped in training, after the embedding and after each layer; not in what is
    carried from one timestep to the next."""
    action_head: ActionHeadKind = "tanh"
    """tanh keeps continuous actions inside the range that the policy scales to the environment's."""
    action_loss: ActionLoss = "squared"
    """Error of continuous actions. squared, as published, learns their mean; absolute (ours) their median, which the
    few bad actions among many of one kind do not move."""

    def __post_init__(self) -> None:
        check_settings(self)
        check_at_least_one(self, "context_length", "width", "layers")
        check_probability_below_one(self, "dropout")


@dataclass(frozen=True, kw_only=True)
class MLPConfig:
    """A network of the newest timestep alone: RvS (Emmons et al. 2022), or behaviour cloning if told nothing."""

    context_length: ClassVar[int] = 1
    width: int = 256
    """Units of every hidden layer (ours; the published settings have 1024)."""
    layers: int = 2
    """Hidden layers (Emmons et al. 2022)."""
    dropout: float = 0.0
    """Probability that a hidden unit is dropped in training (0 in the published settings for locomotion)."""
    activation: Activation = "relu"
    """Nonlinearity of the hidden layers (Emmons et al. 2022)."""
    action_head: ActionHeadKind = "tanh"
    """tanh keeps continuous actions inside the range that the policy scales to the environment's."""
    action_loss: ActionLoss = "squared"
    """Error of continuous actions. squared, as published, learns their mean; absolute (ours) their median, which the
    few bad actions among many of one kind do not move."""

    def __post_init__(self) -> None:
        check_settings(self)
        check_at_least_one(self, "width", "layers")
        check_probability_below_one(self, "dropout")


@dataclass(frozen=True, kw_only=True)
class TrajectoryTransformerConfig:
    """Trajectory Transformer (Janner et al. 2021). Defaults: their published settings where not said."""

    context_length: int = 10
    """Timesteps of a window, each of them observation, action, reward and return-to-go, one token a number."""
    width: int = 128
    """Embedding dimension of every token."""
    layers: int = 4
    """Transformer blocks."""
    heads: int = 4
    """Attention heads; divides the width."""
    dropout: float = 0.1
    """Probability that a unit is dropped in training, after the embedding, in attention and after each sub-layer."""
    bins: int = 100
    """Symbols of every number."""
    binning: Binning = "quantile"
    """quantile: all bins hold equally many of the data; uniform: all bins are equally wide."""
    action_weight: float = 5.0
    """Weight of an action's symbols in the loss, where an observation's weigh 1."""
    reward_weight: float = 1.0
    """Weight of a reward's symbol in the loss."""
    return_weight: float = 1.0
    """Weight of a return-to-go's symbol in the loss."""
    discount: float = 0.99
    """Discount of the returns-to-go that are predicted; what is asked for (`told`) is not discounted."""
    goals: bool = False
    """Put an observation in front of the window that the episode came to later, so that one can be asked for."""
    told: bool = False
    """Put in front of the window what its first timestep is told, and which timestep that is, so that a return can be
    asked for, as of a Decision Transformer (ours)."""
    table_smoothing: float = 0.0
    """Embeddings of a number's symbols are means over neighbouring bins, weighted as a normal distribution of this
    deviation, in bins (ours): what is learned of one number holds for those close to it."""
    smoothing: float = 0.0
    """Training targets spread over neighbouring bins as a normal distribution of this deviation, in bins (ours, after
    the histogram losses of Imani and White 2018): what is close is learned together."""

    def __post_init__(self) -> None:
        check_settings(self)
        check_at_least_one(self, "context_length", "width", "layers", "heads", "bins")
        check_heads(self.width, self.heads)
        check_probability_below_one(self, "dropout")
        if self.bins < 2:
            raise UsageError(f"bins is {self.bins}; expected at least 2: of one, all numbers are the same symbol.")
        check_not_negative(self, "action_weight", "reward_weight", "return_weight", "table_smoothing", "smoothing")
        if not 0 < self.discount <= 1:
            raise UsageError(f"discount is {self.discount}; expected more than 0 and at most 1.")


@dataclass(frozen=True, kw_only=True)
class EncoderDecoderConfig:
    """The original Transformer for control (Vaswani et al. 2017; their base model is 512 wide and 6 layers deep)."""

    context_length: int = 10
    """K: timesteps that the encoder reads, three tokens each."""
    horizon: int = 4
    """H: actions that the decoder writes."""
    width: int = 128
    """Embedding dimension of every token."""
    layers: int = 2
    """Layers of the encoder, and as many of the decoder."""
    heads: int = 4
    """Attention heads; divides the width."""
    feedforward_width: int = 512
    """Hidden units of the feed-forward layers: four times the width, as in the paper."""
    dropout: float = 0.1
    """Probability that a unit is dropped in training: embeddings, attention, hidden units, what sub-layers give out."""
    action_head: ActionHeadKind = "tanh"
    """tanh keeps continuous actions inside the range that the policy scales to the environment's."""
    action_loss: ActionLoss = "squared"
    """Error of continuous actions. squared, as published, learns their mean; absolute (ours) their median, which the
    few bad actions among many of one kind do not move."""

    def __post_init__(self) -> None:
        check_settings(self)
        check_at_least_one(self, "context_length", "horizon", "width", "layers", "heads", "feedforward_width")
        check_heads(self.width, self.heads)
        check_probability_below_one(self, "dropout")

    @property
    def window_length(self) -> int:
        """Timesteps of a training window: the last of K timesteps still has H actions to write."""
        return self.context_length + self.horizon - 1


ModelConfig = DecisionTransformerConfig | LSTMConfig | MLPConfig | TrajectoryTransformerConfig | EncoderDecoderConfig
"""Settings of any network; all have `context_length`."""


def window_length(config: ModelConfig) -> int:
    """Return the timesteps of a training window, as many as are seen in acting unless the network says otherwise."""
    return config.window_length if isinstance(config, EncoderDecoderConfig) else config.context_length
