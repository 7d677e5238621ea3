"""Rows in which an environment did nothing but begin anew, as Gymnasium's vector environments record them.

By default (`AutoresetMode.NEXT_STEP`) the step behind an end takes an action and ignores it, earns 0, and goes from the
final observation to the next episode's first one. Recorded as it comes, each episode begins with such a row.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from foretell.datasets.dataset import Dataset
from foretell.datasets.findings import Finding, distance, error, numbers, place, some_rows, spread_rows

SAMPLE = 2_000
"""Ends, and steps within episodes, that are looked at."""
ENOUGH = 3
"""Fewer ends tell nothing."""
SHARE = 0.5
"""Of the ends behind which an episode goes on, where several environments lie one behind the other: theirs does not."""
ALMOST_ALL = 0.9
"""Of the first rows that go on from the last one, those that are alike: all of them, in data that begin so."""
LEAP = 0.95
"""A step leaps that is larger than this part of those within episodes."""
RARELY = 0.05
"""Where at most so many of the other timesteps earn exactly 0, first rows that do need not leap."""


def resets(dataset: Dataset) -> Iterator[Finding]:
    """First rows of episodes that belong to none: they go on from the last one's end, earn nothing, and leap, or are
    alone in earning nothing."""
    first = _followed(dataset)
    within = spread_rows(dataset, SAMPLE, before=1)
    if len(dataset.observation_shape) != 1 or len(first) < ENOUGH or len(within) == 0:
        return
    last, here, behind = numbers(dataset, first - 1), numbers(dataset, first), numbers(dataset, first + 1)
    before, after = numbers(dataset, within), numbers(dataset, within + 1)
    deviation = np.maximum(np.concatenate([before, here]).std(axis=0), 1e-12)
    steps, alone = distance(before, after, deviation), np.mean(dataset.rewards[within] == 0) <= RARELY
    following = dataset.next_observations
    if following is None:
        goes_on = distance(last, here, deviation) <= (steps.max() if alone else np.quantile(steps, LEAP))
    else:
        goes_on = (following[first - 1] == dataset.observations[first]).all(axis=1)
    leaps = distance(here, behind, deviation) > np.quantile(steps, LEAP)
    alike = goes_on & (leaps | alone) & (dataset.rewards[first] == 0)
    if goes_on.mean() < SHARE or alike.sum() < max(ENOUGH, ALMOST_ALL * goes_on.sum()):
        return
    row = int(first[np.argmax(alike)])
    yield error("resets", f"the row at {place(dataset, row)} is no timestep: it goes on from the end of the episode "
                "before, earns 0, and leads to where this one begins; so do most episodes' first rows. Gymnasium's "
                "vector environments record them so, in a step that only resets, whose action is ignored. Leave out "
                "the row behind each end: of each environment, keep = numpy.append(True, ~ends[:-1]).")  # fmt: skip


def _followed(dataset: Dataset) -> np.ndarray:
    """Return first rows of episodes behind another one, of those that have a second row; at most `SAMPLE`."""
    return some_rows(dataset.episode_starts[1:][dataset.episode_lengths[1:] > 1], SAMPLE)
