"""What an experiment is: an agent, the datasets that come of it, a model for each, and how they are measured."""

from __future__ import annotations

from dataclasses import dataclass

from foretell.agents.configs import SACConfig
from foretell.models.configs import DecisionTransformerConfig
from foretell.training.configs import TrainingConfig


@dataclass(frozen=True, kw_only=True)
class DatasetPlan:
    """One dataset, and the sequence model that is trained on it.

    `report` is the mean return in the 2021 report's Table II, None where it has no such row. `figure` names the
    learning curve's file after the report's figure.
    """

    name: str
    recipe: str
    steps: int | None
    figure: str
    title: str
    report: float | None
    model: DecisionTransformerConfig
    training: TrainingConfig
    target_return: float | None = None


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Everything that `foretell reproduce` does, but for the number of seeds and the folder."""

    name: str
    title: str
    environment: str
    sac: SACConfig
    datasets: tuple[DatasetPlan, ...]
    report_random: float
    report_sac: float
    evaluation_episodes: int = 200
    validation_episodes: int = 50
    asked_returns: tuple[float, ...] = ()
    asked_episodes: int = 50
    bootstrap_samples: int = 10_000
    default_seeds: int = 5
    quick: bool = False
