"""The dataset card: what `foretell inspect` shows and a report keeps, as plain JSON."""

from __future__ import annotations

from typing import Any

import numpy as np

from foretell.core.scores import normalized_score
from foretell.datasets.dataset import Dataset
from foretell.datasets.doctor import diagnose
from foretell.datasets.metadata import DatasetMetadata
from foretell.environments.making import EnvironmentSpec
from foretell.environments.tasks import TASKS

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
BINS = 20
MANY_DIMENSIONS = 64
"""Above this (images), ranges are given over all dimensions together."""


def dataset_card(dataset: Dataset, spec: EnvironmentSpec | None = None) -> dict[str, Any]:
    """Return the card: every value is JSON, in the environment's units; what is not finite is null.

    Keys: name, environment, steps, episodes, episode_lengths and returns (mean, sd, min, max; returns also quantiles
    and histogram), observations and actions (shape, dtype, min, max for each dimension), behaviour_policy,
    terminations, truncations, normalized_score (0 is random, 100 the reference: those of the metadata, else of the
    task table; null without either), fingerprint, metadata, warnings (`{severity, check, message}`). Linear in the size
    of the dataset. Where the data name no environment, it is that of `spec`.
    """
    returns = dataset.episode_returns()
    metadata = dataset.metadata
    environment = metadata.environment or (spec.name if spec is not None else None)
    return {
        "name": dataset.name,
        "environment": environment,
        "steps": dataset.num_steps,
        "episodes": dataset.num_episodes,
        "episode_lengths": _spread(dataset.episode_lengths),
        "returns": _returns(returns),
        "observations": _ranges(dataset.observations),
        "actions": {**_ranges(dataset.actions), "discrete": dataset.discrete, "num_actions": dataset.num_actions},
        "behaviour_policy": {"algorithm": metadata.algorithm, "description": metadata.description},
        "terminations": int(np.count_nonzero(dataset.terminations)),
        "truncations": int(np.count_nonzero(~np.asarray(dataset.terminations)[dataset.episode_ends - 1])),
        "normalized_score": _normalized(float(returns.mean()), metadata.reference_scores, environment),
        "fingerprint": dataset.fingerprint(),
        "metadata": _metadata(metadata),
        "warnings": [
            {"severity": found.severity, "check": found.check, "message": found.message}
            for found in diagnose(dataset, spec)
        ],
    }


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _spread(values: np.ndarray) -> dict[str, float | None]:
    with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is None, and a warning of the card
        return {
            "mean": _number(values.mean()), "sd": _number(values.std()),
            "min": _number(values.min()), "max": _number(values.max()),
        }  # fmt: skip


def _returns(returns: np.ndarray) -> dict[str, Any]:
    finite = returns[np.isfinite(returns)]
    if len(finite) == 0:
        return {**_spread(returns), "quantiles": {}, "histogram": {"edges": [], "counts": []}}
    low, high = finite.min(), finite.max()
    counts, edges = np.histogram(finite, bins=BINS) if low < high else (np.array([len(finite)]), np.array([low, high]))
    return {
        **_spread(returns),
        "quantiles": {str(q): float(np.quantile(finite, q)) for q in QUANTILES},
        "histogram": {"edges": edges.tolist(), "counts": counts.tolist()},
    }


def _ranges(values: np.ndarray) -> dict[str, Any]:
    rows = values.reshape(len(values), -1)
    axis = 0 if rows.shape[1] <= MANY_DIMENSIONS else None
    return {
        "shape": list(values.shape[1:]), "dtype": str(values.dtype),
        "min": [_number(x) for x in np.atleast_1d(rows.min(axis=axis))],
        "max": [_number(x) for x in np.atleast_1d(rows.max(axis=axis))],
    }  # fmt: skip


def _normalized(score: float, ends: tuple[float, float] | None, environment: str | None) -> float | None:
    if ends is None and (task := TASKS.get(environment or "")) is not None:
        ends = task.random_score, task.expert_score
    if ends is None or not np.isfinite(score):
        return None
    return normalized_score(score, random=ends[0], expert=ends[1])


def _metadata(metadata: DatasetMetadata) -> dict[str, Any]:
    return {
        "seed": metadata.seed,
        "hyperparameters": dict(metadata.hyperparameters),
        "versions": dict(metadata.versions),
        "extra": {name: f"{values.dtype} {list(values.shape)}" for name, values in metadata.extra.items()},
    }
