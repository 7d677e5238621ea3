"""What a check of the doctor hands back, and how it names a place in a dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from foretell.datasets.dataset import Dataset
from foretell.datasets.fingerprint import block_rows

WIDEST = 64
"""Numbers of an observation that are looked at, evenly spread over wider ones."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing found: `check` names it for machines, `message` says it to people, with key, episode and timestep."""

    severity: Literal["error", "warning"]
    check: str
    message: str


def error(check: str, message: str) -> Finding:
    """Something that makes training wrong."""
    return Finding(severity="error", check=check, message=message)


def warning(check: str, message: str) -> Finding:
    """Something odd, and often right."""
    return Finding(severity="warning", check=check, message=message)


def place(dataset: Dataset, row: int) -> str:
    """Return 'episode E, timestep T' of a row of the columns."""
    episode = int(np.searchsorted(dataset.episode_ends, row, side="right"))
    return f"episode {episode}, timestep {row - int(dataset.episode_starts[episode])}"


def blocks(dataset: Dataset) -> Iterator[slice]:
    """Yield all rows in pieces, so that a mapped file need not fit into memory."""
    rows = block_rows(dataset.observations)
    for start in range(0, dataset.num_steps, rows):
        yield slice(start, min(start + rows, dataset.num_steps))


def first(dataset: Dataset, bad: Callable[[slice], np.ndarray]) -> int | None:
    """Return the first row for which `bad(rows)`, rows by block, is True anywhere; None where there is none."""
    for rows in blocks(dataset):
        found = bad(rows)
        if found.any():
            return rows.start + int(np.argmax(found.reshape(rows.stop - rows.start, -1).any(axis=1)))
    return None


def inside(dataset: Dataset) -> np.ndarray:
    """Return, for every row, whether the next row belongs to the same episode: `(N,)` bool."""
    found = np.ones(dataset.num_steps, bool)
    found[dataset.episode_ends - 1] = False
    return found


def deviation(values: np.ndarray) -> np.ndarray:
    """Return the standard deviation of each number of a row, `(...)` float64, from pieces of the rows."""
    parts = [slice(start, start + block_rows(values)) for start in range(0, len(values), block_rows(values))]
    middle = sum(values[rows].sum(axis=0, dtype=np.float64) for rows in parts) / len(values)
    squares = sum(((values[rows] - middle) ** 2).sum(axis=0) for rows in parts)
    return np.asarray(np.sqrt(squares / len(values)))


def spread_rows(dataset: Dataset, most: int, *, before: int = 0, after: int = 1) -> np.ndarray:
    """Return rows, at most `most`, rising and `spread` over those that have so many rows around in their episode."""
    counts = np.maximum(dataset.episode_lengths - before - after, 0)
    ends = np.cumsum(counts)
    chosen = spread(int(ends[-1]), most)
    episode = np.searchsorted(ends, chosen, side="right")
    return dataset.episode_starts[episode] + before + chosen - (ends - counts)[episode]


def some_rows(column: np.ndarray, most: int) -> np.ndarray:
    """Return at most `most` rows of a column, `spread` over it; all of them where they are no more."""
    return column[:] if len(column) <= most else column[spread(len(column), most)]


def spread(count: int, most: int) -> np.ndarray:
    """Return at most `most` of the numbers below `count`, rising and evenly spread, in step with no episode length."""
    if count <= most:
        return np.arange(count)
    golden = (5**0.5 - 1) / 2
    return np.sort((np.arange(most) * golden % 1 * count).astype(np.int64))


def numbers(dataset: Dataset, rows: np.ndarray) -> np.ndarray:
    """Return observations at these rows, at most `WIDEST` numbers of each: `(rows, numbers)` float64."""
    return dataset.observations[rows][:, spread(dataset.observation_shape[0], WIDEST)].astype(np.float64)


def distance(ones: np.ndarray, others: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """Return how far apart rows of `numbers` are: root mean square of their differences, in deviations."""
    return np.asarray(np.sqrt((((ones - others) / deviation) ** 2).mean(axis=1)))
