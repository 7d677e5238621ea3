"""What an experiment is: an agent, the datasets that come of it, the methods that learn from them, the protocol."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from foretell.agents.configs import SACConfig
from foretell.evaluation.configs import ActingConfig
from foretell.models.configs import ModelConfig
from foretell.sequences.conditions import Condition
from foretell.training.configs import TrainingConfig
from foretell.values.configs import IQLConfig

PLAIN = "decision-transformer"
"""The method whose policies are called after their datasets alone."""


@dataclass(frozen=True, kw_only=True)
class DatasetPlan:
    """One dataset.

    `report` is the mean return of the Decision Transformer in the 2021 report's Table II, None where it has no such
    row. `figure` names the learning curve's file after the report's figure.
    """

    name: str
    recipe: Literal["random", "sac-replay", "sac-agent"]
    steps: int | None
    figure: str
    title: str
    report: float | None
    keep: Literal["last", "first"] = "last"


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """How one method learns from one dataset.

    `acting` are settings of acting, for networks that have any. `values` are the settings of value learning, for IQL
    and for what is learned from imagined timesteps; all methods of a seed share value functions of the same data.
    `imagined` is how many timesteps are imagined from the dataset and learned from in its place. `shown` puts the
    row into the table of `foretell reproduce` without `--league`.
    """

    model: ModelConfig | None = None
    training: TrainingConfig | None = None
    acting: ActingConfig | None = None
    values: IQLConfig | None = None
    imagined: int | None = None
    shown: bool = False


@dataclass(frozen=True, kw_only=True)
class Method:
    """A way of learning to act from data; `label` is its name for people. A row of the league."""

    name: str
    label: str
    algorithm: str
    condition: Condition | None
    lessons: Mapping[str, Lesson]
    best_share: float = 1.0

    def policy(self, dataset: str) -> str:
        """Return what the policy that came of `dataset` is called in the records."""
        return dataset if self.name == PLAIN else f"{dataset}.{self.name}"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One method on one dataset."""

    method: Method
    dataset: DatasetPlan

    @property
    def lesson(self) -> Lesson:
        """How it learns."""
        return self.method.lessons[self.dataset.name]

    @property
    def policy(self) -> str:
        """What its policy is called in the records."""
        return self.method.policy(self.dataset.name)


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Everything that `foretell reproduce` does, but for the number of seeds and the folder."""

    name: str
    title: str
    environment: str
    sac: SACConfig
    datasets: tuple[DatasetPlan, ...]
    methods: tuple[Method, ...]
    report_random: float
    report_sac: float
    evaluation_episodes: int = 200
    validation_episodes: int = 50
    asked_returns: tuple[float, ...] = ()
    asked_episodes: int = 50
    bootstrap_samples: int = 10_000
    default_seeds: int = 5
    quick: bool = False

    def entries(self, *, league: bool) -> Iterator[Entry]:
        """Yield every method on every dataset that it learns from: all of them, or those that the table shows."""
        for method in self.methods:
            for dataset in self.datasets:
                lesson = method.lessons.get(dataset.name)
                if lesson and (league or lesson.shown):
                    yield Entry(method=method, dataset=dataset)

    def method(self, name: str) -> Method:
        """Return a method by name."""
        return next(method for method in self.methods if method.name == name)
