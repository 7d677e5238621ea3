"""Means over tasks with their intervals: seeds and start states are resampled within each task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from foretell.core.seeding import stream
from foretell.reporting.statistics import Estimate, estimate_of, resampled


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """What one method earned on one task, as normalised scores."""

    environment: str
    """Tasks of one environment share its start states."""
    networks: str
    """Whose networks act: of those that act on several tasks the same seeds are drawn."""
    scores: Float[np.ndarray, "seeds starts"]


@dataclass(frozen=True, kw_only=True)
class SuiteEstimate:
    """A method over all tasks, in units of the score; `difference` is that of its mean to the first method's."""

    mean: Estimate
    iqm: Estimate
    difference: Estimate


def estimate_suite(methods: Sequence[Sequence[Sample]], *, samples: int, root_seed: int) -> list[SuiteEstimate]:
    r"""Estimate each method over its tasks; task i is the same of all methods.

    The mean is over tasks of each task's mean; the interquartile mean pools the means of all training seeds on all
    tasks, each task with the same weight (Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the
    Statistical Precipice", section 4.3). Their intervals are 95% percentile-bootstrap intervals, stratified: in every
    resample seeds and start states of each task are drawn anew, as in `statistics.estimate_mean`, the tasks stay. The
    start states drawn in an environment are the same for all methods and tasks there, so that what they do to two
    methods cancels in the difference.
    """
    names = list(dict.fromkeys(one.environment for method in methods for one in method))
    of_starts = {}
    for number, name in enumerate(names):
        starts = next(one.scores.shape[1] for method in methods for one in method if one.environment == name)
        of_starts[name] = resampled(starts, samples, stream(root_seed, f"suite/starts/{number}"))
    found = []
    of_seeds: dict[str, np.ndarray] = {}
    for one in (one for method in methods for one in method):
        if one.networks not in of_seeds:
            generator = stream(root_seed, f"suite/seeds/{len(of_seeds)}")
            of_seeds[one.networks] = resampled(len(one.scores), samples, generator)
    for method in methods:
        points = [np.mean(one.scores, axis=1)[None] for one in method]
        same = [np.full(point.shape, 1 / point.size) for point in points]
        means = [of_starts[one.environment] / one.scores.shape[1] @ one.scores.T for one in method]
        weights = [of_seeds[one.networks] / len(one.scores) for one in method]
        largest = max(float(np.abs(one.scores).max()) for one in method)
        value = float(_means(points, same)[0])
        found.append((value, _means(means, weights), largest, _middle(points, same)[0], _middle(means, weights)))
    first, first_means, first_largest = found[0][:3]
    return [
        SuiteEstimate(
            mean=estimate_of(value, means, largest),
            iqm=estimate_of(middle, middles, largest),
            difference=estimate_of(value - first, means - first_means, max(largest, first_largest)),
        )
        for value, means, largest, middle, middles in found
    ]


def _means(values: Sequence[np.ndarray], weights: Sequence[np.ndarray]) -> np.ndarray:
    """Return the mean over tasks of each resample's mean over seeds, from `(samples, seeds)` of each task."""
    return np.mean([np.sum(one * weight, axis=1) for one, weight in zip(values, weights, strict=True)], axis=0)


def _middle(values: Sequence[np.ndarray], weights: Sequence[np.ndarray]) -> np.ndarray:
    """Return the interquartile mean of each resample over tasks and seeds: the middle half of the mass."""
    pooled, mass = np.concatenate(values, axis=1), np.concatenate(weights, axis=1) / len(values)
    order = np.argsort(pooled, axis=1, kind="stable")
    ends = np.cumsum(np.take_along_axis(mass, order, axis=1), axis=1)
    inside = np.diff(np.clip(ends, 0.25, 0.75), axis=1, prepend=0.25)
    return np.sum(np.take_along_axis(pooled, order, axis=1) * inside, axis=1) / 0.5
