"""Datasets of episodes of others: some of one, or all of several, in memory, with a word of where they come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Int

from foretell.core.errors import DatasetError, UsageError
from foretell.datasets.dataset import Dataset
from foretell.datasets.fingerprint import unchanged

PARTS = "parts"
"""Of the metadata's hyperparameters: name, fingerprint and episodes of what a dataset was composed of."""


def select_episodes(
    dataset: Dataset, episodes: Int[np.ndarray, " chosen"] | Sequence[int], *, name: str | None = None
) -> Dataset:
    """Return these episodes of a dataset, in this order, as one of its own; its `name` is that of the whole.

    `dataset.episode_returns().argsort()[-20:]` are the best 20, say. Extras, which have no meaning here, are left out.
    Raises `UsageError` for numbers that are no episodes, or none at all, `DatasetError` for damaged data.
    """
    dataset = unchanged(dataset)
    chosen = np.asarray(episodes)
    if chosen.ndim != 1 or len(chosen) == 0 or chosen.dtype.kind not in "iu":
        raise UsageError(
            f"episodes are {chosen.dtype} of shape {chosen.shape}; expected numbers of episodes, at least one. Of one "
            "flag an episode they are numpy.flatnonzero(flags)."
        )
    if chosen.min() < 0 or chosen.max() >= dataset.num_episodes:
        raise UsageError(
            f"episodes {chosen.min()} to {chosen.max()}; {dataset.name} has 0 to {dataset.num_episodes - 1}."
        )
    starts, lengths = dataset.episode_starts[chosen], dataset.episode_lengths[chosen]
    ends = np.cumsum(lengths)
    rows = np.repeat(starts - ends + lengths, lengths) + np.arange(ends[-1])
    columns = {key: np.asarray(values[rows]) for key, values in dataset.columns().items()}
    return _composed(name or dataset.name, [dataset], columns, ends, [len(chosen)])


def concatenate(datasets: Sequence[Dataset], *, name: str | None = None) -> Dataset:
    """Return the episodes of several datasets, one dataset's behind the other's; by default named after all of them.

    They have to be alike in shapes, types and environment. `next_observations` and infos that not all have are left
    out, and extras. Raises `DatasetError` where they differ or are damaged, `UsageError` for none at all.
    """
    parts = list(datasets) if isinstance(datasets, Sequence) else []
    if not parts or not all(isinstance(part, Dataset) for part in parts):
        raise UsageError(f"datasets are {datasets!r:.100}; expected several of foretell.Dataset, [one, another] say.")
    parts = [unchanged(part) for part in parts]
    shared = [key for key in parts[0].columns() if all(key in part.columns() for part in parts)]
    columns = {}
    for key in shared:
        found = [part.columns()[key] for part in parts]
        for part, values in zip(parts, found, strict=True):
            if (values.shape[1:], values.dtype) != (found[0].shape[1:], found[0].dtype):
                raise DatasetError(
                    f"{key} are {values.dtype} of shape {values.shape[1:]} a timestep in {part.name}, {found[0].dtype} "
                    f"of {found[0].shape[1:]} in {parts[0].name}; expected the same in all."
                )
        columns[key] = np.concatenate(found)
    behind = np.cumsum([0, *(part.num_steps for part in parts)])
    ends = np.concatenate([part.episode_ends + first for part, first in zip(parts, behind)])
    counts = [part.num_episodes for part in parts]
    return _composed(name or "+".join(part.name for part in parts), parts, columns, ends, counts)


def _composed(
    name: str, parts: Sequence[Dataset], columns: dict[str, np.ndarray], ends: np.ndarray, episodes: Sequence[int]
) -> Dataset:
    """Return a dataset of these columns; its metadata say what it was composed of."""
    environments = list(dict.fromkeys(part.metadata.environment for part in parts))
    if len(environments) > 1:
        raise DatasetError(
            f"{', '.join(part.name for part in parts)} name the environments {', '.join(map(str, environments))}; "
            "expected one. dataclasses.replace(dataset, metadata=...) names another."
        )
    origin: list[dict[str, Any]] = [
        {"name": part.name, "fingerprint": part.fingerprint(), "episodes": count}
        for part, count in zip(parts, episodes, strict=True)
    ]
    metadata = parts[0].metadata
    if len(parts) > 1:
        metadata = replace(metadata, algorithm=None, seed=None, description="", hyperparameters={}, extra={})
    infos = {key.removeprefix("infos/"): values for key, values in columns.items() if key.startswith("infos/")}
    plain: dict[str, Any] = {"next_observations": None}
    plain |= {key: values for key, values in columns.items() if not key.startswith("infos/")}
    return Dataset(
        name=name, **plain, infos=infos, episode_ends=ends,
        notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)),
        metadata=replace(metadata, hyperparameters={**metadata.hyperparameters, PARTS: origin}),
    )  # fmt: skip
