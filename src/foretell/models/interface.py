"""What training and acting ask of a network, whichever it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Generic, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foretell.models.configs import ModelConfig, SequenceShape, TrajectoryTransformerConfig
from foretell.models.losses import imitation_loss
from foretell.models.matrices import hidden_matrices
from foretell.sequences.batch import SequenceBatch
from foretell.sequences.windows import WindowSampler

Config = TypeVar("Config", bound=ModelConfig)


class SequenceModel(nn.Module, ABC, Generic[Config]):
    """Predicts the action of every timestep in a window from what was known when it had to be taken.

    A network says how in `forward`; everything else in the library sees no more of it than stands here.
    """

    config: Config
    shape: SequenceShape

    def __init__(self, config: Config, shape: SequenceShape):
        super().__init__()
        self.config, self.shape = config, shape

    @abstractmethod
    def forward(
        self, batch: SequenceBatch, generator: torch.Generator | None = None, *, last_only: bool = False
    ) -> Float[Tensor, "batch outputs action_dim"]:
        """Return predicted actions in [-1, 1], or logits for discrete actions, at every timestep or the last alone.

        A generator switches dropout on. The action of a timestep is not seen by its own prediction, the future and
        padding by none.
        """

    def prepare(self, sampler: WindowSampler) -> None:
        """Take what the network needs to know of the data before training: bins, say. Part of its weights then."""

    def hidden_matrices(self) -> list[tuple[nn.Parameter, int]]:
        """Return the weights that Muon moves, each with how many matrices it stores: queries, keys and values are 3."""
        return hidden_matrices(self)

    def reader(self) -> Callable[[SequenceBatch], Float[Tensor, "batch action_dim"]]:
        """Return what reads off windows what `forward` with `last_only` does, for acting: faster where it can be.

        The parameters are those of now; they may go on learning. Ask again once others are put in their place.
        """
        return lambda batch: self(batch, last_only=True)[:, -1]

    def write_gradients(
        self, batch: SequenceBatch, generator: torch.Generator | None = None
    ) -> Float[Tensor, ""] | None:
        """Leave the gradients of `loss` on the parameters and return it; None of a network that needs a graph for it.

        What lay there before is replaced, and what is written lasts until the next call.
        """
        return None

    def loss(self, batch: SequenceBatch, generator: torch.Generator | None = None) -> Float[Tensor, ""]:
        """Mean over real timesteps of the error in [-1, 1] units (`action_loss`), or of the cross-entropy in nats."""
        assert not isinstance(self.config, TrajectoryTransformerConfig)  # it writes symbols, and has a loss of its own
        kind = self.config.action_loss
        return imitation_loss(self(batch, generator), batch, discrete=self.shape.discrete, kind=kind)
