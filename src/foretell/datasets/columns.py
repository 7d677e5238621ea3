"""What Foretell makes of a column that another program wrote: one type and one rank for each, or a clear no."""

from __future__ import annotations

import numpy as np

from foretell.core.errors import DatasetError
from foretell.datasets.fingerprint import BLOCK_ROWS


def as_observations(values: np.ndarray, where: str) -> np.ndarray:
    """Return observations as `(N, *shape)`, float32, or uint8 where they are that (images). `where` names them."""
    if values.ndim < 2:
        raise DatasetError(
            f"{where} has shape {values.shape}; expected (timesteps, ...) with at least one number an observation. "
            "Write discrete observations as one-hot vectors."
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
            "Flatten actions when recording."
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


def _as_vector(values: np.ndarray, where: str) -> np.ndarray:
    if values.ndim == 1:
        return values
    if values.ndim == 2 and values.shape[1] == 1:
        return values.reshape(-1)
    raise DatasetError(f"{where} has shape {values.shape}; expected (timesteps,), one number a timestep.")


def _check_number(values: np.ndarray, where: str) -> None:
    if values.dtype.kind not in "fiub":
        raise DatasetError(f"{where} has type {values.dtype}; expected real numbers. Convert it when recording.")


def _as_float32(values: np.ndarray, where: str) -> np.ndarray:
    _check_number(values, where)
    if values.dtype == np.float32:
        return values
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and `doctor.verify` names it
        return values.astype(np.float32)


def _native(values: np.ndarray) -> np.ndarray:
    return values if values.dtype.isnative else values.astype(values.dtype.newbyteorder("="))
