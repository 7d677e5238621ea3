"""What the doctor asks of episodes: where they end, whether they hold together, and how they differ."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np

from foretell.core.decimals import counted
from foretell.datasets.boundaries import ends_of
from foretell.datasets.dataset import Dataset
from foretell.datasets.findings import (
    Finding,
    blocks,
    deviation,
    distance,
    error,
    first,
    inside,
    numbers,
    place,
    some_rows,
    spread,
    spread_rows,
    warning,
)

FEW = 0.01
"""Up to this share of the timesteps, `next_observations` that disagree are breaks; beyond it the column is wrong."""
LEAP = 1.2
"""A step so many times larger than every step that agrees with `next_observations` joins two recordings."""
SAME = 1e-3
"""Differences up to this part of a dimension's deviation are rounding."""
FAR_ROWS = 2_000
"""Ends, and steps within episodes, that are held against each other."""
FAR, FAR_ENDS = 2.0, 3
"""By the median, steps from last observations to next starts are so many times as large as others, which are all alike
where one recording was cut (`doctor_resets.FARTHER`); fewer ends tell nothing."""
FAR_STEP, FAR_SHARE = 0.95, 0.5
"""So many of them are larger than this part of the others."""
CHOICES_ROWS = 10_000
"""Timesteps that are looked at to see whether observations are choices."""
LONG_FOR_CHANCE = 64
"""Episodes of so many choices do not repeat each other by chance."""
ENDLESS = 10_000
"""A single episode of so many timesteps is more often a recording without ends than an episode."""
COMPARED_ROWS = 200_000
"""Rows that may hold what single timesteps lead to."""
COUNTERS = ("timesteps", "timestep")
"""Names under which other programs count the timesteps of an episode."""


def flags(dataset: Dataset) -> Iterator[Finding]:
    """Ends that are not where the flags are, and timesteps with both flags."""
    flagged = ends_of(dataset.terminations, dataset.truncations)
    wrong = np.setxor1d(flagged, dataset.episode_ends)
    if len(wrong):
        yield error("flags", f"{place(dataset, int(wrong[0]) - 1)} is flagged as an end and is none, or the reverse; "
                    "expected a termination or truncation at exactly the last timestep of each episode.")  # fmt: skip
    both = np.flatnonzero(np.asarray(dataset.terminations) & np.asarray(dataset.truncations))
    if len(both):
        yield warning("flags", f"{counted(len(both), 'timestep')} {'is' if len(both) == 1 else 'are'} both termination "
                      f"and truncation (first: {place(dataset, int(both[0]))}); they count as "
                      "terminations.")  # fmt: skip


def seams(dataset: Dataset) -> Iterator[Finding]:
    """Episodes that do not hold together, or that hold together with the next one."""
    following = dataset.next_observations
    if following is None or dataset.num_steps < 2:
        return
    breaks, rounded = _breaks(dataset, following)
    if len(breaks):
        where = f"{place(dataset, int(breaks[0]))} is not the observation that follows"
        inner = dataset.num_steps - dataset.num_episodes
        leaps = _leaps(dataset, following, breaks)
        if len(breaks) > max(1, FEW * inner) and not rounded:
            flagged = dataset.num_episodes > 1  # else, without the column, what are several episodes would be one
            rest = ("Mend it, or leave it out." if flagged else "No end of an episode is flagged before the last "
                    "timestep: where they end at a time limit, say which (--horizon N).")  # fmt: skip
            yield error("transitions", f"next_observations at {where}, nor at {len(breaks) - 1} of {inner} other "
                        "timesteps; expected what was seen after the action. Is the column shifted, or are the rows "
                        f"not in the order of recording? {rest}")  # fmt: skip
        elif len(leaps):
            yield error("seams", f"observations at {place(dataset, int(leaps[0]) + 1)} do not go on from the timestep "
                        "before: next_observations there are others, and no other step is as large "
                        f"({counted(len(leaps), 'such place')}). Were two episodes joined, steps dropped, or a replay "
                        "ring not unrolled from its write head? Flag the end of the first one in "
                        "timeouts.")  # fmt: skip
        else:
            yield warning("transitions", f"next_observations at {where} ({counted(len(breaks), 'such timestep')}); "
                          "were steps dropped or shifted when recording?")  # fmt: skip
    yield from _cuts(dataset, following)


