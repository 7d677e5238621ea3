"""What Foretell makes of a column that another program wrote: one type and one rank for each, or a clear no."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from foretell.core.episode import check_finite
from foretell.core.errors import DatasetError
from foretell.core.numbers import as_array, as_float32
from foretell.datasets.fingerprint import BLOCK_ROWS


def as_observations(values: np.ndarray, where: str) -> np.ndarray:
    """Return observations as `(N, *shape)`, float32, or uint8 where they are that (images). `where` names them."""
    if values.ndim < 2:
        raise DatasetError(
            f"{where} has shape {values.shape}; expected (timesteps, ...) with at least one number an observation. "
            "Write discrete observations as one-hot vectors, as foretell.FlattenedObservations(env) does."
        )
    return values if values.dtype == np.uint8 else _as_float32(values, where)


def as_actions(values: np.ndarray, where: str) -> np.ndarray:
    """Return actions as `(N, action_dim)` float32, or as `(N,)` integers where they are whole numbers by type."""
    whole = np.issubdtype(values.dtype, np.integer) or values.dtype == bool
    if whole and (values.ndim == 1 or values.shape[1:] == (1,)):
        flat = values.reshape(-1)
        return flat.astype(np.int64) if flat.dtype == bool else _native(flat)
    if values.ndim == 1:
        values = values.reshape(-1, 1)
    if values.ndim != 2 or values.shape[1] == 0:
        raise DatasetError(
            f"{where} has shape {values.shape}; expected (timesteps, action_dim), or (timesteps,) integers. "
            f"{_side_by_side(values)}Of one environment, flatten actions when recording."
        )
    return _as_float32(values, where)


def as_rewards(values: np.ndarray, where: str) -> np.ndarray:
    """Return rewards as `(N,)` float32."""
    return _as_float32(_as_vector(values, where), where)


def as_flags(values: np.ndarray, where: str) -> np.ndarray:
    """Return flags as `(N,)` bool, from any type of number: 0 is False, 1 is True, and there is nothing else."""
    flat = _as_vector(values, where)
    if flat.dtype == bool:
        return flat
    _check_number(flat, where)
    flags = np.empty(len(flat), bool)
    for start in range(0, len(flat), BLOCK_ROWS):
        part = flat[start : start + BLOCK_ROWS]
        flags[start : start + BLOCK_ROWS] = part == 1
        wrong = np.flatnonzero((part != 0) & (part != 1))
        if len(wrong):
            found, row = part[wrong[0]], start + int(wrong[0])
            raise DatasetError(f"{where} holds {found:g} in row {row}; expected flags, 0 or 1. Repair that episode.")
    return flags


def as_info(values: np.ndarray, where: str) -> np.ndarray:
    """Return an info as it is: numbers or bytes of any shape, a row a timestep."""
    if values.dtype.kind not in "fiubS":
        raise DatasetError(f"{where} has type {values.dtype}; expected numbers or bytes. Convert it when recording.")
    return values


def _as_vector(values: np.ndarray, where: str) -> np.ndarray:
    if values.ndim == 1:
        return values
    if values.ndim == 2 and values.shape[1] == 1:
        return values.reshape(-1)
    mend = _side_by_side(values)
    raise DatasetError(
        f"{where} has shape {values.shape}; expected (timesteps,), one number a timestep. {mend}".strip()
    )


def _side_by_side(values: np.ndarray) -> str:
    """Return what to do about columns of several environments; rows of one shape would interleave their episodes."""
    if values.ndim < 2:
        return ""
    rest = "".join(f", {length}" for length in values.shape[2:])
    return (
        "Of several environments side by side, (timesteps, environments, ...), swap the first two axes first, in every "
        f"column: array.swapaxes(0, 1).reshape(-1{rest}); the last timestep of each environment is an end. "
    )


def _check_number(values: np.ndarray, where: str) -> None:
    if values.dtype.kind not in "fiub":
        raise DatasetError(f"{where} has type {values.dtype}; expected real numbers. Convert it when recording.")


def _as_float32(values: np.ndarray, where: str) -> np.ndarray:
    _check_number(values, where)
    return as_float32(values)  # what it cannot hold becomes infinite, and `doctor.diagnose` names it


def _native(values: np.ndarray) -> np.ndarray:
    return values if values.dtype.isnative else values.astype(values.dtype.newbyteorder("="))


KINDS = {
    "observations": as_observations, "next_observations": as_observations, "actions": as_actions,
    "rewards": as_rewards, "terminations": as_flags, "truncations": as_flags,
}  # fmt: skip
"""What brings each column, under Foretell's name, to its type and rank, or raises `DatasetError`."""


def as_columns(columns: Mapping[str, np.ndarray], where: str) -> dict[str, np.ndarray]:
    """Return columns, under Foretell's names, as a dataset has them; those that are so already as they are.

    Raises `DatasetError` where a column cannot be what it should, or float32 cannot hold a number of it.
    """
    found = {}
    for name, values in columns.items():
        given = as_array(values, f"{where}{name!r}")  # mapped ones stay mapped
        found[name] = KINDS.get(name, as_info)(given, f"{where}{name!r}")
        if found[name].dtype != given.dtype:
            check_finite(found[name], f"{where}{name!r}")
    return found
