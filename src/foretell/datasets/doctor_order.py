"""Whether rows lie in the order in which they were recorded, where no `next_observations` tell.

What follows from each other is close: in an ordered recording observations one timestep apart differ less than any
two. Where they do not, rows were mixed: as those of environments that were stepped side by side, or by a shuffle.
Honest white noise, as bandits see it, looks almost the same, and is told apart by what a shuffle does to the rest
(`_shuffled`). Images are not looked at.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from foretell.datasets.dataset import Dataset
from foretell.datasets.findings import Finding, distance, numbers, place, some_rows, spread, spread_rows, warning

SAMPLE = 2_000
"""Pairs of rows that are looked at for each distance between them."""
ENOUGH = 200
"""Fewer pairs tell nothing."""
SIDE_BY_SIDE = 64
"""Up to so many environments, stepped side by side, are looked for."""
MIXED, FEW = 0.6, 0.1
"""Rows of which a larger share of the numbers is nearer than so, in parts of how far any two rows are apart, follow
from each other. Measured on random play of 23 environments, 600 to 800 timesteps of each: in order, but for one-hot
observations, the nearest number stays below 0.45; where 2 to 16 are mixed, a quarter of the numbers is above 0.65."""
MOVING = 0.2
"""Numbers are looked at that differ between so many of any two rows: of flags rarely set, a sample tells little."""
NEARER, FARTHEST = 0.5, 1.5
"""Environments side by side: rows n apart are nearer than so, in parts of what rows of other distances are apart, and
those no farther than any two rows: what alternates, as the colours of two players do, is farther."""
TOLD = 0.7
"""Correlation with the next row from which on it is told by this one, as in a gait that repeats every n timesteps."""
GROWS = 1.1
"""Rows 2n apart are farther than rows n apart by this factor, or it is a period of the recording itself."""
WHITE = 0.8
"""As `MIXED`, of shuffled rows."""
RELATED = 0.3
"""Correlation, of two numbers or their squares, from which on an observation is more than independent noise."""
MEMORYLESS = (0.75, 1.3)
"""Deviation of the episode lengths, in parts of their mean, where ends lie at random, as after a shuffle: near 1."""
EPISODES = 20
"""Episodes needed to tell so."""
BETWEEN = -0.5
"""Cosine between the ways to the two nearest rows, on average, that makes a curve: neighbours before and behind. It is
0 for noise of one number (with 128 rows, deviation 0.06) and higher for more."""
ASKED, SEARCHED = 128, 50_000
"""Rows whose nearest ones are searched for, among at most so many."""
TERMINATIONS, INSIDE, RUN_ON = 20, 0.95, 0.5
"""Terminations needed; the part of the steps within episodes that a step across one must not exceed; and the share of
the terminations at which that is so."""


def order(dataset: Dataset) -> Iterator[Finding]:
    """Rows that were mixed: of several environments, timestep by timestep, or shuffled."""
    if dataset.next_observations is not None or len(dataset.observation_shape) != 1:
        return
    rows = spread_rows(dataset, SAMPLE)
    if len(rows) < ENOUGH:
        return
    apart = _Apart(dataset, rows)
    if (near := apart.by(1)) is None or np.mean(near < MIXED) > FEW:
        return
    if count := _side_by_side(apart):
        yield warning("order", f"observations {count} rows apart go on from each other, and those one row apart do not "
                      f"(first: {place(dataset, 0)}, and the next). Were {count} environments stepped side by side? Of "
                      "every array, swap the first two axes before flattening, so that each one's rows lie together: "
                      "array.swapaxes(0, 1).reshape(-1, *array.shape[2:]).")  # fmt: skip
        return
    near_as_any = np.quantile(near, FEW) > WHITE and np.quantile(near, 1 - FEW) < 1 / WHITE
    if near_as_any and (why := _shuffled(dataset, apart.here)):
        yield warning("order", "observations one row apart are as far from each other as any two (first: "
                      f"{place(dataset, int(rows[0]))}, and the next), {why}. Were rows shuffled? Then keep them in "
                      "the order of recording. If observations are noise by right, this says nothing.")  # fmt: skip


class _Apart:
    """How far rows of one episode, some timesteps apart, are from each other: 1 is as far as any two."""

    def __init__(self, dataset: Dataset, rows: np.ndarray) -> None:
        self.dataset = dataset
        here, behind = numbers(dataset, rows), numbers(dataset, rows + 1)
        steps = np.abs(here - behind[_mixed(len(rows))])
        self.moving = np.mean(steps > 0, axis=0) >= MOVING
        self.here, self.behind = here[:, self.moving], behind[:, self.moving]
        self.most = np.quantile(steps[:, self.moving], 1 - FEW, axis=0)
        self.usual = np.minimum(steps[:, self.moving], self.most).mean(axis=0)
        self.known: dict[int, np.ndarray | None] = {}

    def by(self, timesteps: int) -> np.ndarray | None:
        """Return it for each number that moves; None where none does, or too few episodes are so long."""
        if timesteps not in self.known:
            rows = spread_rows(self.dataset, SAMPLE, after=timesteps)
            self.known[timesteps] = None
            if len(rows) >= ENOUGH and self.moving.any():
                steps = np.abs(numbers(self.dataset, rows + timesteps) - numbers(self.dataset, rows))
                self.known[timesteps] = np.minimum(steps[:, self.moving], self.most).mean(axis=0) / self.usual
        return self.known[timesteps]


def _side_by_side(apart: _Apart) -> int | None:
    """Return how many environments take turns, row by row; None where none do."""
    near = apart.by(1)
    if near is None or _correlation(apart.here, apart.behind) > TOLD:
        return None
    lags = [near]
    for count in range(2, SIDE_BY_SIDE + 1):
        same, after, twice = apart.by(count), apart.by(count + 1), apart.by(2 * count)
        if same is None or after is None or twice is None:
            return None
        others = np.stack([*lags, after])
        mixed = (others.min(axis=0) >= MIXED) & (others.max(axis=0) <= FARTHEST)
        if np.mean(mixed & (same < NEARER * others.min(axis=0)) & (twice > GROWS * same)) >= FEW:
            return count
        lags.append(same)
    return None


def _shuffled(dataset: Dataset, sample: np.ndarray) -> str:
    """Say what tells that rows were shuffled and never were noise; nothing where nothing does.

    Either rows lie between two others, as on the curve that an ordered recording draws; or the numbers of an
    observation are related to each other, and episodes end at random, whereas those of noise usually have one length.
    """
    if sample.shape[1] < 2 or len(np.unique(sample, axis=0)) < len(sample) / 2:  # choices, or a single number
        return ""
    if dataset.num_steps <= SEARCHED and (found := _between(dataset)):
        row, before, behind = (place(dataset, one) for one in found)
        return f"and yet each lies between two others, that of {row} between those of {before} and {behind}"
    lengths = dataset.episode_lengths
    if len(lengths) < EPISODES or not MEMORYLESS[0] < lengths.std() / lengths.mean() < MEMORYLESS[1]:
        return ""
    ranks = sample.argsort(axis=0).argsort(axis=0) - (len(sample) - 1) / 2  # a few large numbers must not tell
    related = max(_correlation(part, part, own=False) for part in (ranks, ranks**2))
    return "and episodes end at random" if related > RELATED else ""


def _correlation(ones: np.ndarray, others: np.ndarray, *, own: bool = True) -> float:
    """Return the largest correlation, plus or minus, of a column with another one's; with its `own` only if asked."""
    ones, others = ((part - part.mean(axis=0)) / np.maximum(part.std(axis=0), 1e-12) for part in (ones, others))
    found = np.abs(ones.T @ others) / len(ones)
    return float((found if own else np.triu(found, k=1)).max(initial=0))


