"""Checkpoints that are whole or absent: a folder of tensors, renamed into place once its manifest is written."""

from __future__ import annotations

import hashlib
import shutil
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save, save_file
from torch import Tensor

from foretell.core.checksums import KEY, sealed
from foretell.core.errors import CheckpointError, DivergedError, ResourceError
from foretell.core.files import (
    atomic_path,
    free_space,
    make_folder,
    read_sealed_json,
    resource_errors,
    sha256_of,
    write_json,
)
from foretell.core.forms import check_form
from foretell.core.memory import asked_for
from foretell.core.system import OPEN_FILES_STAY, flush, rename
from foretell.training.tensor_files import read_safetensors

KEPT = 3
"""Newest checkpoints that stay; an older one goes only after a newer one was verified."""
_TENSORS, _MANIFEST = "state.safetensors", "manifest.json"
_MEND = "Restore it, or remove it and run the same command again, which continues from the last checkpoint."


def save_tensors(path: Path, tensors: Mapping[str, Tensor], owner: str = "") -> None:
    """Write tensors as one safetensors file, whole or not at all, with a checksum of them and of whose they are.

    `owner` is the checksum of a run's configuration. Raises `DivergedError` where a value is not finite,
    `ResourceError` where the disk is full.
    """
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise DivergedError(f"{path}: {name} is not finite; nothing was saved. Lower the learning rate.")
    kept = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        try:  # one entry of metadata: several would be written in any order, and equal runs be unequal bytes
            _write(kept, temporary, {KEY: f"{_digest(kept, owner)} {owner}"})
        except SafetensorError as error:
            raise ResourceError(f"{path}: {error}; {free_space(path)}. Free some and run again.") from error


def _write(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    if OPEN_FILES_STAY:  # `save_file` renames another file to `path`, which is open
        path.write_bytes(save(tensors, metadata))
    else:
        mode = stat.S_IMODE(path.stat().st_mode)
        save_file(tensors, path, metadata)  # which makes a file that nobody else may read
        path.chmod(mode)


def loaded(load: Callable[[], None], folder: Path) -> None:
    """Have what a checkpoint holds put in its place. Raises `CheckpointError` where it is of something else."""
    try:
        load()
    except (KeyError, TypeError, RuntimeError, ValueError, IndexError) as error:
        if asked_for(error) or "CUDA" in str(error):
            raise
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise CheckpointError(
            f"{folder}: the newest checkpoint does not fit what is trained ({reason}). Restore it, or remove that one "
            "and run the same command again, which continues from the one before."
        ) from None


def load_tensors(path: Path, owner: str | None = None) -> dict[str, Tensor]:
    """Read the tensors that `save_tensors` wrote.

    Raises `CheckpointError` where the file is missing or damaged, and where `owner` is given and is another.
    """
    if not path.exists():
        raise CheckpointError(
            f"{path}: is not there; a run that has not finished has none yet. Give the command that trains it "
            "again, and it goes on."
        )
    try:
        tensors, metadata = read_safetensors(path)
        if not isinstance(known := metadata.get(KEY), str):
            raise ValueError("no checksum of Foretell's")
        digest, _, whose = known.partition(" ")
    except (OSError, ValueError, RuntimeError) as error:
        if asked_for(error):
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path}: cannot be read ({reason}); expected the safetensors of a run.") from None
    if digest != _digest(tensors, whose):
        raise CheckpointError(f"{path}: is not what was written (its checksum does not fit). {_MEND}")
    if unfit := [name for name, one in tensors.items() if one.is_floating_point() and not one.isfinite().all()]:
        raise CheckpointError(f"{path}: {unfit[0]:.100} is not finite, which no run that was saved is. {_MEND}")
    if owner is not None and whose != owner:
        raise CheckpointError(f"{path}: belongs to a run of another configuration. {_MEND}")
    return tensors


def _digest(tensors: Mapping[str, Tensor], owner: str) -> str:
    """SHA-256 over whose tensors they are, and the name, type, shape and bytes of each."""
    digest = hashlib.sha256(owner.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"\n{name!r} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def save_checkpoint(folder: Path, update: int, state: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Path:
    """Write `folder/update-N/`, verify it, then let go of those before the newest few.

    One of this update that is there and verifies holds the same state, and stays: what is good is not replaced.
    Raises `ResourceError` where the disk is full, `CheckpointError` where what was written does not read back.
    """
    final = folder / f"update-{update:012d}"
    building = folder / f".building-{update:012d}"
    with resource_errors(final):
        make_folder(folder)
        for left in folder.glob(".building-*"):  # by a start that died here
            _remove(left)
        building.mkdir()
    save_tensors(building / _TENSORS, state)
    tensors = building / _TENSORS
    sha256 = sha256_of(tensors)
    manifest = {**facts, "update": update, "bytes": tensors.stat().st_size, "sha256": sha256}
    write_json(building / _MANIFEST, sealed(manifest))
    if final.exists() and _verifies_as(final, sha256):
        with resource_errors(final):
            _remove(building)
        return final
    with resource_errors(final):
        if final.exists():
            _remove(final)
        rename(building, final)
        flush(folder)
    _verified(final)
    let_go(folder, update)
    return final


def let_go(folder: Path, update: int) -> None:
    """Remove the checkpoints before the newest few, of which that of `update`, which verified, is the first."""
    newest = f"update-{update:012d}"
    for old in [path for path in _newest_first(folder) if path.name < newest][KEPT - 1 :]:
        with resource_errors(old):
            _remove(old)


def _remove(folder: Path) -> None:
    """Remove a checkpoint; of a link to one the link alone."""
    folder.unlink() if folder.is_symlink() else shutil.rmtree(folder)


def load_newest(
    folder: Path, expected: Mapping[str, Any] | None = None, form: Mapping[str, Any] = MappingProxyType({})
) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Return state and manifest of the newest checkpoint that verifies; None where there is none at all.

    `expected` are facts that its manifest must hold, `form` (`core.forms`) is what else it has to be like. Raises
    `CheckpointError` where there are checkpoints and not one of them verifies.
    """
    problems = []
    for path in _newest_first(folder):
        try:
            return _verified(path, expected or {}, form)
        except CheckpointError as error:
            problems.append(str(error))
    if problems:
        raise CheckpointError(f"{folder}: no checkpoint verifies. " + " ".join(problems))
    return None


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("update-*"), reverse=True)


def _verified(
    path: Path, expected: Mapping[str, Any] | None = None, form: Mapping[str, Any] = MappingProxyType({})
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return tensors and manifest of one checkpoint, or raise `CheckpointError`."""
    manifest = read_sealed_json(path / _MANIFEST)
    check_form(manifest, {**form, "update": int, "sha256": str}, str(path / _MANIFEST), _MEND)
    if path.name != f"update-{manifest.get('update', -1):012d}":
        raise CheckpointError(f"{path}: its manifest is of update {manifest.get('update')}; it was put in its place.")
    for name, value in (expected or {}).items():
        if manifest.get(name) != value:
            raise CheckpointError(f"{path}: its {name} is {manifest.get(name)!r}, expected {value!r}; another run's.")
    tensors = load_tensors(path / _TENSORS)
    if sha256_of(path / _TENSORS) != manifest["sha256"]:
        raise CheckpointError(f"{path / _TENSORS}: does not match its manifest; it was cut short or changed.")
    return tensors, manifest


def _verifies_as(path: Path, sha256: str) -> bool:
    try:
        found = _verified(path)[1]["sha256"]
    except CheckpointError:
        return False
    if found != sha256:
        raise CheckpointError(f"{path}: another state of this update is there, and whole; choose another folder.")
    return True
