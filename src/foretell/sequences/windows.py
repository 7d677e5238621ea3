"""Drawing training windows: unless asked otherwise, every timestep of the dataset is equally likely to be the last."""

from __future__ import annotations

import copy

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from foretell.core.errors import UsageError
from foretell.core.seeding import stream
from foretell.datasets.dataset import Dataset
from foretell.sequences.batch import SequenceBatch
from foretell.sequences.behind import SumsBehind, running
from foretell.sequences.native.gathering import gathering
from foretell.sequences.normalization import Normalization

CHUNK = 16
"""Updates whose windows are drawn at one time."""
TOGETHER_BYTES = 48 * 1024
"""What is gathered at once, for several updates; of larger batches, calls are a small part."""
_Windows = tuple[list[np.ndarray], np.ndarray, np.ndarray, np.ndarray, bool]
_Rows = tuple[Int[np.ndarray, " batch"], Float[np.ndarray, " batch"] | None]
_Group = tuple[int, int]
"""The first of some updates, and the size of their batches."""
NONE_YET: _Group = (-1, -1)


class WindowSampler:
    """Batches of windows of at most `context_length` timesteps.

    Batch `update` is a pure function of (seed, update): nothing is lost by an interruption, and nothing depends on
    what was drawn before. Columns are read where they lie; memory does not grow with the dataset (but for `told`).
    """

    def __init__(
        self,
        dataset: Dataset,
        normalization: Normalization,
        *,
        context_length: int,
        seed: int,
        told: Float[np.ndarray, " steps"] | None = None,
        eligible: Int[np.ndarray, " rows"] | None = None,
        emphasized: Int[np.ndarray, " emphasized"] | None = None,
        goals: bool = False,
    ):
        """Prepare to draw from `dataset`.

        `told` is what each timestep is told in place of its return-to-go, in the networks' units. `eligible` are the
        rows that may be a window's last; None for all. Of a batch, the first half of the windows end at rows drawn from
        `emphasized` alone, where there are any. `goals` adds to each window an observation that its episode came to
        later, all of them equally likely, the final one, where it is known, among them.
        """
        if context_length < 1:
            raise UsageError(f"context_length is {context_length}; expected at least 1 timestep.")
        if told is not None and len(told) != dataset.num_steps:
            raise UsageError(f"told has {len(told)} numbers for {dataset.num_steps} timesteps; expected one for each.")
        if eligible is not None and len(eligible) == 0:
            raise UsageError("no row is eligible to be a window's last; expected at least one.")
        self.normalization = normalization
        self._told, self._eligible = told, eligible
        self._emphasized = emphasized if emphasized is not None and len(emphasized) else None
        self._goals, self._part = goals, (0, 1)
        self._chunk: tuple[_Group, list[_Rows]] = NONE_YET, []
        self._made: tuple[_Group, list[SequenceBatch]] = NONE_YET, []
        self.context_length = context_length
        self.seed = seed
        self._observations = np.asarray(dataset.observations)
        self._actions = np.asarray(dataset.actions)
        self._rewards = np.asarray(dataset.rewards)
        self._terminations = np.asarray(dataset.terminations)
        following = dataset.next_observations if goals else None
        self._following = None if following is None else np.asarray(following)
        self._ends = dataset.episode_ends
        self._starts = dataset.episode_starts
        self._behind = SumsBehind(self._rewards, self._starts, self._ends)
        lengths = self._ends - self._starts
        same = (lengths[:-1] == lengths[0]).all() and lengths[-1] <= lengths[0]
        self._length = int(lengths[0]) if same else None
        self._window_bytes = context_length * sum(one.dtype.itemsize * one[:1].size for one in self._columns())
        self._gathering = gathering(
            self._columns(), summed=self._rewards if told is None else None, starts=self._starts, ends=self._ends,
            length=self._length, time=context_length,
        )  # fmt: skip

    @property
    def episode_starts(self) -> Int[np.ndarray, " episodes"]:
        """First row of each episode."""
        return self._starts

    @property
    def episode_ends(self) -> Int[np.ndarray, " episodes"]:
        """Row behind each episode's last."""
        return self._ends

    @property
    def num_steps(self) -> int:
        """Timesteps of the dataset."""
        return int(self._ends[-1])

    @property
    def num_eligible(self) -> int:
        """Timesteps that windows may end at."""
        return self.num_steps if self._eligible is None else len(self._eligible)

    def part(self, number: int, count: int) -> WindowSampler:
        """Return a sampler of part `number` of `count` of every batch, parts of one size or of two that differ by 1."""
        found = copy.copy(self)
        found._part = number, count
        found._made, found._chunk = (NONE_YET, []), (NONE_YET, [])
        return found

    def batch(self, update: int, batch_size: int) -> SequenceBatch:
        """Return the batch of this update; small ones are gathered for several updates at once, and kept that long."""
        together = TOGETHER_BYTES // (batch_size * self._window_bytes) if self._gathering else 1
        count = min(max(1, together), CHUNK)
        group = update - update % count, batch_size
        if self._made[0] != group:
            drawn = [self._rows_of(one, batch_size) for one in range(group[0], group[0] + count)]
            self._made = group, self._gathered_for(drawn)
            following = group[0] + count
            if self._gathering and following % CHUNK:
                self._gathering.bring(self._rows_of(following, batch_size)[0])
        return self._made[1][update % count]

    def _rows_of(self, update: int, batch_size: int) -> _Rows:
        """Return what `draw` does, drawn for `CHUNK` updates at a time: one by one, it takes three times as long."""
        chunk = update - update % CHUNK, batch_size
        if self._chunk[0] != chunk:
            self._chunk = chunk, [self.draw(one, batch_size) for one in range(chunk[0], chunk[0] + CHUNK)]
        return self._chunk[1][update - chunk[0]]

    def _gathered_for(self, drawn: list[_Rows]) -> list[SequenceBatch]:
        """Return the batches of several updates: one by one, calls take longer than the data."""
        if len(drawn) == 1:
            return [self.windows(*drawn[0])]
        rows, later = zip(*drawn)
        found = self.windows(np.concatenate(rows), None if later[0] is None else np.concatenate(later))
        sizes = [len(one) for one in rows]
        columns = [[None] * len(rows) if part is None else part.split(sizes) for part in vars(found).values()]
        return [SequenceBatch(**dict(zip(vars(found), batch, strict=True))) for batch in zip(*columns, strict=True)]

    def draw(self, update: int, batch_size: int) -> _Rows:
        """Return what `windows` takes for the batch of this update: last rows, and where the goals lie."""
        last = stream(self.seed, "windows", update).integers(self.num_eligible, size=batch_size)
        last = last if self._eligible is None else self._eligible[last]
        if self._emphasized is not None:
            half = batch_size // 2
            last[:half] = self._emphasized[
                stream(self.seed, "emphasized", update).integers(len(self._emphasized), size=half)
            ]
        later = stream(self.seed, "goals", update).random(batch_size) if self._goals else None
        number, parts = self._part
        mine = slice(number * batch_size // parts, (number + 1) * batch_size // parts)
        return last[mine], None if later is None else later[mine]

    def columns(self, rows: slice) -> dict[str, np.ndarray]:
        """Return these rows of what batches are made of, in their units and types; told is `returns_to_go`.

        Images of bytes are `pictures`, as they lie, in place of `observations`: scaled they take four times as much.
        """
        observations = self._observations[rows]
        pictures = observations.dtype == np.uint8
        found = {} if not self._goals else {"goals": self.goals_of(np.arange(rows.start, rows.stop))}
        if not pictures:
            found = {name: self.normalization.observations(values) for name, values in found.items()}
        return found | {
            "pictures" if pictures else "observations": (
                np.ascontiguousarray(observations) if pictures else self.normalization.observations(observations)
            ),
            "actions": np.ascontiguousarray(self.normalization.actions(self._actions[rows])),
            "returns_to_go": self.told_rows(rows)[:, None],
            "rewards": self._rewards[rows].astype(np.float32),
            "terminations": self._terminations[rows].astype(bool),
        }

    def told_rows(self, rows: slice) -> Float[np.ndarray, " rows"]:
        """Return what these rows are told, in the networks' units: the same as in windows."""
        if self._told is not None:
            return self._told[rows].astype(np.float32)
        found, first = np.empty(rows.stop - rows.start, np.float32), rows.start
        while first < rows.stop:  # an episode at a time: each is summed to its own end
            end = self._ends[np.searchsorted(self._ends, first, side="right")]
            stop = min(end, rows.stop)
            (near,), sums = self._behind.nearest(np.array([stop - 1]), np.array([end]))
            returns = running(self._rewards[first:near], 0.0 if sums is None else sums[0])[::-1]
            found[first - rows.start : stop - rows.start] = self.normalization.returns(returns[: stop - first])
            first = stop
        return found

    def goal_rows(
        self, last: Int[np.ndarray, " batch"], later: Float[np.ndarray, " batch"]
    ) -> Int[np.ndarray, " batch"]:
        """Return the rows that led to the goals: as far from `last` to the episode's last as `later` says, 0 to 1."""
        ends = self._ends[self._episode_of(last)]
        return last + ((ends - last) * later).astype(np.int64)

    def goals_of(self, rows: Int[np.ndarray, " batch"]) -> np.ndarray:
        """Return the observations that followed these rows, as they lie; for a final one that is not known, the one
        before."""
        if self._following is not None:
            return gathered(self._following, rows)
        return gathered(self._observations, np.minimum(rows + 1, self._ends[self._episode_of(rows)] - 1))

    def windows(
        self, last: Int[np.ndarray, " batch"], later: Float[np.ndarray, " batch"] | None = None
    ) -> SequenceBatch:
        """Return the windows that end with the given rows of the dataset.

        `later` says how far from there to the episode's last timestep, 0 to below 1, that lies which led to the goal.
        """
        columns, timesteps, ends, mask, padded = self._read(last)
        observations, actions, rewards, terminations, *told = columns
        hidden = mask if padded else None
        rewards = _padded(rewards, hidden)
        if told:
            returns = told[0].astype(np.float32, copy=False)
        else:
            returns = self.normalization.returns(self._returns_to_go(rewards, last, ends))
        return SequenceBatch(
            observations=_tensor(_padded(self.normalization.observations(observations), hidden)),
            actions=_tensor(_padded(self.normalization.actions(actions), hidden)),
            returns_to_go=_tensor(_padded(returns[..., None], hidden)),
            timesteps=_tensor(timesteps),
            rewards=_tensor(rewards.astype(np.float32, copy=False)),
            terminations=_tensor(_padded(terminations.astype(bool, copy=False), hidden)),
            mask=_tensor(mask),
            goals=None
            if later is None
            else _tensor(self.normalization.observations(self.goals_of(self.goal_rows(last, later)))),
        )

    def _columns(self) -> list[np.ndarray]:
        told = [] if self._told is None else [self._told]
        return [self._observations, self._actions, self._rewards, self._terminations, *told]

    def _read(self, last: Int[np.ndarray, " batch"]) -> _Windows:
        """Return each column at the rows of the windows, their timesteps, ends of their episodes, and what is real."""
        if self._gathering is not None:
            return self._gathering.windows(last)
        self._touch(last)
        episode = self._episode_of(last)
        starts, ends = self._starts[episode], self._ends[episode]
        elapsed = (last - starts)[:, None] + np.arange(1 - self.context_length, 1)
        mask, timesteps = elapsed >= 0, np.maximum(elapsed, 0)
        rows = timesteps + starts[:, None]
        return [gathered(column, rows) for column in self._columns()], timesteps, ends, mask, True

    def _touch(self, last: Int[np.ndarray, " batch"]) -> None:
        """Look at one row of each window: what lies in memory but in no cache arrives for many at once, else for one
        after the other."""
        for column in (self._observations, self._actions, self._rewards, self._terminations):
            gathered(column, last)

    def _episode_of(self, rows: Int[np.ndarray, " batch"]) -> Int[np.ndarray, " batch"]:
        """Return each row's episode: divided where all episodes have one length, else searched for."""
        return np.searchsorted(self._ends, rows, side="right") if self._length is None else rows // self._length

    def _returns_to_go(
        self, rewards: Float[np.ndarray, "batch time"], last: Int[np.ndarray, " batch"], ends: Int[np.ndarray, " batch"]
    ) -> Float[np.ndarray, "batch time"]:
        """Return-to-go at each row of windows with these rewards (Eq. 3: the row's own reward included).

        Each is summed from the episode's end backwards, one reward at a time in float64: first what comes behind the
        window, all windows end to end, then the window's own. Of long episodes, sums up to a row near by are kept.
        """
        ends, kept = self._behind.nearest(last, ends)
        found = None if self._gathering is None else self._gathering.returns_to_go(rewards, last, ends, kept)
        if found is not None:
            return found
        behind = ends - last - 1
        window = np.repeat(np.arange(len(last)), behind)
        rows = np.repeat(last + np.cumsum(behind), behind) - np.arange(len(window))
        summed = gathered(self._rewards, rows)
        if kept is not None:  # what is kept is added before the rewards
            window, summed = np.concatenate([np.arange(len(last)), window]), np.concatenate([kept, summed])
        sums = np.empty((rewards.shape[0], rewards.shape[1] + 1))
        sums[:, 0] = np.bincount(window, summed, len(last))
        sums[:, 1:] = rewards[:, ::-1]
        return np.cumsum(sums, axis=1)[:, :0:-1]


def gathered(values: np.ndarray, rows: Int[np.ndarray, "*batch"]) -> np.ndarray:
    """Return these rows. `take` is several times as fast, but copies a whole column that is not aligned in its file."""
    plain = values.flags.c_contiguous and values.flags.aligned
    return values.take(rows, axis=0) if plain else values[rows]


def _padded(values: np.ndarray, mask: Bool[np.ndarray, "batch time"] | None) -> np.ndarray:
    """Return the values, which are nobody else's, with zeros where the mask is not True; without one, as they are."""
    if mask is None:
        return values
    return np.multiply(values, mask.reshape(*mask.shape, *[1] * (values.ndim - 2)).astype(values.dtype), out=values)


def _tensor(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values))
