"""Settings of optimisation; free of torch, so that the command line can show them at once."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

from foretell.core.errors import UsageError
from foretell.core.settings import check_not_negative, check_positive, check_settings

Precision = Literal["float32", "bfloat16"]
Optimizer = Literal["adamw", "muon"]


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How a sequence model is fitted: with clipped gradients, by AdamW (Chen et al. 2021, Table 9) or Muon."""

    updates: int = 10_000
    """Gradient updates."""
    batch_size: int = 64
    """Windows per update."""
    optimizer: Optimizer = "adamw"
    """muon: the matrices between hidden layers move by Muon (Jordan et al. 2024), all else by AdamW; far fewer updates,
    each of which takes longer."""
    learning_rate: float = 1e-3
    """Step size of AdamW after the warm-up."""
    matrix_learning_rate: float = 1e-2
    """Step size of Muon after the warm-up: about the largest singular value of a step. Refused with adamw."""
    warmup_updates: int = 100
    """Updates over which the learning rate rises linearly from 0."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """cosine: falls to 0 at the last update; constant: stays after the warm-up."""
    weight_decay: float = 1e-4
    """Decoupled weight decay, times the step size."""
    clip_norm: float = 0.25
    """Largest gradient norm; larger gradients are scaled down to it."""
    evaluate_every: int = 0
    """Updates between evaluations on validation starts; 0 for none."""
    checkpoint_every: int = 1_000
    """Updates between checkpoints."""
    log_every: int = 100
    """Updates between events that hold the loss."""

    def __post_init__(self) -> None:
        check_settings(self)
        check_positive(
            self, "updates", "batch_size", "learning_rate", "matrix_learning_rate", "clip_norm", "checkpoint_every",
            "log_every",
        )  # fmt: skip
        check_not_negative(self, "warmup_updates", "weight_decay", "evaluate_every")
        if self.optimizer == "adamw" and self.matrix_learning_rate != TrainingConfig.matrix_learning_rate:
            raise UsageError(
                f"matrix_learning_rate {self.matrix_learning_rate} is Muon's; expected optimizer muon with it, or none."
            )


@dataclass(frozen=True, kw_only=True)
class ComputeConfig:
    """Where a sequence model is trained, and in which numbers. Other devices give other last bits."""

    device: str = "cpu"
    """Where to train a network: cpu, cuda, cuda:1 and so on, or auto (cuda if there is one). It acts on the CPU."""
    precision: Precision = "float32"
    """Numbers of the forward and backward pass; weights, optimiser and loss are float32 either way."""

    def __post_init__(self) -> None:
        check_settings(self)
        if not isinstance(self.device, str) or not re.fullmatch(r"cpu|auto|cuda(:\d{1,3})?", self.device):
            raise UsageError(f"device is {self.device!r}; expected cpu, cuda, cuda:N or auto.")


def learning_rate_at(config: TrainingConfig, update: int) -> float:
    """Return the learning rate of update 0, 1, ...: a pure function, so that there is no scheduler state to lose.

    >>> config = TrainingConfig(updates=100, learning_rate=1.0, warmup_updates=10)
    >>> [round(learning_rate_at(config, update), 3) for update in (0, 4, 9, 54, 99)]
    [0.1, 0.5, 1.0, 0.515, 0.0]
    """
    if update < config.warmup_updates:
        return config.learning_rate * (update + 1) / config.warmup_updates
    if config.schedule == "constant":
        return config.learning_rate
    done = (update - config.warmup_updates) / max(1, config.updates - config.warmup_updates)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
