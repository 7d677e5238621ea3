"""Means, intervals and ranks of returns that lie in a matrix `returns[seed, start]`; reward units throughout."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from foretell.core.decimals import counted
from foretell.core.errors import UsageError

BOOTSTRAP_SAMPLES = 10_000
"""Resamples of an interval that is printed, unless a protocol says otherwise."""
FIGURE_BOOTSTRAP_SAMPLES = 2_000
"""Enough for an interval that is drawn."""
CELLS = 4_000_000
"""Numbers of resamples that lie in memory at a time as more than counts."""
LEVEL = 0.95
"""Every printed interval holds this share of the bootstrap distribution."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A value and the ends of its 95% interval, in the units of what was measured."""

    value: float
    low: float
    high: float


def estimate_mean(
    returns: Float[np.ndarray, "seeds starts"], *, samples: int, generator: np.random.Generator
) -> Estimate:
    r"""Mean of all episodes with its 95% two-way percentile-bootstrap interval.

    Training seeds and start states are two crossed sources of chance, so both are resampled, each with replacement and
    independently of the other: $\bar x^* = \frac{1}{SN} \sum_{s,n} u_s v_n x_{sn}$ with multinomial counts $u, v$
    (the pigeonhole bootstrap: Owen 2007, "The pigeonhole bootstrap", Annals of Applied Statistics 1(2)). The ends are
    the 2.5% and 97.5% quantiles of `samples` such means. With one seed only the start states are resampled: the
    interval then says nothing about other seeds.

    Raises `UsageError` where `returns` is empty, not a matrix, or holds NaN or infinity.

    >>> estimate_mean(np.full((2, 3), -150.0), samples=100, generator=np.random.default_rng(0))
    Estimate(value=-150.0, low=-150.0, high=-150.0)
    """
    returns = _checked(returns, "returns")
    of_seeds = resampled(returns.shape[0], samples, generator)
    of_starts = resampled(returns.shape[1], samples, generator)
    return estimate_of(returns.mean(), _weighted_means(returns, of_seeds, of_starts), np.abs(returns).max())


def estimate_difference(
    returns: Float[np.ndarray, "seeds starts"],
    reference: Float[np.ndarray, "reference_seeds starts"],
    *,
    samples: int,
    generator: np.random.Generator,
    same_seeds: bool = False,
) -> Estimate:
    """Mean of `returns` minus mean of `reference` over the same start states, with its 95% bootstrap interval.

    Column n of both matrices is the same start state, so every resample takes the same columns from both: what the
    start states do to both policies cancels. The seeds of the two are resampled independently of each other; where row
    n of both is the same network (`same_seeds`), asked for something else, together as well.

    Raises `UsageError` where the numbers of start states disagree, of seeds where these are the same, or as
    `estimate_mean` does.
    """
    returns, reference = _checked(returns, "returns"), _checked(reference, "reference")
    if returns.shape[1] != reference.shape[1]:
        raise UsageError(
            f"returns has {counted(returns.shape[1], 'start state')}, reference has {reference.shape[1]:,}; expected "
            "the same ones, in the same order. Evaluate both policies on one list of start states."
        )
    if same_seeds and len(returns) != len(reference):
        raise UsageError(
            f"returns has {counted(len(returns), 'seed')}, reference has {len(reference)}; expected the same ones."
        )
    of_starts = resampled(returns.shape[1], samples, generator)
    of_seeds = resampled(returns.shape[0], samples, generator)
    ours = _weighted_means(returns, of_seeds, of_starts)
    if not same_seeds:
        of_seeds = resampled(reference.shape[0], samples, generator)
    theirs = _weighted_means(reference, of_seeds, of_starts)
    largest = max(np.abs(returns).max(), np.abs(reference).max())
    return estimate_of(returns.mean() - reference.mean(), ours - theirs, largest)


def interquartile_mean(values: Float[np.ndarray, " runs"]) -> float:
    r"""Mean of the middle half of `values`: a quarter of the mass is cut off at either end.

    After Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice". Their code cuts
    whole values (as SciPy's `trim_mean`); here trimming is fractional, so that it cuts exactly a quarter for any
    count: sorted value i holds the mass $[i/n, (i+1)/n]$ and is weighted by its overlap with $[1/4, 3/4]$. Of five
    values the weights are 0, 0.3, 0.4, 0.3, 0; where n divides by four both definitions agree.

    Raises `UsageError` where `values` is empty or holds NaN or infinity.

    >>> interquartile_mean(np.array([-900.0, -160.0, -150.0, -140.0, -10.0]))
    -150.0
    >>> interquartile_mean(np.array([1.0, 2.0, 4.0, 100.0]))
    3.0
    """
    ordered = np.sort(_checked(np.atleast_2d(values), "values")[0])
    edges = np.clip(np.arange(ordered.size + 1) / ordered.size, 0.25, 0.75)
    weights = np.diff(edges) / 0.5
    return round(math.fsum(weights * ordered), 12)  # not a BLAS's sum, whose last bit is the processor's


