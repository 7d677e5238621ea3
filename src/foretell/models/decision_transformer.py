"""Decision Transformer (Chen et al. 2021; the report's section II-B and Algorithm 1).

| paper | here |
|---|---|
| $\\hat R_t, s_t, a_t, t$ | `returns_to_go`, `observations`, `actions`, `timesteps` |
| `embed_R`, `embed_s`, `embed_a`, `embed_t` | `embed_return`, `embed_observation`, `embed_action`, `embed_timestep` |
| $K$ | `context_length` |
| `pred_a` | `action_head` |

Where we differ from the published code: actions are in [-1, 1] of the environment's range, padding is invisible,
there is no second position embedding, and the loss is a mean over real timesteps.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from foretell.models.configs import DecisionTransformerConfig, SequenceShape
from foretell.models.encoders import observation_encoder
from foretell.models.interface import SequenceModel
from foretell.models.layers import EMBEDDING_STD, ActionHead, CausalTransformer, action_inputs, dropout, initialize
from foretell.models.transformer.stacks import sinusoidal_positions
from foretell.sequences.batch import SequenceBatch

TOKENS = 3
"""Tokens a timestep: return-to-go, observation, action."""


class SinusoidalEmbedding(nn.Module):
    """Position encodings in the place of a learned table, as long as its vectors; nothing of it is saved."""

    table: Tensor

    def __init__(self, length: int, width: int):
        super().__init__()
        self.register_buffer("table", EMBEDDING_STD * sinusoidal_positions(length, width), persistent=False)

    def forward(self, timesteps: Int[Tensor, "batch time"]) -> Float[Tensor, "batch time width"]:
        """Return the encoding of each timestep. Raises `IndexError` past the table's end."""
        return functional.embedding(timesteps, self.table)


class DecisionTransformer(SequenceModel[DecisionTransformerConfig]):
    """Predicts $a_t$ from the token of $s_t$, given earlier timesteps and the return asked for."""

    def __init__(self, config: DecisionTransformerConfig, shape: SequenceShape, generator: torch.Generator):
        super().__init__(config, shape)
        width = config.width
        self.embed_return = nn.Linear(1, width)
        self.embed_observation = observation_encoder(shape.observation_shape, width)
        self.embed_action = nn.Linear(shape.action_dim, width)
        tables = {"learned": nn.Embedding, "sinusoidal": SinusoidalEmbedding}
        self.embed_timestep = tables[config.timestep_embedding](shape.max_timesteps, width)
        self.embed_norm = nn.LayerNorm(width)
        self.transformer = CausalTransformer(
            width=width, layers=config.layers, heads=config.heads, probability=config.dropout,
            activation=config.activation,
        )  # fmt: skip
        self.action_head = ActionHead(width, shape, config.action_head)
        initialize(self, generator)

    def forward(
        self, batch: SequenceBatch, generator: torch.Generator | None = None, *, last_only: bool = False
    ) -> Float[Tensor, "batch outputs action_dim"]:
        """Return predicted actions or logits at every timestep or the last alone (`SequenceModel.forward`)."""
        time_embedding = self.embed_timestep(batch.timesteps)  # (batch, time, width)
        tokens = torch.stack(  # (batch, time, 3, width): R_t, s_t, a_t share the embedding of t
            [
                self.embed_return(batch.returns_to_go) + time_embedding,
                self.embed_observation(batch.observations) + time_embedding,
                self.embed_action(action_inputs(batch.actions, self.shape)) + time_embedding,
            ],
            dim=2,
        ).flatten(1, 2)  # (batch, 3 * time, width)
        tokens = dropout(self.embed_norm(tokens), self.config.dropout, generator)
        mask, first = batch.mask.repeat_interleave(TOKENS, dim=1), 1
        if last_only:  # the last action is not taken yet: nobody may attend to its token, so it is left out
            tokens, mask, first = tokens[:, :-1], mask[:, :-1], tokens.shape[1] - 2
        hidden = self.transformer(tokens, mask, generator, outputs=slice(first, None, TOKENS))
        return self.action_head(hidden)  # of observation tokens: (batch, time or 1, action_dim)
