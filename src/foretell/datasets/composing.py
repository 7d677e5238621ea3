"""Datasets of episodes of others: some of one, or all of several, in memory, with a word of where they come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Int

from foretell.core.errors import DatasetError, UsageError
from foretell.core.forms import LONGEST_NAME
from foretell.core.numbers import as_array
from foretell.core.settings import check_kinds
from foretell.datasets.dataset import Dataset
from foretell.datasets.fingerprint import unchanged
from foretell.datasets.metadata import DatasetMetadata

PARTS = "parts"
"""Of the metadata's hyperparameters: name, fingerprint and episodes of what a dataset was composed of."""

OPENED = "such as foretell.open_dataset(path) gives"
"""Where a dataset comes from."""


def select_episodes(
    dataset: Dataset, episodes: Int[np.ndarray, " chosen"] | Sequence[int], *, name: str | None = None
) -> Dataset:
    """Return these episodes of a dataset, in this order, as one of its own; its `name` is that of the whole.

    `dataset.episode_returns().argsort()[-20:]` are the best 20, say. Extras, which have no meaning here, are left out.
    Raises `UsageError` for numbers that are no episodes, or none at all, `DatasetError` for damaged data.
    """
    if not isinstance(dataset, Dataset):
        raise UsageError(f"dataset is {dataset!r:.100}; expected a foretell.Dataset, {OPENED}.")
    dataset = unchanged(dataset)
    chosen = np.asarray(as_array(episodes, "episodes", UsageError))
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
    parts = _parts(datasets)
    shared = [key for key in parts[0].columns() if all(key in part.columns() for part in parts)]
    columns = {}
    for key in shared:
        found = [part.columns()[key] for part in parts]
        if key == "actions" and all(values.dtype.kind in "iu" for values in found):  # choices, counted by any integer
            found = [values.astype(np.result_type(*found)) for values in found]
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
    names = [part.name for part in parts]
    plain = "+".join(names)
    shorter = f"{names[0]}+{len(names) - 2} more+{names[-1]}" if len(names) > 2 else plain
    return _composed(name or (plain if len(plain) <= LONGEST_NAME else shorter), parts, columns, ends, counts)


def _parts(given: Any) -> list[Dataset]:
    """Return several datasets, none of them damaged. Raises `UsageError` for anything else."""
    parts = list(given) if isinstance(given, list | tuple) else []
    if not parts or not all(isinstance(part, Dataset) for part in parts):
        raise UsageError(
            f"datasets are {given!r:.100}; expected several of foretell.Dataset, [one, another] say, {OPENED}."
        )
    return [unchanged(part) for part in parts]


def _composed(
    name: str, parts: Sequence[Dataset], columns: dict[str, np.ndarray], ends: np.ndarray, episodes: Sequence[int]
) -> Dataset:
    """Return a dataset of these columns; its metadata say what it was composed of."""
    check_kinds(name=(name, str))
    if len(name) > LONGEST_NAME:
        raise UsageError(f"name has {len(name)} letters; expected at most {LONGEST_NAME}. Give a shorter one.")
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
    metadata = _in_common([part.metadata for part in parts])
    infos = {key.removeprefix("infos/"): values for key, values in columns.items() if key.startswith("infos/")}
    plain: dict[str, Any] = {"next_observations": None}
    plain |= {key: values for key, values in columns.items() if not key.startswith("infos/")}
    return Dataset(
        name=name, **plain, infos=infos, episode_ends=ends,
        notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)),
        metadata=replace(metadata, hyperparameters={**metadata.hyperparameters, PARTS: origin}),
    )  # fmt: skip


def _in_common(metadata: Sequence[DatasetMetadata]) -> DatasetMetadata:
    """Return what is the same in all: who acted, and of what data the timesteps were imagined, say."""
    first = metadata[0]
    if len(metadata) == 1:
        return first
    same: dict[str, Any] = {
        name: value for name, value in vars(first).items()
        if isinstance(value, str | int | tuple) and all(getattr(one, name) == value for one in metadata)
    }  # fmt: skip
    shared: dict[str, Any] = {
        name: {
            key: value for key, value in getattr(first, name).items()
            if all(key in getattr(one, name) and getattr(one, name)[key] == value for one in metadata)
        }
        for name in ("hyperparameters", "versions")
    }  # fmt: skip
    return DatasetMetadata(**same, **shared)