def spearman(asked: Float[np.ndarray, " targets"], achieved: Float[np.ndarray, " targets"]) -> float:
    """Spearman's rank correlation in [-1, 1]; equal values share their mean rank; NaN where it is undefined.

    Pearson's correlation of the ranks (Spearman 1904). 1 says that asking for more always brought more. Undefined
    are fewer than two points, and values that are all equal.

    Raises `UsageError` where the lengths disagree or a value is NaN or infinite.

    >>> spearman(np.array([-900.0, -500.0, -200.0]), np.array([-880.0, -490.0, -210.0]))
    1.0
    """
    if len(asked) != len(achieved):
        raise UsageError(
            f"spearman got {len(asked)} asked and {len(achieved)} achieved returns; expected as many of each."
        )
    if len(asked) < 2:
        return float("nan")
    first, second = (_ranks(_checked(np.atleast_2d(values), "returns")[0]) for values in (asked, achieved))
    first, second = first - first.mean(), second - second.mean()
    scale = np.sqrt((first @ first) * (second @ second))
    return round(float(first @ second / scale), 12) if scale > 0 else float("nan")


def _ranks(values: np.ndarray) -> np.ndarray:
    """Return ranks from 0; `below + (equal - 1) / 2` is the mean rank of the values that are equal."""
    ordered = np.sort(values)
    below, through = np.searchsorted(ordered, values, side="left"), np.searchsorted(ordered, values, side="right")
    return (below + through - 1) / 2


def resampled(count: int, samples: int, generator: np.random.Generator) -> np.ndarray:
    """Return `(samples, count)` whole numbers: how often each of `count` things was drawn, of `count` draws a row.

    Draws that are counted are multinomial, in a third of the time.
    """
    found = np.empty((samples, count), np.uint16 if count < 1 << 16 else np.uint32)
    for rows in _blocks(samples, count):
        drawn = generator.integers(count, size=(len(found[rows]), count))
        drawn += count * np.arange(len(drawn))[:, None]
        found[rows] = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape)
    return found


def _weighted_means(returns: np.ndarray, of_seeds: np.ndarray, of_starts: np.ndarray) -> np.ndarray:
    """Return the mean of each resample: rows are weighted by how often each seed and each start was drawn."""
    seeds, starts = returns.shape
    means = np.empty(len(of_starts))
    for rows in _blocks(*of_starts.shape):
        means[rows] = np.sum((of_seeds[rows] / seeds @ returns) * (of_starts[rows] / starts), axis=1)
    return means


def _blocks(samples: int, count: int) -> list[slice]:
    """Return slices of the resamples, as many together as memory is small for."""
    rows = max(1, CELLS // count)
    return [slice(first, first + rows) for first in range(0, samples, rows)]


def estimate_of(value: float, resamples: np.ndarray, largest: float) -> Estimate:
    """Return an estimate, rounded far below what is printed, but above the last bits of the `largest` number in it.

    Those of a matrix product differ between machines.
    """
    tail = (1 - LEVEL) / 2
    digits = 9 if largest == 0 else max(9, 11 - math.floor(math.log10(largest)))
    # Adding 0.0 turns a rounded -0.0 into 0.0.
    low, high = (round(float(end), digits) + 0.0 for end in np.quantile(resamples, [tail, 1 - tail]))
    return Estimate(value=round(float(value), digits) + 0.0, low=low, high=high)


def _checked(values: np.ndarray, what: str) -> np.ndarray:
    values = np.asarray(values, np.float64)
    if values.ndim != 2 or values.size == 0:
        raise UsageError(f"{what} has shape {values.shape}; expected (seeds, starts) with at least one of each.")
    if not np.isfinite(values).all():
        seed, start = np.argwhere(~np.isfinite(values))[0]
        raise UsageError(
            f"{what} holds {values[seed, start]} at [{seed}, {start}]; expected finite numbers. "
            "Evaluate that policy again."
        )
    return values
