"""A linear model of one timestep, fitted to the data themselves, for what their environment's rules would tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from foretell.datasets.dataset import Dataset
from foretell.datasets.findings import blocks, inside, spread_rows

WIDEST = 64
"""Numbers an observation and an action may have together; images are not looked at."""
PRODUCTS = 12
"""Up to so many, the model reads all their products as well, beyond it the squares alone."""
SAMPLE = 5_000
"""Timesteps that a model is fitted to."""
ROWS_A_NUMBER = 10
"""Timesteps needed for each number of the model."""
LEAP = 8.0
"""Deviations from the model, in those that 1 in 100 exceeds, that make a leap in the middle one of the dimensions.
Measured on 10,000 timesteps of random play: MountainCar's wall reaches 4.6, Pendulum, CartPole and Acrobot stay below
2. Of joins of two episodes 89 in 100 exceed it on Pendulum, all on CartPole and MountainCar, 3 in 100 on Acrobot."""
FLOOR = 1e-4
"""Deviations below this part of a dimension's own are rounding."""


@dataclass(frozen=True, kw_only=True)
class OneStep:
    """Predicts the next observation from an observation and an action, and knows how far off it usually is."""

    middle: np.ndarray
    deviation: np.ndarray
    moving: np.ndarray
    weights: np.ndarray
    usual: np.ndarray

    @classmethod
    def fit(cls, dataset: Dataset) -> Self | None:
        """Fit it to timesteps evenly spread over the data; None where these are images or too few."""
        if len(dataset.observation_shape) != 1 or dataset.observation_shape[0] + dataset.action_dim > WIDEST:
            return None
        rows = spread_rows(dataset, SAMPLE)
        sample = dataset.observations[rows].astype(np.float64)
        if len(rows) < 2 or not (moving := sample.std(axis=0) > 0).any():
            return None
        middle, deviation = sample.mean(axis=0), np.where(moving, sample.std(axis=0), 1.0)
        read = _features((sample - middle) / deviation, _numbers(dataset, rows))
        if len(rows) < ROWS_A_NUMBER * read.shape[1]:
            return None
        steps = (dataset.observations[rows + 1] - sample) / deviation
        weights = _fitted(read, steps)
        usual = np.maximum(np.quantile(np.abs(steps - read @ weights), 0.99, axis=0), FLOOR)
        middle, deviation, weights, usual = (part.astype(np.float32) for part in (middle, deviation, weights, usual))
        return cls(middle=middle, deviation=deviation, moving=moving, weights=weights, usual=usual)

    def leaps(self, dataset: Dataset) -> np.ndarray:
        """Return the rows, inside episodes, whose next row is far from what the model predicts."""
        inner, found = inside(dataset), []
        for rows in blocks(dataset):
            some = rows.start + np.flatnonzero(inner[rows])
            found.append(some[self._far(dataset, some, dataset.observations[some + 1])])
        return np.concatenate(found)

    def final_leaps(self, dataset: Dataset) -> np.ndarray:
        """Return the ends of episodes whose `next_observations` are as far; none where the data have none."""
        ends = dataset.episode_ends - 1
        if dataset.next_observations is None:
            return ends[:0]
        parts = [ends[start : start + SAMPLE] for start in range(0, len(ends), SAMPLE)]
        return np.concatenate([part[self._far(dataset, part, dataset.next_observations[part])] for part in parts])

    def _far(self, dataset: Dataset, rows: np.ndarray, following: np.ndarray) -> np.ndarray:
        """Whether `following`, behind each row, is far from what the model predicts, in the middle dimension."""
        here, behind = ((part - self.middle) / self.deviation for part in (dataset.observations[rows], following))
        read = _features(here, _numbers(dataset, rows).astype(np.float32))
        off = np.abs(behind - here - read @ self.weights) / self.usual
        far = np.zeros(len(rows), bool)
        some = np.flatnonzero((off > LEAP).any(axis=1))
        far[some] = np.median(off[some][:, self.moving], axis=1) > LEAP
        return far


def misplaced_actions(dataset: Dataset) -> int | None:
    """Return s, -1 or 1, where the action of a row looks like that of row + s; None where it does not.

    An action shows in how the observation changes: with the two observations around it, a linear model explains it.
    Where it explains the observations around a neighbouring row far better, it belongs there. A policy that reads the
    observation explains nothing here, as the observation of the row is among both.
    """
    rows = spread_rows(dataset, SAMPLE, before=1, after=2)
    if len(rows) < 2:  # no episode is long enough to tell
        return None
    taken = _numbers(dataset, rows)
    taken = taken - taken.mean(axis=0)
    left = {shift: _unexplained(dataset, rows + shift, taken) for shift in (-1, 0, 1)}
    shift = min((-1, 1), key=lambda one: left[one])
    strong = left[shift] < 0.1 * left[0]
    return shift if strong or (left[0] > 0.9 and left[shift] < 0.6) else None


def _unexplained(dataset: Dataset, rows: np.ndarray, taken: np.ndarray) -> float:
    """Return the share of the actions' variance that the observations around `rows` leave unexplained."""
    here = dataset.observations[rows].astype(np.float64)
    steps = dataset.observations[rows + 1] - here
    here, steps = ((part - part.mean(axis=0)) / np.maximum(part.std(axis=0), 1e-12) for part in (here, steps))
    read = _features(here, steps)
    rest = taken - read @ _fitted(read, taken)
    return float((rest**2).sum() / max((taken**2).sum(), 1e-12))


def _fitted(read: np.ndarray, told: np.ndarray) -> np.ndarray:
    """Least squares, with a breath of ridge for numbers that say the same twice (cosine and sine)."""
    square = read.T @ read
    return np.linalg.solve(square + 1e-9 * np.trace(square) * np.eye(len(square)), read.T @ told)


def _numbers(dataset: Dataset, rows: np.ndarray) -> np.ndarray:
    """Actions as numbers: components, or one column for each choice but the first."""
    if dataset.discrete:
        return (dataset.actions[rows, None] == np.arange(1, dataset.action_dim)).astype(np.float64)
    return dataset.actions[rows].astype(np.float64)


def _features(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return 1, the numbers, and their products or squares, a row each."""
    numbers = np.concatenate([one, other], axis=1)
    if numbers.shape[1] <= PRODUCTS:
        left, right = np.triu_indices(numbers.shape[1])
        more = numbers[:, left] * numbers[:, right]
    else:
        more = numbers**2
    return np.concatenate([np.ones((len(numbers), 1), numbers.dtype), numbers, more], axis=1)
