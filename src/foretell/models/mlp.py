"""A network of one timestep: with the return, RvS (Emmons et al. 2022, arXiv:2112.10751); without, behaviour cloning.

| paper | here |
|---|---|
| $s_t$ | `observations` |
| $\\omega$: reward still to come, averaged over the timesteps left | `returns_to_go`, `timesteps / max_timesteps` |
| $\\pi_\\theta(a_t \\mid s_t, \\omega)$ | `forward`: its mean, or the logits, alone |

Where the return is the same in every batch there is nothing in it to learn from, and the network clones behaviour.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foretell.models.configs import MLPConfig, SequenceShape
from foretell.models.dropout import dropout
from foretell.models.encoders import observation_encoder
from foretell.models.initialization import initialize
from foretell.models.interface import SequenceModel
from foretell.models.layers import ACTIVATIONS, ActionHead
from foretell.sequences.batch import SequenceBatch


class MLP(SequenceModel[MLPConfig]):
    r"""Predicts $a_t$ from $s_t$, $\hat R_t$ and $t$; timesteps of a window know nothing of each other.

    The first layer is linear in (observation, return, time), written as a sum so that images may come encoded.
    """

    def __init__(self, config: MLPConfig, shape: SequenceShape, generator: torch.Generator):
        super().__init__(config, shape)
        width = config.width
        self.embed_observation = observation_encoder(shape.observation_shape, width)
        self.embed_return_and_time = nn.Linear(2, width, bias=False)
        self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in range(config.layers - 1))
        self.action_head = ActionHead(width, shape, config.action_head)
        self.activation = ACTIVATIONS[config.activation]
        initialize(self, generator)

    def forward(
        self, batch: SequenceBatch, generator: torch.Generator | None = None, *, last_only: bool = False
    ) -> Float[Tensor, "batch outputs action_dim"]:
        """Return predicted actions or logits at every timestep or the last alone (`SequenceModel.forward`)."""
        seen = slice(-1 if last_only else 0, None)
        returns = batch.returns_to_go[:, seen]
        time = batch.timesteps[:, seen, None].to(returns.dtype) / self.shape.max_timesteps  # in [0, 1)
        hidden = self.embed_observation(batch.observations[:, seen])
        hidden = hidden + self.embed_return_and_time(torch.cat([returns, time], dim=-1))  # (batch, time or 1, width)
        hidden = dropout(self.activation(hidden), self.config.dropout, generator)
        for layer in self.hidden:
            hidden = dropout(self.activation(layer(hidden)), self.config.dropout, generator)
        return self.action_head(hidden)
