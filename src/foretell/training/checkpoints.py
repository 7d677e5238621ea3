"""Checkpoints that are whole or absent: a folder of tensors, renamed into place once its manifest is written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from foretell.core.errors import CheckpointError, DivergedError
from foretell.core.files import atomic_path, read_json, resource_errors, sha256_of, write_json

KEPT = 3
"""Newest checkpoints that stay; an older one goes only after a newer one was verified."""
_TENSORS, _MANIFEST = "state.safetensors", "manifest.json"


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors as one safetensors file, whole or not at all. Raises `DivergedError` where one is not finite."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise DivergedError(f"{path}: {name} is not finite; nothing was saved. Lower the learning rate.")
    with atomic_path(path) as temporary:
        save_file(
            {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()},
            temporary,
            metadata=dict(metadata or {}),
        )


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file. Raises `CheckpointError` where it is missing or damaged."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error}); expected the safetensors of a run.") from None


def save_checkpoint(folder: Path, update: int, state: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Path:
    """Write `folder/update-N/`, verify it, then let go of all but the newest few."""
    final = folder / f"update-{update:012d}"
    building = folder / f".building-{update:012d}"
    with resource_errors(final):
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(parents=True)
    save_tensors(building / _TENSORS, state)
    tensors = building / _TENSORS
    manifest = {**facts, "update": update, "bytes": tensors.stat().st_size, "sha256": sha256_of(tensors)}
    write_json(building / _MANIFEST, manifest)
    with resource_errors(final):
        shutil.rmtree(final, ignore_errors=True)
        os.rename(building, final)
    _verify(final)
    for old in _newest_first(folder)[KEPT:]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def load_newest(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Return state and manifest of the newest checkpoint that verifies; None where there is none at all.

    Raises `CheckpointError` where there are checkpoints and every one of them is damaged.
    """
    found = _newest_first(folder)
    problems = []
    for path in found:
        try:
            return load_tensors(path / _TENSORS), _verify(path)
        except CheckpointError as error:
            problems.append(str(error))
    if problems:
        raise CheckpointError(f"{folder}: no checkpoint verifies. " + " ".join(problems))
    return None


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("update-*"), reverse=True)


def _verify(path: Path) -> dict[str, Any]:
    manifest = read_json(path / _MANIFEST)
    tensors = path / _TENSORS
    if not isinstance(manifest, dict):
        raise CheckpointError(f"{path / _MANIFEST}: holds no JSON object; expected what Foretell wrote.")
    if not tensors.exists() or sha256_of(tensors) != manifest.get("sha256"):
        raise CheckpointError(f"{tensors}: does not match its manifest; it was cut short or changed.")
    return manifest


def optimizer_tensors(prefix: str, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Flatten an Adam-like optimiser's state to named tensors."""
    states = optimizer.state_dict()["state"]
    return {f"{prefix}/{index}/{name}": value for index, state in states.items() for name, value in state.items()}


def load_optimizer_tensors(prefix: str, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` took."""
    states: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith(prefix + "/"):
            index, name = key.removeprefix(prefix + "/").split("/")
            states.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})
