"""An LSTM in the transformer's place: Decision LSTM (Siebenborn et al. 2022, arXiv:2211.14655).

| paper | here |
|---|---|
| $\\hat R_t, s_t, a_{t-1}$ | `returns_to_go`, `observations`, `actions` of the timestep before |
| `embed_R`, `embed_s`, `embed_a` | `embed_return`, `embed_observation`, `embed_action` |
| $K$ | `context_length` |
| `pred_a` | `action_head` |

Where we differ: one input a timestep, the sum of three embeddings, in place of three inputs in a row; padding is
invisible.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from foretell.models.configs import LSTMConfig, SequenceShape
from foretell.models.dropout import dropout
from foretell.models.encoders import observation_encoder
from foretell.models.initialization import initialize
from foretell.models.interface import SequenceModel
from foretell.models.layers import ActionHead, action_inputs
from foretell.models.recorded import known_whole
from foretell.sequences.batch import SequenceBatch


class LSTM(SequenceModel[LSTMConfig]):
    """Predicts $a_t$ from the state after reading $\\hat R_t$, $s_t$ and $a_{t-1}$ of every timestep in the window.

    The first real timestep of a window has no previous action: its input is zero, as is the state before it. Order
    in time comes from the recurrence; there is no timestep embedding.
    """

    def __init__(self, config: LSTMConfig, shape: SequenceShape, generator: torch.Generator):
        super().__init__(config, shape)
        width = config.width
        self.embed_return = nn.Linear(1, width)
        self.embed_observation = observation_encoder(shape.observation_shape, width)
        self.embed_action = nn.Linear(shape.action_dim, width)
        self.layers = nn.ModuleList(nn.LSTM(width, width, batch_first=True) for _ in range(config.layers))
        self.action_head = ActionHead(width, shape, config.action_head)
        initialize(self, generator)

    def forward(
        self, batch: SequenceBatch, generator: torch.Generator | None = None, *, last_only: bool = False
    ) -> Float[Tensor, "batch outputs action_dim"]:
        """Return predicted actions or logits at every timestep or the last alone (`SequenceModel.forward`)."""
        actions = action_inputs(batch.actions, self.shape)
        hidden = (  # (batch, time, width)
            self.embed_return(batch.returns_to_go)
            + self.embed_observation(batch.observations)
            + self.embed_action(_previous(actions, batch.mask))
        )
        whole = known_whole(batch.mask)
        padding = (~batch.mask).sum(1)
        if not whole:
            hidden = _rolled(hidden, -padding)  # real timesteps first: the state has seen nothing before them
        hidden = dropout(hidden, self.config.dropout, generator)
        for layer in self.layers:  # dropout between layers, never in time (Zaremba et al. 2014, arXiv:1409.2329)
            hidden = dropout(_recurrent(layer, hidden), self.config.dropout, generator)
        if not whole:
            hidden = _rolled(hidden, padding).masked_fill(~batch.mask[..., None], 0.0)  # padding ran last: forget it
        return self.action_head(hidden[:, -1:] if last_only else hidden)


def _recurrent(layer: nn.Module, hidden: Float[Tensor, "batch time width"]) -> Float[Tensor, "batch time width"]:
    """In the numbers of its weights: under autocast, whatever is asked for, cuDNN would compute it in float16."""
    kind = hidden.device.type
    if not torch.amp.is_autocast_available(kind) or not torch.is_autocast_enabled(kind):
        return layer(hidden)[0]
    with torch.autocast(kind, enabled=False):
        return layer(hidden.to(next(layer.parameters()).dtype))[0]


def _previous(
    actions: Float[Tensor, "batch time action_dim"], mask: Bool[Tensor, "batch time"]
) -> Float[Tensor, "batch time action_dim"]:
    """Return at each timestep the action of the one before; zero where that is padding or outside the window."""
    taken = actions[:, :-1].masked_fill(~mask[:, :-1, None], 0.0)
    return torch.cat([torch.zeros_like(actions[:, :1]), taken], dim=1)


def _rolled(
    values: Float[Tensor, "batch time width"], places: Int[Tensor, " batch"]
) -> Float[Tensor, "batch time width"]:
    """Move each window's timesteps later by its number of `places`; what leaves the end comes in at the start."""
    time = values.shape[1]
    order = (torch.arange(time, device=values.device) - places[:, None]) % time  # (batch, time)
    return values.gather(1, order[..., None].expand_as(values))
