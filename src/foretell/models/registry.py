"""The networks by name. A new one is a file, its settings and a line here; `tests/conformance` picks it up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from foretell.core.errors import UsageError
from foretell.models.configs import DecisionTransformerConfig, SequenceShape
from foretell.models.decision_transformer import DecisionTransformer


@dataclass(frozen=True)
class ModelEntry:
    """Settings and network that belong to a name."""

    config: type[DecisionTransformerConfig]
    network: type[DecisionTransformer]


MODELS: dict[str, ModelEntry] = {
    "decision-transformer": ModelEntry(DecisionTransformerConfig, DecisionTransformer),
}


def model_entry(algorithm: str) -> ModelEntry:
    """Look a network up by name. Raises `UsageError` for an unknown one."""
    if algorithm not in MODELS:
        raise UsageError(f"algorithm {algorithm!r}; expected one of {', '.join(sorted(MODELS))}.")
    return MODELS[algorithm]


def build_model(
    algorithm: str, config: dict[str, Any], shape: SequenceShape, generator: torch.Generator
) -> DecisionTransformer:
    """Build a network from plain values, as they stand in a run's `config.json`.

    Weights come from `generator` alone; torch's global generator is left as it was. Raises `UsageError`.
    """
    entry = model_entry(algorithm)
    with torch.random.fork_rng(devices=[]):
        return entry.network(entry.config(**config), shape, generator)
