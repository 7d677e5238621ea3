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
LEAP, FARTHER = 0.95, 2.0
"""A step leaps that is larger than this part of those within episodes. By the median, first steps are so many times as
large as others (2.7 to 17 in random play of five environments; about 1 where a recording was cut in pieces)."""
RARELY = 0.05
"""Where at most so many of the other timesteps earn exactly 0, not each first row that does has to leap."""


def resets(dataset: Dataset) -> Iterator[Finding]:
    """First rows of episodes that belong to none: they go on from the last one's end, earn nothing, and lead far."""
    first = _followed(dataset)
    within = spread_rows(dataset, SAMPLE, before=1)
    if len(dataset.observation_shape) != 1 or len(first) < ENOUGH or len(within) == 0:
        return
    last, here, behind = numbers(dataset, first - 1), numbers(dataset, first), numbers(dataset, first + 1)
    before, after = numbers(dataset, within), numbers(dataset, within + 1)
    deviation = np.maximum(np.concatenate([before, here]).std(axis=0), 1e-12)
    inside, across = distance(before, after, deviation), distance(last, here, deviation)
    lead = distance(here, behind, deviation)
    if np.median(lead) < FARTHER * np.median(inside) or (here == here[0]).all():  # one final state is a start as well
        return
    rare = np.mean(dataset.rewards[within] == 0) <= RARELY
    if (following := dataset.next_observations) is not None:
        goes_on = (following[first - 1] == dataset.observations[first]).all(axis=1)
    else:
        goes_on = across <= (inside.max() if rare else np.quantile(inside, LEAP))
    earns_nothing = dataset.rewards[first] == 0
    alike = goes_on & earns_nothing & (rare | (lead > np.quantile(inside, LEAP)))
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
