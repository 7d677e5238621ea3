"""The peers' networks at our settings. A peer gets what it needs to be fast: the fused optimiser, the same batches."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.making import PENDULUM
from foretell.models.configs import DecisionTransformerConfig
from foretell.sequences.batch import SequenceBatch


def hugging_face_model(config: DecisionTransformerConfig) -> nn.Module:
    """Return Hugging Face's `DecisionTransformerModel` of the same size. Raises ImportError without transformers."""
    from transformers import DecisionTransformerConfig as PeerConfig
    from transformers import DecisionTransformerModel

    torch.manual_seed(0)
    return DecisionTransformerModel(
        PeerConfig(
            state_dim=PENDULUM.observation_shape[0], act_dim=PENDULUM.action_dim, max_ep_len=PENDULUM.max_timesteps,
            hidden_size=config.width, n_layer=config.layers, n_head=config.heads, activation_function="relu",
            resid_pdrop=config.dropout, embd_pdrop=config.dropout, attn_pdrop=config.dropout,
        )
    )  # fmt: skip


def predict(model: nn.Module, batch: SequenceBatch) -> Tensor:
    """Return Hugging Face's predicted actions `(batch, time, action_dim)`."""
    _, actions, _ = model(
        states=batch.observations, actions=batch.actions, rewards=None, returns_to_go=batch.returns_to_go,
        timesteps=batch.timesteps, attention_mask=batch.mask.long(), return_dict=False,
    )  # fmt: skip
    return actions


def loss(model: nn.Module, batch: SequenceBatch) -> Tensor:
    """Return its published training loss: squared error at real timesteps."""
    return nn.functional.mse_loss(predict(model, batch)[batch.mask], batch.actions[batch.mask])
