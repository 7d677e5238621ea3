"""Writing D4RL's HDF5 form: every column in one piece, so that any reader can map it, and equal content equal bytes."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import h5py
import numpy as np

from foretell.core.episode import Episode
from foretell.core.errors import DatasetError, UsageError
from foretell.core.files import atomic_path
from foretell.datasets import hdf5, stored_metadata
from foretell.datasets.boundaries import ends_of
from foretell.datasets.columns import as_columns
from foretell.datasets.dataset import Dataset
from foretell.datasets.fingerprint import ColumnHasher, block_rows, checksum_of, unchanged
from foretell.datasets.hdf5_sink import Sink
from foretell.datasets.metadata import DatasetMetadata

FILE_KEYS = {"terminations": "terminals", "truncations": "timeouts"}
"""Foretell's word -> D4RL's key; all other columns have the same name in both."""
ENDINGS = (".hdf5", ".h5")
"""Of file names that a dataset is opened by (`registry.py`)."""
ALIGNMENT = 64
"""Columns start at multiples of a cache line, so that mapped arrays are aligned for any type."""
FORMAT = ("v108", "v108")
"""HDF5 1.8 (2008) and later read it, and it is the first with checksums over all structures of the file."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """Shape of one row, and type, of a column."""

    shape: tuple[int, ...] = ()
    dtype: np.dtype = field(default_factory=lambda: np.dtype(np.float32))


def layout_of(columns: Mapping[str, np.ndarray]) -> dict[str, Column]:
    """Return the layout of a block of columns: the types that a reader makes of them, so that what is read is what was
    written; infos keep theirs."""
    return {
        name: Column(shape=values.shape[1:], dtype=values.dtype) for name, values in as_columns(columns, "").items()
    }


class D4RLWriter:
    """Writes one file of `num_steps` timesteps, block by block; a context manager.

    `layout` names the columns: observations, actions, rewards, terminations, truncations, next_observations where
    final observations are known, and `infos/NAME` (see `layout_of`). The file appears at `path` when the `with` block
    ends well, whole; otherwise nothing appears and what was there stays.

    Raises `DatasetError` where blocks and layout disagree or steps are missing, `ResourceError` where the disk is full.
    """

    def __init__(
        self, path: str | Path, *, num_steps: int, layout: Mapping[str, Column], metadata: DatasetMetadata,
        extras: Mapping[str, np.ndarray] | None = None,
    ):  # fmt: skip
        self.path, self.num_steps, self.layout = Path(path), num_steps, dict(layout)
        self.metadata, self.extras = metadata, dict(extras or {})
        self._stack = ExitStack()
        self._hasher = ColumnHasher()
        self._ends: list[np.ndarray] = []
        self._written = 0

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            temporary = stack.enter_context(atomic_path(self.path))
            self._check_space()
            self._sink = stack.enter_context(contextlib.closing(Sink(temporary)))
            stack.callback(self._sink.check)  # when HDF5 has closed the file
            self._file = stack.enter_context(
                h5py.File(
                    self._sink, "w", locking=False, libver=FORMAT, alignment_threshold=1, alignment_interval=ALIGNMENT
                )
            )
            for name, column in sorted(self.layout.items()):  # one order, so that equal content is equal bytes
                self._file.create_dataset(
                    FILE_KEYS.get(name, name),
                    shape=(self.num_steps, *column.shape),
                    dtype=column.dtype,
                    track_times=False,
                )
            self._stack = stack.pop_all()
        return self

    def append(self, columns: Mapping[str, np.ndarray]) -> None:
        """Write the next rows of every column: a block of whole episodes, the larger the faster."""
        rows = len(columns["rewards"])
        if columns.keys() != self.layout.keys():
            raise DatasetError(f"{self.path}: block has {sorted(columns)}; expected the columns {sorted(self.layout)}.")
        if self._written + rows > self.num_steps:
            raise DatasetError(f"{self.path}: {self._written + rows} timesteps come; expected {self.num_steps}.")
        found = as_columns(columns, f"{self.path}: ")
        block = {name: self._as_kept(name, values) for name, values in found.items()}
        for name, values in block.items():
            expected = (rows, *self.layout[name].shape)
            if values.shape != expected:
                raise DatasetError(f"{self.path}: block's {name} has shape {values.shape}; expected {expected}.")
        ends = ends_of(block["terminations"], block["truncations"])
        if len(ends) == 0 or ends[-1] != rows:
            raise DatasetError(
                f"{self.path}: a block of {rows} timesteps does not end with an episode; expected a termination or "
                "truncation at its last timestep. Flag a recording that stops early as truncated."
            )
        for name, values in block.items():
            self._file[FILE_KEYS.get(name, name)][self._written : self._written + rows] = values
        self._sink.check()
        self._hasher.update(block)
        self._ends.append(ends + self._written)
        self._written += rows

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            if error is not None:
                raise error
            if self._written != self.num_steps:
                raise DatasetError(f"{self.path}: {self._written} timesteps came; expected {self.num_steps}.")
            metadata, fingerprint = stored_metadata.to_arrays(self.metadata), self._hasher.hexdigest().encode()
            others = {
                **{f"metadata/{name}": values for name, values in sorted(metadata.items())},
                **dict(sorted(self.extras.items())),
                "foretell/episode_ends": np.concatenate(self._ends), "foretell/fingerprint": np.bytes_(fingerprint),
            }  # fmt: skip
            for name, values in others.items():
                self._file.create_dataset(name, data=values, track_times=False)
            checksum = checksum_of({name: hdf5.load_small(self._file[name]) for name in others})
            self._file.create_dataset("foretell/checksum", data=np.bytes_(checksum.encode()), track_times=False)

    def _as_kept(self, name: str, values: np.ndarray) -> np.ndarray:
        """Return a column in its type. Raises `DatasetError` where that cannot hold its numbers: fractions among whole
        numbers, larger ones, longer texts."""
        kept = self.layout[name].dtype
        if values.dtype == kept:
            return np.ascontiguousarray(values)
        if np.can_cast(values.dtype, kept, "same_kind"):
            with np.errstate(over="ignore"):
                found = np.ascontiguousarray(values, kept)
            if np.isfinite(found).all() if kept.kind == "f" else np.array_equal(found, values):
                return found
        raise DatasetError(
            f"{self.path}: {name} are {values.dtype} among {kept}, which the first episode has and which cannot hold "
            "them; expected one type in all episodes. Convert them first."
        )

    def _check_space(self) -> None:
        needed = sum(self.num_steps * int(np.prod(c.shape)) * c.dtype.itemsize for c in self.layout.values())
        if shutil.disk_usage(self.path.parent).free < needed:  # HDF5 would say so in the middle, less clearly
            raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)} for {needed / 2**20:,.0f} MiB of data")


def write_dataset(path: str | Path, dataset: Dataset) -> None:
    """Write a dataset as it is: columns, infos, metadata, extras; no final observations where none are known.

    Raises `UsageError` for what is no `Dataset`, and for a name that no dataset is opened by; `DatasetError` where the
    columns are not those that the file held when it was written.
    """
    check_name(path)
    if not isinstance(dataset, Dataset):
        raise UsageError(
            f"{path}: the dataset is of type {type(dataset).__name__}; expected a Dataset. write_d4rl writes a list of "
            "Episode; of columns make a foretell.Dataset first."
        )
    columns = unchanged(dataset).columns()
    starts, ends = dataset.episode_starts, dataset.episode_ends
    with D4RLWriter(
        path, num_steps=dataset.num_steps, layout=layout_of(columns), metadata=dataset.metadata, extras=dataset.extras
    ) as writer:
        for first, last in dataset.blocks_of_episodes():
            writer.append({name: values[starts[first] : ends[last - 1]] for name, values in columns.items()})


def write_d4rl(path: str | Path, episodes: Iterable[Episode], metadata: DatasetMetadata) -> None:
    """Write episodes one behind the other. All must be alike in shapes, types and infos.

    `next_observations` is left out where the final observation of any episode is unknown: nothing is invented.
    Raises `DatasetError` where there are none or they differ, `UsageError` for a name that no dataset is opened by.
    """
    check_name(path)
    if isinstance(episodes, Dataset):
        raise UsageError(
            f"{path}: episodes are a Dataset; expected a list of Episode. foretell.write_dataset writes it."
        )
    if isinstance(episodes, Episode | Mapping) or not isinstance(episodes, Iterable):
        raise _no_episodes(path, type(episodes).__name__)
    if not isinstance(metadata, DatasetMetadata):
        raise UsageError(
            f"{path}: episodes are {type(episodes).__name__}, metadata {type(metadata).__name__}; expected a list of "
            "Episode, and DatasetMetadata."
        )
    found = list(episodes)
    for episode in found:
        if not isinstance(episode, Episode):
            raise _no_episodes(path, f"of type {type(episode).__name__}")
    if not found:
        raise DatasetError(f"{path}: 0 episodes to write; expected at least 1. Was the recording stopped early?")
    known = all(episode.final_observation_known for episode in found)
    layout = layout_of(_columns_of(found[0], known))
    with D4RLWriter(path, num_steps=sum(map(len, found)), layout=layout, metadata=metadata) as writer:
        for group in _groups(found):
            blocks = [_columns_of(episode, known) for episode in group]
            names = {frozenset(block) for block in blocks}
            if names != {frozenset(layout)}:
                raise DatasetError(
                    f"{path}: episodes keep different infos; expected {sorted(found[0].infos)} in each. "
                    "dataclasses.replace(episode, infos={}) leaves them out."
                )
            try:
                writer.append({name: np.concatenate([block[name] for block in blocks]) for name in layout})
            except ValueError as error:
                raise DatasetError(f"{path}: episodes differ in shape ({error}); expected one shape.") from None


def _no_episodes(path: str | Path, found: str) -> UsageError:
    return UsageError(
        f"{path}: episodes are {found}; expected a list of Episode, and DatasetMetadata. Make a foretell.Episode of "
        "each; of columns of many episodes a foretell.Dataset, which foretell.write_dataset writes."
    )


def check_name(path: str | Path) -> None:
    """Raise `UsageError` where no dataset is opened by such a name."""
    if not isinstance(path, str | os.PathLike):
        raise UsageError(f"path is {path!r:.100}; expected the name of a file that ends in .hdf5 or .h5.")
    if Path(path).suffix.lower() not in ENDINGS:
        raise UsageError(f"{path}: is no name that a dataset is opened by; expected one that ends in .hdf5 or .h5.")


def _columns_of(episode: Episode, with_next: bool) -> dict[str, np.ndarray]:
    columns = {
        "observations": episode.observations[:-1], "actions": episode.actions, "rewards": episode.rewards,
        "terminations": episode.terminations, "truncations": episode.truncations,
    }  # fmt: skip
    if with_next:
        columns["next_observations"] = episode.observations[1:]
    return columns | {f"infos/{name}": values for name, values in episode.infos.items()}


def _groups(episodes: list[Episode]) -> Iterator[list[Episode]]:
    group: list[Episode] = []
    steps, most = 0, block_rows(episodes[0].observations)
    for episode in episodes:
        group.append(episode)
        steps += len(episode)
        if steps >= most:
            yield group
            group, steps = [], 0
    if group:
        yield group
