"""Foretell: recorded experience in, policies out, by sequence modelling.

The names below are loaded when first used, so that `import foretell` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from foretell.agents.configs import SACConfig as SACConfig
    from foretell.collection.recipes import collect_random as collect_random
    from foretell.core.episode import Episode as Episode
    from foretell.core.errors import ForetellError as ForetellError
    from foretell.core.returns import returns_to_go as returns_to_go
    from foretell.datasets.composing import concatenate as concatenate
    from foretell.datasets.composing import select_episodes as select_episodes
    from foretell.datasets.d4rl_writer import write_d4rl as write_d4rl
    from foretell.datasets.d4rl_writer import write_dataset as write_dataset
    from foretell.datasets.dataset import Dataset as Dataset
    from foretell.datasets.metadata import DatasetMetadata as DatasetMetadata
    from foretell.datasets.minari import write_minari as write_minari
    from foretell.datasets.registry import open_dataset as open_dataset
    from foretell.environments.action_flattening import FlattenedActions as FlattenedActions
    from foretell.environments.flattening import FlattenedObservations as FlattenedObservations
    from foretell.evaluation.configs import ChunkingConfig as ChunkingConfig
    from foretell.evaluation.configs import PlanningConfig as PlanningConfig
    from foretell.evaluation.protocol import Policy as Policy
    from foretell.facade import collect_imagined as collect_imagined
    from foretell.facade import collect_policy as collect_policy
    from foretell.facade import collect_sac as collect_sac
    from foretell.facade import evaluate as evaluate
    from foretell.facade import load_policy as load_policy
    from foretell.facade import train as train
    from foretell.facade import train_iql as train_iql
    from foretell.facade import train_sac as train_sac
    from foretell.facade.film import film as film
    from foretell.facade.seeds import train_seeds as train_seeds
    from foretell.models.configs import DecisionTransformerConfig as DecisionTransformerConfig
    from foretell.models.configs import EncoderDecoderConfig as EncoderDecoderConfig
    from foretell.models.configs import LSTMConfig as LSTMConfig
    from foretell.models.configs import MLPConfig as MLPConfig
    from foretell.models.configs import TrajectoryTransformerConfig as TrajectoryTransformerConfig
    from foretell.reporting.comparison_report import write_comparison as write_comparison
    from foretell.sequences.scaling import ActionRange as ActionRange
    from foretell.training.configs import ComputeConfig as ComputeConfig
    from foretell.training.configs import TrainingConfig as TrainingConfig
    from foretell.values.configs import DynamicsConfig as DynamicsConfig
    from foretell.values.configs import IQLConfig as IQLConfig

__version__ = "0.1.0"

_HOMES = {
    "ActionRange": "sequences.scaling",
    "ChunkingConfig": "evaluation.configs",
    "collect_imagined": "facade",
    "collect_policy": "facade",
    "collect_random": "collection.recipes",
    "collect_sac": "facade",
    "ComputeConfig": "training.configs",
    "concatenate": "datasets.composing",
    "Dataset": "datasets.dataset",
    "DatasetMetadata": "datasets.metadata",
    "DecisionTransformerConfig": "models.configs",
    "DynamicsConfig": "values.configs",
    "EncoderDecoderConfig": "models.configs",
    "Episode": "core.episode",
    "evaluate": "facade",
    "film": "facade.film",
    "FlattenedActions": "environments.action_flattening",
    "FlattenedObservations": "environments.flattening",
    "ForetellError": "core.errors",
    "IQLConfig": "values.configs",
    "load_policy": "facade",
    "LSTMConfig": "models.configs",
    "MLPConfig": "models.configs",
    "open_dataset": "datasets.registry",
    "PlanningConfig": "evaluation.configs",
    "Policy": "evaluation.protocol",
    "returns_to_go": "core.returns",
    "SACConfig": "agents.configs",
    "select_episodes": "datasets.composing",
    "train": "facade",
    "train_iql": "facade",
    "train_sac": "facade",
    "train_seeds": "facade.seeds",
    "TrainingConfig": "training.configs",
    "TrajectoryTransformerConfig": "models.configs",
    "write_comparison": "reporting.comparison_report",
    "write_d4rl": "datasets.d4rl_writer",
    "write_dataset": "datasets.d4rl_writer",
    "write_minari": "datasets.minari",
}
__all__ = ["__version__", *_HOMES]


def __dir__() -> list[str]:
    return sorted(__all__)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'foretell' has no attribute {name!r}")
    found = getattr(import_module(f"foretell.{_HOMES[name]}"), name)
    return import_module("foretell.core.documented").with_fields(found)
