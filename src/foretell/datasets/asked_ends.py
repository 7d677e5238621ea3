"""Where episodes end, by an array of the file that is named for it (`ends_at`)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from foretell.core.errors import DatasetError, UsageError
from foretell.datasets.columns import as_flags

ENDS = ("timeouts", "truncations", "truncated", "episode_terminals", "episode_ends", "dones", "done", "ends", "last")
"""Names under which ends of episodes are kept."""
DOUBLED = 0.1
"""Of the ends of episodes, most that another may follow in the next row."""
COLUMNS = ("observations", "next_observations", "actions", "rewards")
"""Arrays that are no flags, whatever their numbers."""


def refuse_both(ends_at: str | None, horizon: int | None, where: str) -> None:
    """Raise `UsageError` where both say where episodes end, or `ends_at` is no name."""
    if ends_at is None:
        return
    if not isinstance(ends_at, str):
        raise UsageError(
            f"{where}: ends_at is {ends_at!r:.100}; expected the name of an array of the file, such as 'timeouts'."
        )
    if horizon is not None:
        raise UsageError(
            f"{where}: ends_at ({ends_at}) and a horizon ({horizon}) both say where episodes end; expected one of "
            "them. Leave the other out."
        )


def with_asked_ends(
    table: dict[str, np.ndarray], beside: Mapping[str, np.ndarray], key: str, where: str
) -> tuple[dict[str, np.ndarray], str]:
    """Return the columns, under D4RL's keys, with ends where the array `key` is True, and a note of what changed.

    An end that is not a terminal is a timeout; terminals and timeouts elsewhere are cleared. The last timestep keeps
    its terminal: the file ends there. `beside` are the arrays of the file that are no columns.

    Raises `UsageError` where there is no such array, `DatasetError` where it holds no flags, a timestep each, or none
    that is True.
    """
    steps = len(table["observations"])
    given = {**beside, **table}
    if key not in given:
        raise UsageError(f"{where}: key {key!r} is not there; expected the name of an array of flags. {_offer(given)}")
    if key in COLUMNS or given[key].size != steps:
        raise DatasetError(
            f"{where}: {key!r} is no array of {steps:,} flags, one a timestep; expected True at the last timestep of "
            f"each episode. {_offer(given)}"
        )
    flags = _whole(as_flags(given[key], f"{where}: {key!r}"), key, where)
    if not flags.any():
        raise DatasetError(
            f"{where}: {key!r} is never True; expected True at the last timestep of each episode. {_offer(given)}"
        )
    terminals, timeouts = _whole(table["terminals"], "terminals", where), table.get("timeouts")
    ends = np.array(flags)
    ends[-1] |= terminals[-1]
    counts = {"terminals": np.count_nonzero(terminals & ~ends)}
    if timeouts is not None:
        counts["timeouts"] = np.count_nonzero(_whole(timeouts, "timeouts", where) & ~ends)
    cleared = " and ".join(f"{count:,} {name!r}" for name, count in counts.items() if count)
    note = f"episodes end where {key!r} is True, as asked for"
    note += f"; {cleared} at other timesteps are cleared." if cleared else "."
    return {**table, "terminals": terminals & ends, "timeouts": ends & ~terminals}, note


def _whole(flags: np.ndarray, key: str, where: str) -> np.ndarray:
    """Return flags of which every byte is 0 or 1. What is computed of others would look as if it were right."""
    flags = np.ascontiguousarray(flags)
    if (flags.view(np.uint8) > 1).any():
        raise DatasetError(
            f"{where}: {key!r} holds a byte that is neither 0 nor 1; expected flags. The file is damaged: fetch or "
            "make it again."
        )
    return flags


def _offer(given: Mapping[str, np.ndarray]) -> str:
    found = flag_arrays(given)
    return f"Of flags the file has {', '.join(found)}." if found else "The file has no array of flags."


def flag_arrays(arrays: Mapping[str, np.ndarray]) -> list[str]:
    """Return the names of the arrays that are flags: 0 and 1, one a row, and somewhere 1."""
    steps = len(arrays["observations"])
    return [name for name, values in sorted(arrays.items()) if name not in COLUMNS and _is_flags(values, steps)]


def _is_flags(values: np.ndarray, steps: int) -> bool:
    if values.shape not in ((steps,), (steps, 1)) or values.dtype.kind not in "fiub":
        return False
    try:
        return bool(as_flags(values, "").any())
    except DatasetError:
        return False


def likely_ends(table: Mapping[str, np.ndarray], beside: Mapping[str, np.ndarray]) -> str | None:
    """Return the name of an array that is True at every terminal and elsewhere too, as one of all ends is.

    Ends rarely follow each other at once. Where there is no terminal to tell by, its name has to (`ENDS`).
    """
    terminals = np.asarray(table["terminals"])
    for name in flag_arrays({**beside, "observations": table["observations"]}):
        flags = as_flags(beside[name], name)
        known = terminals.any() or name.rsplit("/", 1)[-1] in ENDS
        count, doubled = np.count_nonzero(flags), np.count_nonzero(flags[1:] & flags[:-1])
        if known and flags[terminals].all() and count > np.count_nonzero(terminals) and doubled <= DOUBLED * count:
            return name
    return None
