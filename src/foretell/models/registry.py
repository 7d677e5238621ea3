"""The networks by name. A new one is a file, its settings and a line here; `tests/conformance` picks it up.

Free of torch: a network is imported when it is built, so that the command line can list all of them at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from foretell.core.errors import UsageError
from foretell.models.configs import (
    DecisionTransformerConfig,
    EncoderDecoderConfig,
    LSTMConfig,
    MLPConfig,
    ModelConfig,
    SequenceShape,
    TrajectoryTransformerConfig,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from foretell.models.interface import SequenceModel


@dataclass(frozen=True)
class ModelEntry:
    """Settings and network that belong to a name."""

    config: type[ModelConfig]
    path: str
    """Where the network is: "module:class"."""
    reads_images: bool = True
    """Whether observations may be images."""

    @property
    def network(self) -> Callable[[Any, SequenceShape, torch.Generator], SequenceModel]:
        """The network's class, imported now: call it with settings, shape and the generator of its weights."""
        module, name = self.path.split(":")
        return getattr(import_module(module), name)


MODELS: dict[str, ModelEntry] = {
    "decision-transformer": ModelEntry(
        DecisionTransformerConfig, "foretell.models.decision_transformer:DecisionTransformer"
    ),
    "lstm": ModelEntry(LSTMConfig, "foretell.models.lstm:LSTM"),
    "mlp": ModelEntry(MLPConfig, "foretell.models.mlp:MLP"),
    "trajectory-transformer": ModelEntry(
        TrajectoryTransformerConfig, "foretell.models.trajectory_transformer:TrajectoryTransformer", reads_images=False
    ),
    "encoder-decoder": ModelEntry(EncoderDecoderConfig, "foretell.models.encoder_decoder:EncoderDecoder"),
}


def model_entry(algorithm: str) -> ModelEntry:
    """Look a network up by name. Raises `UsageError` for an unknown one."""
    if algorithm not in MODELS:
        raise UsageError(f"algorithm {algorithm!r}; expected one of {', '.join(sorted(MODELS))}.")
    return MODELS[algorithm]


def require_settings_of(algorithm: str, given: Any) -> None:
    """Raise `UsageError` where settings are not those of this network; None is taken."""
    expected = model_entry(algorithm).config
    if given is not None and not isinstance(given, expected):
        others = [name for name, entry in MODELS.items() if isinstance(given, entry.config)]
        theirs = f", or algorithm={others[0]!r}" if others else ""
        raise UsageError(f"model is of type {type(given).__name__}; expected {expected.__name__}{theirs}.")


def build_model(
    algorithm: str, config: dict[str, Any], shape: SequenceShape, generator: torch.Generator
) -> SequenceModel:
    """Build a network from plain values, as they stand in a run's `config.json`.

    Weights come from `generator` alone; torch's global generator is left as it was. Raises `UsageError`.
    """
    from torch.random import fork_rng

    entry = model_entry(algorithm)
    with fork_rng(devices=[]):
        return entry.network(entry.config(**config), shape, generator)
