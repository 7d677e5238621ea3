"""What one training of a network will do, settled before any file of its run is touched."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from foretell.core.errors import UsageError
from foretell.datasets.dataset import Dataset
from foretell.evaluation.acting import check_acting
from foretell.evaluation.configs import ActingConfig
from foretell.facade.initial_weights import InitialWeights
from foretell.facade.source import Source
from foretell.models.configs import ModelConfig, SequenceShape, TrajectoryTransformerConfig, window_length
from foretell.models.interface import SequenceModel
from foretell.sequences.conditions import NEEDS_VALUES, Condition, Target
from foretell.sequences.normalization import Normalization
from foretell.sequences.windows import WindowSampler
from foretell.training.configs import TrainingConfig
from foretell.training.placing import Place
from foretell.values.asking import Told, timesteps_of
from foretell.values.configs import IQLConfig


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that was asked for, checked, with the network before its first update."""

    out: Path
    source: Source
    normalization: Normalization
    """The data's, or that of the run whose weights it begins with."""
    shape: SequenceShape
    algorithm: str
    condition: Condition
    target: Target
    model: ModelConfig
    network: SequenceModel
    training: TrainingConfig
    acting: ActingConfig | None
    place: Place
    chosen: np.ndarray | None
    """Episodes to learn from; None for all."""
    initial: InitialWeights | None
    values: IQLConfig | None
    """Settings of the value functions that are learned first; None where none are needed, or they are given."""
    values_from: Path | None
    seed: int
    root_seed: int
    validation_episodes: int
    config: dict[str, Any]
    """What `config.json` says, but for the place."""

    def sampler(self, told: Told) -> WindowSampler:
        """Return the windows to learn from, with what they are told."""
        data, eligible, emphasized = self.source.data, None, told.emphasized
        if self.chosen is not None:
            eligible = timesteps_of(data, self.chosen)
            emphasized = None if emphasized is None else np.intersect1d(emphasized, eligible)
        return WindowSampler(
            data, self.normalization, context_length=window_length(self.model), seed=self.seed, told=told.numbers,
            eligible=eligible, emphasized=emphasized,
            goals=isinstance(self.model, TrajectoryTransformerConfig) and self.model.goals,
        )  # fmt: skip


def planner_of(model: ModelConfig) -> TrajectoryTransformerConfig | None:
    """Return the settings of a network that plans and asks for nothing; None of another."""
    return model if isinstance(model, TrajectoryTransformerConfig) and not model.told else None


def check_condition(
    condition: Condition, target: Target, model: ModelConfig, acting: ActingConfig | None, values: IQLConfig | None,
    values_from: Path | None, algorithm: str, data: Dataset,
) -> None:  # fmt: skip
    """Raise `UsageError` where there is no such condition, or it does not go with what else was asked for."""
    if condition not in get_args(Condition):
        raise UsageError(f"condition {condition!r}; expected one of {', '.join(get_args(Condition))}.")
    if planner_of(model) and (condition == "advantage" or target != "auto"):
        raise UsageError(
            f"{algorithm} plans and asks for nothing: no --target, no --condition advantage; to ask, "
            "train it with --trajectory-transformer.told."
        )
    check_acting(model, acting, condition)
    if values and values_from:
        raise UsageError("values are settings of value functions to learn, values_from are learned ones; give one.")
    needs_values = condition in NEEDS_VALUES
    if not needs_values and (values or values_from):
        raise UsageError(f"condition {condition} needs no value functions; leave their settings out.")
    if needs_values and len(data.observation_shape) != 1:
        raise UsageError(
            f"condition {condition}: value functions read vectors; {data.name} has observations of shape "
            f"{data.observation_shape}. Condition on the return."
        )
