"""`Dataset`: the columns of many episodes end to end, mapped from the file where it allows that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from foretell.core.decimals import counted
from foretell.core.episode import Episode
from foretell.core.errors import DatasetError, UsageError
from foretell.core.numbers import as_array
from foretell.core.settings import whole
from foretell.datasets.columns import as_columns
from foretell.datasets.fingerprint import BLOCK_ROWS, fingerprint
from foretell.datasets.metadata import DatasetMetadata

ROUNDING = 1e-9
"""Relative: by so much two sums of the same rewards may differ, taken in another order."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """N timesteps of E episodes, one behind the other. Every column has N rows; units are the environment's own.

    Shapes: observations and next_observations `(N, *observation_shape)` float32, or uint8 for images; actions
    `(N, action_dim)` float32, or `(N,)` integers where they are discrete; rewards `(N,)` float32; terminations and
    truncations `(N,)` bool; each of `infos` `(N, ...)`. Episode i is `[episode_starts[i], episode_ends[i])`.

    `next_observations` is None where the file kept none: final observations are then unknown. `extras` are arrays of
    the file that have no meaning here and are written back as they were. `notes` say what the reader had to assume.

    Arrays of other types become these: of a replay buffer, say, whose rewards are `(N, 1)` and whose flags are floats.

    Raises `DatasetError` where lengths disagree, nothing is there, or a column cannot be what it should. Numbers are
    not looked at (`doctor.diagnose` does).
    """

    name: str
    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    terminations: np.ndarray
    truncations: np.ndarray
    next_observations: np.ndarray | None
    episode_ends: np.ndarray
    infos: Mapping[str, np.ndarray] = field(default_factory=dict)
    metadata: DatasetMetadata = field(default_factory=DatasetMetadata)
    path: Path | None = None
    extras: Mapping[str, np.ndarray] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    stored_fingerprint: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise UsageError(f"name is {self.name!r:.100}; expected a text.")
        for name, kind in (("metadata", DatasetMetadata), ("infos", Mapping), ("extras", Mapping)):
            if not isinstance(given := getattr(self, name), kind):
                raise UsageError(
                    f"{self.name}: {name} is of type {type(given).__name__}; expected {kind.__name__}. Leave it out "
                    "where there is none."
                )
        for name in ("observations", "actions", "rewards", "terminations", "truncations", "episode_ends"):
            if getattr(self, name) is None:
                raise UsageError(f"{self.name}: {name} is None; expected one row a timestep, or an end an episode.")
        columns = as_columns(self.columns(), f"{self.name}: ")
        for name, values in columns.items():
            if not name.startswith("infos/"):
                object.__setattr__(self, name, values)
        object.__setattr__(self, "infos", {name: columns[f"infos/{name}"] for name in self.infos})
        given = as_array(self.episode_ends, f"{self.name}: episode ends")
        if given.ndim != 1 or given.dtype.kind not in "iu":
            raise DatasetError(
                f"{self.name}: episode ends are {given.dtype} of shape {given.shape}; expected a row of whole numbers, "
                "one behind each episode's last timestep. Of flags they are numpy.flatnonzero(flags) + 1."
            )
        object.__setattr__(self, "episode_ends", np.asarray(given, np.int64))
        steps = len(self.observations)
        if steps == 0:
            raise DatasetError(f"{self.name}: 0 timesteps; expected at least 1. Was the recording stopped early?")
        for key, values in self.columns().items():
            if len(values) != steps:
                raise DatasetError(
                    f"{self.name}: {key!r} has {len(values)} rows, 'observations' has {steps}; "
                    "expected one row a timestep in each. Write the file again from its source."
                )
        if self.next_observations is not None and self.next_observations.shape != self.observations.shape:
            raise DatasetError(
                f"{self.name}: 'next_observations' has shape {self.next_observations.shape}, 'observations' "
                f"{self.observations.shape}; expected the same. Write the file again from its source."
            )
        self._check_ends()

    def _check_ends(self) -> None:
        """Raise `DatasetError` where the ends are not those of whole episodes up to the last timestep."""
        ends, steps = self.episode_ends, self.num_steps
        rising = (np.diff(ends, prepend=0) >= 1).all()
        if rising and (len(ends) == 0 or ends[-1] < steps):
            flagged = np.asarray(self.terminations) | np.asarray(self.truncations)
            found = f"the last of the episode ends is {ends[-1]}" if len(ends) else "there are no episode ends"
            if len(ends) and flagged[ends].all() and not flagged[ends - 1].all():
                mend = "These are the last timesteps themselves: add 1."
            else:
                mend = "Where the recording stopped in the middle of an episode, append "
                mend += f"{steps} to episode_ends{'.' if flagged[-1] else ' and set truncations[-1] = True.'}"
            raise DatasetError(
                f"{self.name}: {found}, of {counted(steps, 'timestep')}; expected whole episodes without an empty one, "
                f"and for each the row behind its last timestep, the last of them {steps}. {mend}"
            )
        if not rising or ends[-1] != steps:
            raise DatasetError(
                f"{self.name}: episode ends do not rise from at least 1 to {steps}, the number of timesteps; "
                "expected whole episodes without an empty one. Drop empty episodes when recording."
            )

    def __repr__(self) -> str:
        return (
            f"Dataset({self.name!r}: {counted(self.num_steps, 'timestep')} in {counted(self.num_episodes, 'episode')}, "
            f"observations {self.observations.shape} {self.observations.dtype}, actions {self.actions.shape} "
            f"{self.actions.dtype}, environment {self.metadata.environment})"
        )

    def columns(self) -> dict[str, np.ndarray]:
        """Return every column of N rows under its name here; infos as `infos/NAME`."""
        names = ("observations", "actions", "rewards", "terminations", "truncations", "next_observations")
        found = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return found | {f"infos/{name}": values for name, values in self.infos.items()}

    @property
    def num_steps(self) -> int:
        """Timesteps of all episodes together."""
        return len(self.observations)

    @property
    def num_episodes(self) -> int:
        """Number of episodes."""
        return len(self.episode_ends)

    @property
    def episode_starts(self) -> np.ndarray:
        """First row of each episode, `(E,)` int64."""
        return np.concatenate([np.zeros(1, np.int64), self.episode_ends[:-1]])

    @property
    def episode_lengths(self) -> np.ndarray:
        """Timesteps of each episode, `(E,)` int64."""
        return self.episode_ends - self.episode_starts

    @property
    def observation_shape(self) -> tuple[int, ...]:
        """Shape of one observation."""
        return self.observations.shape[1:]

    @property
    def discrete(self) -> bool:
        """Whether actions are numbered choices."""
        return self.actions.ndim == 1

    @property
    def num_actions(self) -> int | None:
        """How many choices the actions show (highest number + 1), None where they are continuous. Linear in size."""
        return int(self.actions.max()) + 1 if self.discrete else None

    @property
    def action_dim(self) -> int:
        """Width of one action: its number of components, or of choices where actions are discrete."""
        return self.num_actions or 1 if self.discrete else self.actions.shape[1]

    def episode_returns(self) -> np.ndarray:
        """Undiscounted return of each episode, `(E,)` float64.

        Some episodes at a time: summed at once, NumPy would hold all rewards in float64.
        """
        starts, ends = self.episode_starts, self.episode_ends
        returns = np.empty(self.num_episodes)
        for first, last in self.blocks_of_episodes():
            rewards = self.rewards[starts[first] : ends[last - 1]]
            returns[first:last] = np.add.reduceat(rewards, starts[first:last] - starts[first], dtype=np.float64)
        return returns

    def largest_return_to_go(self) -> float:
        """Return the largest absolute return-to-go of any timestep, reward units.

        It is an episode's return, to the last bit, where none is larger, as of rewards of one sign.
        """
        largest = whole = float(np.abs(self.episode_returns()).max())
        starts, ends = self.episode_starts, self.episode_ends
        for first, last in self.blocks_of_episodes():
            rewards = self.rewards[starts[first] : ends[last - 1]]
            if rewards.min() >= 0 or rewards.max() <= 0:
                continue  # what is left only becomes less
            sums, begin = np.cumsum(rewards, dtype=np.float64), starts[first:last] - starts[first]
            together = sums[ends[first:last] - starts[first] - 1]
            for extreme in (np.minimum, np.maximum):  # of what was earned up to and with each timestep
                largest = max(largest, float(np.abs(together - extreme.reduceat(sums, begin)).max()))
        return largest if largest > whole * (1 + ROUNDING) else whole

    def blocks_of_episodes(self) -> Iterator[tuple[int, int]]:
        """Yield numbers of episodes, first and behind the last, of some `BLOCK_ROWS` timesteps together."""
        starts, ends, first = self.episode_starts, self.episode_ends, 0
        while first < self.num_episodes:
            last = max(first + 1, int(np.searchsorted(ends, starts[first] + BLOCK_ROWS, side="right")))
            yield first, last
            first = last

    def episode(self, index: int) -> Episode:
        """Return one episode, copied out of the file; as in lists, the last is also number -1.

        Raises `DatasetError` naming it where its content is wrong, and where there are not so many.
        """
        try:
            found = range(self.num_episodes)[index]
        except (TypeError, IndexError):
            raise DatasetError(
                f"{self.name}: asked for episode {index!r:.100}; expected 0 to {self.num_episodes - 1}."
            ) from None
        return self._episode(found, slice(int(self.episode_starts[found]), int(self.episode_ends[found])))

    def episodes(self) -> Iterator[Episode]:
        """Yield every episode in the order of recording."""
        for index, (start, end) in enumerate(zip(self.episode_starts.tolist(), self.episode_ends.tolist())):
            yield self._episode(index, slice(start, end))

    def _episode(self, index: int, rows: slice) -> Episode:
        following = self.observations if self.next_observations is None else self.next_observations
        try:
            return Episode(
                observations=np.concatenate([self.observations[rows], following[rows.stop - 1 : rows.stop]]),
                actions=np.array(self.actions[rows]),
                rewards=np.array(self.rewards[rows]),
                terminations=np.array(self.terminations[rows]),
                truncations=np.array(self.truncations[rows]),
                infos={name: np.array(values[rows]) for name, values in self.infos.items()},
                final_observation_known=self.next_observations is not None,
            )
        except DatasetError as error:
            raise DatasetError(f"{self.name}: episode {index}: {error}") from None

    def fingerprint(self) -> str:
        """Return the SHA-256 over all columns: equal content, equal name. Linear in size."""
        return fingerprint(self.columns())

    def section(self, start: int, stop: int) -> Dataset:
        """Return timesteps `start` to `stop - 1`. An episode cut at its end ends there in a truncation.

        Of an episode cut at its start the rest is kept, as a ring buffer would; its timesteps count from the cut.
        Raises `DatasetError` where there are not so many timesteps, or none are asked for.
        """
        start, stop = whole("start", start), whole("stop", stop)
        if not 0 <= start < stop <= self.num_steps:
            raise DatasetError(
                f"{self.name}: asked for timesteps {start} to {stop - 1}; expected some of the {self.num_steps} that "
                "there are. Ask for fewer or record more."
            )
        rows = slice(start, stop)
        ends = self.episode_ends[(self.episode_ends > start) & (self.episode_ends < stop)] - start
        truncations = self.truncations[rows]
        if not (self.terminations[stop - 1] or truncations[-1]):
            truncations = np.array(truncations)
            truncations[-1] = True
        return replace(
            self,
            observations=self.observations[rows], actions=self.actions[rows], rewards=self.rewards[rows],
            terminations=self.terminations[rows], truncations=truncations,
            next_observations=None if self.next_observations is None else self.next_observations[rows],
            episode_ends=np.append(ends, stop - start).astype(np.int64),
            infos={name: values[rows] for name, values in self.infos.items()},
            path=None, extras={}, stored_fingerprint=None,
        )  # fmt: skip
