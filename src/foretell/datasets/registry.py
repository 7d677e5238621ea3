"""Opening a dataset by name: where the formats that Foretell reads are listed."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foretell.core.errors import UsageError
from foretell.datasets.d4rl import read_d4rl, refuse_ends
from foretell.datasets.d4rl_writer import ENDINGS
from foretell.datasets.dataset import Dataset

if TYPE_CHECKING:
    from minari import MinariDataset

READERS = dict.fromkeys(ENDINGS, read_d4rl)
"""Reader by file name ending: `(path, *, horizon, environment, ends_at) -> Dataset`."""
MINARI_PREFIX = "minari:"


def open_dataset(
    name: str | Path | MinariDataset,
    *,
    horizon: int | None = None,
    environment: str | None = None,
    ends_at: str | None = None,
) -> Dataset:
    """Open `PATH.hdf5`, `PATH.h5` or `minari:ID` (a dataset of the local Minari storage; nothing is downloaded).

    What Minari has loaded is read as it is: of one that it filtered or split, the episodes that are left.

    `horizon` is the time limit in timesteps for D4RL files that do not say where episodes end; without it that of
    `environment` counts, or of the one that the file names. `ends_at` names an array of the file, "timeouts" say, of
    flags that are True at the last timestep of each episode: it alone says where they end, and terminals elsewhere are
    cleared, as those of AntMaze, which stand at every timestep at the goal while the episode goes on.
    Raises `UsageError` for a name of another kind, for a `horizon` or `ends_at` that would have no effect, for an
    `ends_at` that the file has not; `DatasetError` where the data cannot be used.
    """
    if not openable(name):
        raise UsageError(
            f"dataset is of type {type(name).__name__}; expected a path that ends in {_endings()}, minari:ID, or a "
            "minari.MinariDataset. write_d4rl makes a file of episodes, foretell.Dataset a dataset of columns."
        )
    if not isinstance(name, str | os.PathLike):
        from foretell.datasets.minari import read_minari_dataset

        refuse_ends(horizon, ends_at, f"{name.spec.dataset_id}: Minari says where episodes end")
        return read_minari_dataset(name)
    if str(name).startswith(MINARI_PREFIX):
        from foretell.datasets.minari import read_minari  # late: an optional dependency

        refuse_ends(horizon, ends_at, f"{name}: Minari says where episodes end")
        return read_minari(str(name).removeprefix(MINARI_PREFIX))
    reader = READERS.get(Path(name).suffix.lower())
    if reader is None:
        other = " Other files are read in Python and written by foretell.write_d4rl (docs/datasets.md)."
        other = other if Path(name).is_file() else ""
        raise UsageError(f"dataset {str(name)!r}; expected a path that ends in {_endings()}, or minari:ID.{other}")
    return reader(name, horizon=horizon, environment=environment, ends_at=ends_at)


def _endings() -> str:
    *others, last = READERS
    return f"{', '.join(others)} or {last}"


def openable(given: Any) -> bool:
    """Whether `open_dataset` takes what is given: a name, or what Minari has loaded."""
    minari = sys.modules.get("minari")  # who has such a dataset has imported it
    return isinstance(given, str | os.PathLike) or (minari is not None and isinstance(given, minari.MinariDataset))