def _breaks(dataset: Dataset, following: np.ndarray) -> tuple[np.ndarray, bool]:
    """Rows whose `next_observations` is not the row that follows in the episode; whether all differ by rounding."""
    inner, found, rounded = inside(dataset), [], True
    tolerance: np.ndarray | None = None
    for rows in blocks(dataset):
        stop = min(rows.stop, dataset.num_steps - 1)
        here, there = following[rows.start : stop], dataset.observations[rows.start + 1 : stop + 1]
        differs = here != there
        differs = differs.reshape(len(here), int(np.prod(here.shape[1:]))).any(axis=1)
        differing = np.flatnonzero(differs & inner[rows.start : stop])
        if len(differing) == 0:
            continue
        found.append(rows.start + differing)
        if rounded:
            if tolerance is None:
                tolerance = SAME * deviation(dataset.observations)
            gap = np.abs(here[differing].astype(np.float64) - there[differing])
            rounded = bool((gap <= tolerance).all())
    return (np.concatenate(found) if found else np.zeros(0, np.int64)), rounded


def _leaps(dataset: Dataset, following: np.ndarray, breaks: np.ndarray) -> np.ndarray:
    """Of the breaks, those where the observation itself leaps, farther than any recorded step; images never do."""
    if len(dataset.observation_shape) != 1:
        return breaks[:0]
    largest = np.zeros(dataset.observation_shape)
    broken = np.zeros(dataset.num_steps, bool)
    broken[breaks] = True
    for rows in blocks(dataset):
        steps = np.abs(following[rows].astype(np.float64) - dataset.observations[rows])
        largest = np.maximum(largest, steps[~broken[rows]].max(axis=0, initial=0))
    steps = np.abs(dataset.observations[breaks + 1].astype(np.float64) - dataset.observations[breaks])
    return breaks[(steps > LEAP * largest).any(axis=1)]


def _cuts(dataset: Dataset, following: np.ndarray) -> Iterator[Finding]:
    """Ends after which the next episode goes on from the very same observation."""
    last = dataset.episode_ends[:-1] - 1
    starts = dataset.observations[last + 1].reshape(len(last), int(np.prod(dataset.observation_shape)))
    goes_on = (following[last].reshape(starts.shape) == starts).all(axis=1)
    if not goes_on.any():
        return
    _, index, times = np.unique(
        dataset.observations[dataset.episode_starts].reshape(dataset.num_episodes, starts.shape[1]),
        axis=0, return_inverse=True, return_counts=True,
    )  # fmt: skip
    goes_on &= times[index.reshape(-1)[1:]] == 1  # where episodes share their start, an end may lie there by right
    if _start_anew(dataset, rows := last[goes_on]):
        yield error("seams", f"next_observations at {place(dataset, int(rows[0]))} is where the next episode starts "
                    f"({len(rows)} such ends), farther away than the timestep before leads. Gymnasium's vector "
                    "environments return it there with AutoresetMode.SAME_STEP. Put the final observations in its "
                    'place, infos["final_obs"], or leave next_observations out.')  # fmt: skip
        return
    for ended, make, words in (
        (dataset.terminations[last], error, "terminations is True at {}, and the next episode goes on from there; "
         "expected nothing after the task's own end. Clear the flag, or move it to 'timeouts'; where these alone say "
         "where episodes end, give --ends-at timeouts. Rows that only reset, as Gymnasium's vector environments "
         "record them behind each end, are to be left out; next_observations that hold the next start, too."),
        (~np.asarray(dataset.terminations)[last], warning, "truncations is True at {}, and the next episode goes on "
         "from there; was one recording cut in two? Or does next_observations hold the next start, in the place of "
         "what was seen last?"),
    ):  # fmt: skip
        if len(rows := last[goes_on & ended]):
            yield make("seams", f"{words.format(place(dataset, int(rows[0])))} ({counted(len(rows), 'such place')})")


def _start_anew(dataset: Dataset, last: np.ndarray) -> bool:
    """Whether these last timesteps of episodes lead farther to the next start than steps within episodes go."""
    if len(dataset.observation_shape) != 1 or are_choices(dataset) or len(last) < FAR_ENDS:
        return False
    last, within = some_rows(last, FAR_ROWS), spread_rows(dataset, FAR_ROWS)
    if len(within) == 0:
        return False
    here, before = numbers(dataset, last), numbers(dataset, within)
    scale = np.maximum(np.concatenate([before, here]).std(axis=0), 1e-12)
    steps = distance(before, numbers(dataset, within + 1), scale)
    ends = distance(here, numbers(dataset, last + 1), scale)
    far = (ends > np.quantile(steps, FAR_STEP)).mean() >= FAR_SHARE
    return bool(far and np.median(ends) >= FAR * np.median(steps))


