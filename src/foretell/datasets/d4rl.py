"""Reading D4RL's HDF5 form (Fu et al. 2020), as Foretell, D4RL and others write it.

Columns that lie in the file in one piece and in the right type are mapped, not read: opening takes the same time
whatever the size, and memory holds what is looked at. Everything else is read and converted.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from foretell.core.decimals import counted
from foretell.core.errors import DatasetError, UsageError
from foretell.core.files import read_json
from foretell.datasets import boundaries, columns, hdf5, stored_metadata
from foretell.datasets.asked_ends import likely_ends, refuse_both, with_asked_ends
from foretell.datasets.d4rl_writer import FILE_KEYS
from foretell.datasets.dataset import Dataset
from foretell.datasets.fingerprint import checksum_of, fingerprint

REQUIRED = ("observations", "actions", "rewards", "terminals")
OPTIONAL = ("timeouts", "next_observations")
_WORDS = {key: word for word, key in FILE_KEYS.items()}
CHECKSUM, FINGERPRINT = "foretell/checksum", "foretell/fingerprint"
"""In files that Foretell wrote: SHA-256 over the columns, checked before training; and over all else, on opening."""


def read_d4rl(
    path: str | Path, *, horizon: int | None = None, environment: str | None = None, ends_at: str | None = None
) -> Dataset:
    """Open a D4RL file.

    Files without `timeouts` get their episode boundaries from where `next_observations` break off, else from
    `horizon` timesteps (default: the time limit of `environment`, or of the one that the metadata name). An explicit
    `horizon` is also used where `timeouts` is there and never True, and refused where it is: the file says it itself.
    Without `next_observations`, final observations stay unknown. A last episode that the file leaves open is kept and
    flagged as truncated. `Dataset.notes` says which was done.

    `ends_at` names an array of the file whose flags are the last timesteps of the episodes, whatever else the file says
    of them (`asked_ends.with_asked_ends`). A file of Foretell's own is then held against its fingerprint on opening.

    Raises `DatasetError` where the file cannot be opened, a key is missing, shapes are wrong or lengths disagree,
    `UsageError` for a `horizon` that would have no effect, or an `ends_at` that is not there.
    """
    path = Path(path)
    refuse_both(ends_at, horizon, str(path))
    with hdf5.open_arrays(path) as arrays:
        missing = [key for key in REQUIRED if key not in arrays]
        if missing:
            found = ", ".join(sorted(arrays)[:12]) or "nothing"
            raise DatasetError(
                f"{path}: key {missing[0]!r} is missing (found: {found}); expected D4RL's keys {', '.join(REQUIRED)}. "
                "Rename or add it."
            )
        main = {key: hdf5.load(arrays[key]) for key in (*REQUIRED, *OPTIONAL) if key in arrays}
        infos = {k.removeprefix("infos/"): hdf5.load(v) for k, v in arrays.items() if k.startswith("infos/")}
        ends = hdf5.load(arrays["foretell/episode_ends"]) if "foretell/episode_ends" in arrays else None
        columns_of = {*main, *(f"infos/{name}" for name in infos), "foretell/episode_ends"}
        others = {name: hdf5.load_small(values) for name, values in arrays.items() if name not in columns_of}
    _check_others(others, ends, str(path))
    metadata = stored_metadata.from_arrays(
        {name.removeprefix("metadata/"): v for name, v in others.items() if name.startswith("metadata/")}
    )
    extras = {name: v for name, v in others.items() if not name.startswith(("metadata/", "foretell/"))}
    table = convert(main, str(path))
    _check_lengths(table, infos, str(path))
    stored, beside = _stored_fingerprint(others, path), {**extras, **{f"infos/{name}": v for name, v in infos.items()}}
    notes: tuple[str, ...] = ()
    if ends_at is not None:
        asked, note = with_asked_ends(table, beside, ends_at, str(path))
        stored = None if stored == _fingerprint_of(table, infos) else stored  # of flags that are no longer those
        table, ends, notes = asked, None, (note,)
        extras.pop(ends_at, None)  # it is read
    found = with_episodes(
        table, ends, environment=environment or metadata.environment, horizon=horizon, where=str(path), beside=beside
    )
    found["notes"] = notes + found["notes"]
    return Dataset(
        name=path.stem, path=path, infos=infos, metadata=metadata, extras=extras, stored_fingerprint=stored, **found
    )


def _check_others(others: dict[str, np.ndarray], ends: np.ndarray | None, where: str) -> None:
    """Hold all that is not a column against the checksum that the file keeps of it, where it keeps one."""
    if CHECKSUM not in others:
        return
    found = {name: values for name, values in others.items() if name != CHECKSUM}
    if ends is not None:
        found["foretell/episode_ends"] = ends
    if bytes(others[CHECKSUM]) != checksum_of(found).encode():
        raise DatasetError(
            f"{where}: metadata or other arrays beside the columns are not those that were written (their checksum "
            "does not fit); the file was edited or damaged: fetch or make it again."
        )


def _stored_fingerprint(others: dict[str, np.ndarray], path: Path) -> str | None:
    """Return what the columns were when they were written.

    The request that `foretell collect` leaves beside a recording says it too: where the two differ, another recording
    was put in the place of this one, and no columns are right.
    """
    if FINGERPRINT not in others:
        return None
    stored = bytes(others[FINGERPRINT]).decode("ascii", "replace")
    request = path.with_suffix(".request.json")
    asked = read_json(request) if request.exists() else None
    if isinstance(asked, dict) and asked.get("fingerprint", stored) != stored:
        return f"{asked['fingerprint']}, not {stored}"
    return stored


def _fingerprint_of(table: dict[str, np.ndarray], infos: dict[str, np.ndarray]) -> str:
    """Return the fingerprint of the columns as the file has them."""
    return fingerprint(
        {_WORDS.get(key, key): values for key, values in table.items()}
        | {f"infos/{name}": values for name, values in infos.items()}
    )


def convert(main: dict[str, np.ndarray], where: str) -> dict[str, np.ndarray]:
    """Bring the columns under D4RL's keys to one type and rank each, or raise `DatasetError`."""
    for key, values in main.items():
        if values.ndim == 0:
            raise DatasetError(f"{where}: {key!r} is a single value; expected one row a timestep.")
    return {key: columns.KINDS[_WORDS.get(key, key)](values, f"{where}: {key!r}") for key, values in main.items()}