def _between(dataset: Dataset) -> tuple[int, int, int] | None:
    """Return a row and the two nearest to it, between which it lies, where most lie so; None where they do not."""
    values = numbers(dataset, np.arange(dataset.num_steps))
    deviation = values.std(axis=0)
    values = ((values - values.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0))[:, deviation > 0]
    asked = spread(len(values), ASKED)
    squares = (values**2).sum(axis=1)
    gaps = squares[asked, None] + squares - 2 * values[asked] @ values.T
    gaps[gaps < 1e-9] = np.inf  # itself, and what equals it
    nearest = np.argpartition(gaps, 2, axis=1)[:, :2]
    one, other = (values[nearest[:, side]] - values[asked] for side in (0, 1))
    cosine = (one * other).sum(axis=1) / np.sqrt((one**2).sum(axis=1) * (other**2).sum(axis=1))
    best = int(np.argmin(cosine))
    return (int(asked[best]), int(nearest[best, 0]), int(nearest[best, 1])) if cosine.mean() < BETWEEN else None


def terminations_run_on(dataset: Dataset) -> Iterator[Finding]:
    """Terminations after which the next episode goes on, as observations alone tell: a goal that ends nothing."""
    if dataset.next_observations is not None or len(dataset.observation_shape) != 1:
        return
    last = np.flatnonzero(np.asarray(dataset.terminations)[: dataset.num_steps - 1])
    if len(last) < TERMINATIONS:
        return
    rows = spread_rows(dataset, SAMPLE)
    if len(rows) < ENOUGH:
        return
    here = numbers(dataset, rows)
    deviation = np.maximum(here.std(axis=0), 1e-12)
    inside = np.quantile(distance(here, numbers(dataset, rows + 1), deviation), INSIDE)
    some = some_rows(last, SAMPLE)
    ends, starts = numbers(dataset, some), numbers(dataset, some + 1)
    across, elsewhere = distance(ends, starts, deviation), distance(ends, starts[_mixed(len(some))], deviation)
    runs_on = across <= inside
    if inside >= WHITE * elsewhere.mean() or across.mean() >= NEARER * elsewhere.mean() or runs_on.mean() < RUN_ON:
        return  # noise; or every start lies close to every end
    of = "" if len(some) == len(last) else f" that were looked at, of {len(last):,}"
    flagged = np.asarray(dataset.truncations)[:-1].any()
    mend = ("Where 'timeouts' alone say where episodes end, give --ends-at timeouts." if flagged else
            "Clear the flags that end nothing.")  # fmt: skip
    where = place(dataset, int(some[np.argmax(runs_on)]))
    yield warning("seams", f"after {np.count_nonzero(runs_on):,} of {len(some):,} terminations{of} the next episode "
                  f"goes on where the last one ended (first: {where}), in steps as small as those within episodes; "
                  "expected nothing after the task's own end. Does 'terminals' say that the goal is reached, and the "
                  f"episode goes on? {mend}")  # fmt: skip


def _mixed(count: int) -> np.ndarray:
    """Return the numbers below `count` in an order in which none is near its place, the same every time."""
    return np.argsort(np.arange(count) * (5**0.5 - 1) / 2 % 1)
