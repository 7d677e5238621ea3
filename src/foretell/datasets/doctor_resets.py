"""Rows in which an environment did nothing but begin anew, as Gymnasium's vector environments record them.

By default (`AutoresetMode.NEXT_STEP`) the step behind an end takes an action and ignores it, earns 0, and goes from the
final observation to the next episode's first one. Recorded as it comes, each episode begins with such a row.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator

import numpy as np

from foretell.datasets.dataset import Dataset
from foretell.datasets.doctor_episodes import are_choices
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


NEW = 0.5
"""Where more of the steps within episodes than this lead where no other one does, it tells nothing of a first one."""
NEW_ENDS = 20
"""Fewer first rows that lead where no other step does may do so by chance."""
APART = 0.25
"""Where rewards of 0 are rare, so many more of the first rows than of others have to lead where no other step does: by
right some begin where an episode may pass."""
LOOKED_AT = 500
"""Ends, and steps within episodes, whose whole images are held against each other, number by number."""


def resets(dataset: Dataset) -> Iterator[Finding]:
    """First rows of episodes that belong to none: they go on from the last one's end, earn nothing, and lead far."""
    first, within = _followed(dataset, SAMPLE), spread_rows(dataset, SAMPLE, before=1)
    vectors = len(dataset.observation_shape) == 1
    alike = (_far_vectors if vectors and not are_choices(dataset) else _new_steps)(dataset, first, within)
    if alike is None and not vectors:
        first, within = _followed(dataset, LOOKED_AT), spread_rows(dataset, LOOKED_AT, before=1)
        alike = _far_images(dataset, first, within)
    if alike is None:
        return
    row = int(first[np.argmax(alike)])
    yield error("resets", f"the row at {place(dataset, row)} is no timestep: it goes on from the end of the episode "
                "before, earns 0, and leads to where this one begins; so do most episodes' first rows. Gymnasium's "
                "vector environments record them so, in a step that only resets, whose action is ignored. Leave out "
                "the row behind each end: of each environment, keep = numpy.append(True, ~ends[:-1]).")  # fmt: skip


def _far_vectors(dataset: Dataset, first: np.ndarray, within: np.ndarray) -> np.ndarray | None:
    """Return which of the `first` rows only reset, by how far they lead; None where too few do."""
    if len(first) < ENOUGH or len(within) == 0:
        return None
    last, here, behind = numbers(dataset, first - 1), numbers(dataset, first), numbers(dataset, first + 1)
    before, after = numbers(dataset, within), numbers(dataset, within + 1)
    deviation = np.maximum(np.concatenate([before, here]).std(axis=0), 1e-12)
    inside, across = distance(before, after, deviation), distance(last, here, deviation)
    lead = distance(here, behind, deviation)
    if np.median(lead) < FARTHER * np.median(inside) or (here == here[0]).all():  # one final state is a start as well
        return None
    rare = _zero_is_rare(dataset, within)
    if (following := dataset.next_observations) is not None:
        goes_on = (following[first - 1] == dataset.observations[first]).all(axis=1)
    else:
        goes_on = across <= (inside.max() if rare else np.quantile(inside, LEAP))
    return _enough(dataset, first, goes_on, rare | (lead > np.quantile(inside, LEAP)))


def _new_steps(dataset: Dataset, first: np.ndarray, within: np.ndarray) -> np.ndarray | None:
    """The same of observations that come again, as those of gridworlds: which lead where no step within an episode
    does; None as well where observations do not come again, or what follows is not recorded."""
    if len(first) < NEW_ENDS or len(within) == 0 or dataset.next_observations is None:
        return None
    steps = Counter(_step(dataset, row) for row in within)
    new_within = sum(count == 1 for count in steps.values()) / len(within)
    if new_within > NEW or len({_step(dataset, row)[0] for row in first}) == 1:
        return None
    new = np.array([_step(dataset, row) not in steps for row in first])
    rare = _zero_is_rare(dataset, within) and new.mean() >= new_within + APART
    return _enough(dataset, first, _goes_on(dataset, first), new | rare, least=NEW_ENDS)


def _far_images(dataset: Dataset, first: np.ndarray, within: np.ndarray) -> np.ndarray | None:
    """The same of images that do not come again: which lead to another picture."""
    if len(first) < ENOUGH or len(within) == 0 or dataset.next_observations is None:
        return None
    lead, inside = (np.array([_change(dataset, row) for row in rows]) for rows in (first, within))
    if np.median(lead) <= FARTHER * np.median(inside) or len({_step(dataset, row)[0] for row in first}) == 1:
        return None
    leaps = _zero_is_rare(dataset, within) | (lead > np.quantile(inside, LEAP))
    return _enough(dataset, first, _goes_on(dataset, first), leaps)


def _enough(
    dataset: Dataset, first: np.ndarray, goes_on: np.ndarray, leaps: np.ndarray, *, least: int = ENOUGH
) -> np.ndarray | None:
    """Return which rows go on from the episode before, earn nothing and leap; None where that is no rule."""
    alike = goes_on & (dataset.rewards[first] == 0) & leaps
    return None if goes_on.mean() < SHARE or alike.sum() < max(least, ALMOST_ALL * goes_on.sum()) else alike


def _zero_is_rare(dataset: Dataset, within: np.ndarray) -> bool:
    return bool(np.mean(dataset.rewards[within] == 0) <= RARELY)


def _goes_on(dataset: Dataset, first: np.ndarray) -> np.ndarray:
    """Whether each of these rows is the observation that the one before leads to, to the last bit."""
    following = dataset.next_observations
    assert following is not None
    return np.array([np.array_equal(following[row - 1], dataset.observations[row]) for row in first])


def _step(dataset: Dataset, row: int) -> tuple[bytes, bytes]:
    """Return what stands for the observation of a row, and for the next one."""
    here, behind = (
        hashlib.blake2b(dataset.observations[one].tobytes(), digest_size=8).digest() for one in (row, row + 1)
    )
    return here, behind


def _change(dataset: Dataset, row: int) -> float:
    """Return the root mean square of what changes from an image to the next."""
    before, after = (dataset.observations[one].astype(np.float32) for one in (row, row + 1))
    return float(np.sqrt(np.mean((after - before) ** 2, dtype=np.float64)))


def _followed(dataset: Dataset, most: int) -> np.ndarray:
    """Return first rows of episodes behind another one, of those that have a second row; at most `most`."""
    return some_rows(dataset.episode_starts[1:][dataset.episode_lengths[1:] > 1], most)