def _check_lengths(table: dict[str, np.ndarray], infos: dict[str, np.ndarray], where: str) -> None:
    steps = len(table["observations"])
    if steps == 0:
        raise DatasetError(f"{where}: 0 timesteps; expected at least 1. Was the recording stopped early?")
    for key, values in (table | {f"infos/{name}": v for name, v in infos.items()}).items():
        rows = len(values) if values.ndim else 0
        if rows != steps:
            raise DatasetError(
                f"{where}: {key!r} has {rows} rows, 'observations' has {steps}; expected one row a timestep in each. "
                "Write the file again from its source."
            )


def with_episodes(
    table: dict[str, np.ndarray], ends: np.ndarray | None, *, environment: str | None, horizon: int | None, where: str,
    beside: Mapping[str, np.ndarray] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Return the columns under Foretell's names with `truncations`, `episode_ends` and `notes` settled.

    `table` has D4RL's keys; lengths agree. `beside` are other arrays of the file, among which one may say where
    episodes end. Raises `DatasetError` where nothing says how long an episode is.
    """
    notes: list[str] = []
    terminations, timeouts = table["terminals"], table.get("timeouts")
    following = table.get("next_observations")
    if timeouts is None or (horizon is not None and not timeouts.any()):
        timeouts, note = _find_timeouts(table, beside or {}, environment, horizon, where)
        notes.append(note)
    elif horizon is not None:
        raise no_use_for(horizon, f"{where}: its 'timeouts' say where episodes end")
    if not (timeouts[-1] or terminations[-1]):
        timeouts = np.array(timeouts)
        timeouts[-1] = True
        notes.append("the file leaves its last episode open; it is kept and flagged as truncated.")
        ends = None
    if following is None:
        notes.append("there are no 'next_observations'; the final observation of each episode is unknown.")
    if ends is not None and not boundaries.trusted_ends(ends, terminations, timeouts):
        notes.append("the stored ends of the episodes do not fit the flags and are not used; the flags say it.")
        ends = None
    if ends is None:
        ends = boundaries.ends_of(terminations, timeouts)
    return {
        "observations": table["observations"], "actions": table["actions"], "rewards": table["rewards"],
        "terminations": terminations, "truncations": timeouts, "next_observations": following,
        "episode_ends": np.asarray(ends, np.int64), "notes": tuple(notes),
    }  # fmt: skip


def no_use_for(horizon: int, why: str) -> UsageError:
    """Return the error that says why a time limit would have no effect."""
    return UsageError(f"{why}; a horizon ({horizon}) is for data that do not say it. Leave it out.")


def refuse_ends(horizon: int | None, ends_at: str | None, why: str) -> None:
    """Raise `UsageError` where either is given for data whose ends are settled; `why` says by what."""
    if horizon is not None:
        raise no_use_for(horizon, why)
    if ends_at is not None:
        raise UsageError(f"{why}; ends_at ({ends_at}) is for files in D4RL's form. Leave it out.")


def _find_timeouts(
    table: dict[str, np.ndarray], beside: Mapping[str, np.ndarray], environment: str | None, horizon: int | None,
    where: str,
) -> tuple[np.ndarray, str]:  # fmt: skip
    terminations, following = table["terminals"], table.get("next_observations")
    limit = boundaries.time_limit(environment) if horizon is None else horizon
    likely = likely_ends(table, beside)
    rather = f" {likely!r} may say it better: --ends-at {likely}." if likely else ""
    if following is not None and horizon is None:
        flags = boundaries.truncations_at_breaks(table["observations"], following, terminations)
        note = "there are no 'timeouts'; episodes end where 'next_observations' and 'observations' part."
        return flags, note + rather
    if limit is not None:
        flags = boundaries.truncations_at_horizon(terminations, limit)
        after = counted(limit, "timestep")
        return flags, f"no timeout is recorded; episodes end at a termination or after {after}.{rather}"
    if likely:
        mend = f"{likely!r} seems to: --ends-at {likely}. Else pass"
    elif terminations.any():
        mend = "Where 'terminals' are the only ends, say so: --ends-at terminals. Else pass"
    else:
        mend = "Pass"
    raise DatasetError(
        f"{where}: neither 'timeouts' nor 'next_observations' say where an episode ends; expected one of them. "
        f"{mend} the time limit in timesteps: --horizon N, or the --environment that has one."
    )
