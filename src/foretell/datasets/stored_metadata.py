"""`DatasetMetadata` as named arrays, the form in which files keep it, and back without loss."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from foretell.core.files import parse_json
from foretell.datasets.dataset import DatasetMetadata


def to_arrays(metadata: DatasetMetadata) -> dict[str, np.ndarray]:
    """Return the metadata by path below `metadata/`; what is unknown is left out, text is UTF-8 of fixed length."""
    arrays = {name: np.asarray(values) for name, values in metadata.extra.items()}
    for name in ("environment", "algorithm", "description"):
        if getattr(metadata, name):
            arrays[name] = _text(getattr(metadata, name))
    if metadata.seed is not None:
        arrays["seed"] = np.asarray(metadata.seed, np.int64)
    for name in ("hyperparameters", "versions"):
        if getattr(metadata, name):
            arrays[name] = _text(json.dumps(dict(getattr(metadata, name)), sort_keys=True, allow_nan=False))
    return arrays


def from_arrays(arrays: Mapping[str, np.ndarray]) -> DatasetMetadata:
    """Return the metadata that `to_arrays` stored; what another program wrote otherwise is kept under `extra`."""
    known: dict[str, Any] = {}
    extra = {}
    readers = {
        "environment": _read_text, "algorithm": _read_text, "description": _read_text, "seed": _read_seed,
        "hyperparameters": _read_json, "versions": _read_json,
    }  # fmt: skip
    for name, values in arrays.items():
        try:
            known[name] = readers[name](values)
        except (KeyError, ValueError, RecursionError):
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


def _read_json(values: np.ndarray) -> dict[str, Any]:
    found = parse_json(_read_text(values))
    if not isinstance(found, dict):
        raise ValueError("not a JSON object")
    return found
