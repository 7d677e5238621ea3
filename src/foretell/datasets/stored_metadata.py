"""`DatasetMetadata` as named arrays, the form in which files keep it, and back without loss."""

from __future__ import annotations

import json
from collections.abc import Mapping
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np

from foretell.core.errors import UsageError
from foretell.core.scores import checked_references
from foretell.core.settings import LARGEST_SEED, seed_of
from foretell.core.strict_json import parse_json
from foretell.datasets.metadata import DatasetMetadata


def to_arrays(metadata: DatasetMetadata) -> dict[str, np.ndarray]:
    """Return the metadata by path below `metadata/`; what is unknown is left out, text is UTF-8 of fixed length.

    NumPy's numbers and arrays among hyperparameters and versions become JSON's. Raises `UsageError` for what cannot be
    kept.
    """
    for name in ("hyperparameters", "versions", "extra"):
        if not isinstance(given := getattr(metadata, name) or {}, Mapping):
            raise UsageError(f"metadata: {name} is {given!r:.100}; expected values by name.")
    arrays = {name: np.asarray(values) for name, values in (metadata.extra or {}).items()}
    for name in ("environment", "algorithm", "description"):
        if getattr(metadata, name):
            arrays[name] = _text(getattr(metadata, name))
    if metadata.seed is not None:
        arrays["seed"] = np.asarray(_stored_seed(metadata.seed), np.int64)
    if metadata.reference_scores is not None:
        arrays["reference_scores"] = np.asarray(metadata.reference_scores, np.float64)
    for name in ("hyperparameters", "versions"):
        if given := getattr(metadata, name):
            try:
                text = json.dumps(dict(given), sort_keys=True, allow_nan=False, default=_as_json)
            except (TypeError, ValueError) as error:
                raise UsageError(
                    f"metadata: {name} cannot be kept as JSON ({error}); expected texts, finite numbers, True, False, "
                    "None, and lists and dictionaries of them."
                ) from None
            arrays[name] = _text(text)
    return arrays


def _stored_seed(seed: Any) -> int:
    """Return a seed as a file keeps it; one that was read may be below 0, as another program wrote it."""
    found = int(seed) if isinstance(seed, Integral) and not isinstance(seed, bool) else 0
    return found if -LARGEST_SEED - 1 <= found < 0 else seed_of("metadata: seed", seed)


def _as_json(value: Any) -> Any:
    """Return what JSON has for what it does not know. Raises `TypeError` where it has nothing."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} is no value of JSON")


def from_arrays(arrays: Mapping[str, np.ndarray]) -> DatasetMetadata:
    """Return the metadata that `to_arrays` stored; what another program wrote otherwise is kept under `extra`."""
    known: dict[str, Any] = {}
    extra = {}
    readers = {
        "environment": _read_text, "algorithm": _read_text, "description": _read_text, "seed": _read_seed,
        "hyperparameters": _read_json, "versions": _read_json, "reference_scores": _read_scores,
    }  # fmt: skip
    for name, values in arrays.items():
        try:
            known[name] = readers[name](values)
        except (KeyError, ValueError, RecursionError, UsageError):
            extra[name] = values
    return DatasetMetadata(**known, extra=extra)


def _text(text: str) -> np.ndarray:
    return np.asarray(np.bytes_(text.encode()))


def _read_text(values: np.ndarray) -> str:
    if values.dtype.kind != "S" or values.shape != ():
        raise ValueError("not a text")
    return bytes(values[()]).decode()


def _read_seed(values: np.ndarray) -> int:
    if values.dtype != np.int64 or values.shape != ():
        raise ValueError("not an integer as Foretell writes it")
    return int(values)


def _read_scores(values: np.ndarray) -> tuple[float, float]:
    if values.dtype != np.float64 or values.shape != (2,):
        raise ValueError("not two numbers as Foretell writes them")
    return checked_references(values.tolist())


def _read_json(values: np.ndarray) -> dict[str, Any]:
    found = parse_json(_read_text(values))
    if not isinstance(found, dict):
        raise ValueError("not a JSON object")
    return found
