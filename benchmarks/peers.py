"""The peers' networks at our settings. A peer gets what it needs to be fast: the fused optimiser, the same batches."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from unittest.mock import MagicMock

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


CORL = "CORL_DT"
"""Environment variable: where the file algorithms/offline/dt.py of github.com/tinkoff-ai/CORL lies."""


def corl_model(config: DecisionTransformerConfig) -> nn.Module | None:
    """Return CORL's Decision Transformer of the same size; None where its file is not at hand.

    Of what the file imports for logging and environments only the names are needed: stand-ins, where not installed.
    """
    path = Path(os.environ.get(CORL, ""))
    if not path.is_file():
        return None
    with _stand_ins("d4rl", "gym", "pyrallis", "wandb", "tqdm", "tqdm.auto"):
        specification = importlib.util.spec_from_file_location("corl_dt", path)
        assert specification
        assert specification.loader
        module = importlib.util.module_from_spec(specification)
        sys.modules["corl_dt"] = module  # its dataclass looks itself up there
        specification.loader.exec_module(module)
    torch.manual_seed(0)
    return module.DecisionTransformer(
        state_dim=PENDULUM.observation_shape[0], action_dim=PENDULUM.action_dim, seq_len=config.context_length,
        episode_len=PENDULUM.max_timesteps, embedding_dim=config.width, num_layers=config.layers,
        num_heads=config.heads, attention_dropout=config.dropout, residual_dropout=config.dropout,
        embedding_dropout=config.dropout,
    )  # fmt: skip


def corl_loss(model: nn.Module, batch: SequenceBatch) -> Tensor:
    """Return its published training loss; its windows are padded on the right, ours on the left."""
    length = batch.mask.shape[1]
    rows = (torch.arange(length) + (~batch.mask).sum(1, keepdim=True)) % length

    def moved(values: Tensor) -> Tensor:
        return values.gather(1, rows.view(*rows.shape, *[1] * (values.dim() - 2)).expand(values.shape))

    mask, actions = moved(batch.mask), moved(batch.actions)
    predicted = model(
        moved(batch.observations), actions, moved(batch.returns_to_go)[..., 0], moved(batch.timesteps),
        padding_mask=~mask,
    )  # fmt: skip
    return (nn.functional.mse_loss(predicted, actions, reduction="none") * mask[..., None]).mean()


class _stand_ins:
    """Modules by name that can be imported while this lasts, where they are not installed."""

    def __init__(self, *names: str):
        self.names = [name for name in names if name not in sys.modules and not _found(name)]

    def __enter__(self) -> None:
        sys.modules.update({name: MagicMock() for name in self.names})

    def __exit__(self, *_: object) -> None:
        for name in self.names:
            sys.modules.pop(name, None)


def _found(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False