def timesteps(dataset: Dataset) -> Iterator[Finding]:
    """A column that counts timesteps in another way than the flags do."""
    columns = {name: dataset.extras[name] for name in COUNTERS if name in dataset.extras}
    columns |= {f"infos/{name}": dataset.infos[name] for name in COUNTERS if name in dataset.infos}
    for key, values in columns.items():
        counted = np.asarray(values).reshape(-1)
        if len(counted) != dataset.num_steps or counted.dtype.kind not in "iuf":
            yield warning("timesteps", f"{key} is {counted.dtype} of shape {values.shape}; expected one whole number a "
                          "timestep. It is not used.")  # fmt: skip
            continue
        begin = int(counted[0] == 1)
        row = first(dataset, lambda rows, c=counted, b=begin: c[rows] != _elapsed(dataset, rows) + b)
        if row is not None:
            expected = int(_elapsed(dataset, slice(row, row + 1))[0]) + begin
            yield warning("timesteps", f"{key} is {counted[row]} at {place(dataset, row)}; expected {expected}, "
                          "counting from each episode's start. It is not used: are the ends flagged where they "
                          "are?")  # fmt: skip


def _elapsed(dataset: Dataset, rows: slice) -> np.ndarray:
    """Timesteps since the start of their episode."""
    at = np.arange(rows.start, rows.stop)
    return at - dataset.episode_starts[np.searchsorted(dataset.episode_ends, at, side="right")]


def are_choices(dataset: Dataset) -> bool:
    """Whether observations are choices, one-hot, and actions are too, as in gridworlds: few enough that episodes begin
    alike, and short ones go alike, by right."""
    if not dataset.discrete or len(dataset.observation_shape) != 1:
        return False
    seen = np.asarray(some_rows(dataset.observations, CHOICES_ROWS))
    ones = (seen == 1).sum(1)
    one_hot = ((seen == 0) | (seen == 1)).all() and ones.min() == ones.max() >= 1
    return bool(one_hot)


def duplicates(dataset: Dataset) -> Iterator[Finding]:
    """Episodes that repeat earlier ones, bit for bit."""
    by_chance = dataset.episode_lengths < (LONG_FOR_CHANCE if are_choices(dataset) else 0)
    digests = np.empty(dataset.num_episodes, np.uint64)  # few bytes each: there can be millions
    columns = [np.ascontiguousarray(c) for c in (dataset.observations, dataset.actions, dataset.rewards)]
    for index, (start, end) in enumerate(zip(dataset.episode_starts, dataset.episode_ends)):
        digest = hashlib.blake2b(digest_size=8)
        for values in columns:
            digest.update(values[start:end].view(np.uint8).data)
        digests[index] = int.from_bytes(digest.digest(), "little")
    order = np.argsort(digests, kind="stable")
    twice = order[1:][np.diff(digests[order]) == 0]
    twice = twice[~by_chance[twice]]
    if len(twice):
        later = int(twice.min())
        earlier = int(np.argmax(digests == digests[later]))
        yield warning("duplicates", f"{counted(len(twice), 'episode')} {'repeats' if len(twice) == 1 else 'repeat'} "
                      f"earlier ones (episode {later} equals {earlier}).")  # fmt: skip


def starts(dataset: Dataset) -> Iterator[Finding]:
    """Episodes that were all seeded alike."""
    if are_choices(dataset):
        return
    found = dataset.observations[dataset.episode_starts]
    if len(found) > 1 and (found == found[:1]).all():
        yield warning("starts", f"observations: all {len(found)} episodes start from the same one; were they seeded "
                      "alike?")  # fmt: skip


def lengths(dataset: Dataset) -> Iterator[Finding]:
    """Episodes of one timestep, in which nothing follows from anything, and one that is all there is."""
    if dataset.num_episodes == 1 and dataset.num_steps >= ENDLESS:
        yield warning("lengths", f"all {dataset.num_steps:,} timesteps are one episode, and returns-to-go reach to its "
                      "end. Were terminations and timeouts lost when it was recorded? Where every episode had N "
                      "timesteps, or a termination before, a file is read with --horizon N.")  # fmt: skip
    single = np.flatnonzero(dataset.episode_lengths == 1)
    if len(single):
        yield warning("lengths", f"{counted(len(single), 'episode')} {'has' if len(single) == 1 else 'have'} a single "
                      f"timestep (first: episode {single[0]}).{_apart(dataset, single)}")  # fmt: skip


def _apart(dataset: Dataset, single: np.ndarray) -> str:
    """Say where most episodes are single timesteps, whose next observations are those of other rows."""
    rows = dataset.episode_starts[single]
    rows = rows[~np.asarray(dataset.terminations)[rows]]
    if dataset.next_observations is None or 2 * len(rows) < dataset.num_episodes:
        return ""
    looked_at = some_rows(dataset.observations, COMPARED_ROWS)
    known = {hash(one.tobytes()) for one in looked_at}
    following = dataset.next_observations[rows[spread(len(rows), FAR_ROWS)]]
    met = np.mean([hash(one.tobytes()) in known for one in following])
    if met <= FAR_SHARE * len(looked_at) / dataset.num_steps:
        return ""
    return (
        " They go on in other rows, so rows are out of order, as those sampled from a replay buffer: a sequence model "
        "needs each episode's one behind the other."
    )
