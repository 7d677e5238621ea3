"""Folders that cannot be worked in: exit code 6 before anything was computed, one sentence, nothing lost.

The read-only folders and full disks are real where this process may make them: permissions that hold for the
superuser, too, and small file systems in memory that only the command sees (Linux).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
from collections.abc import Generator
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from faults import runs
from faults.commands import Circumstance, Ended, noting, run, succeed
from faults.harness import Scale, Tally, fault_check
from faults.interruption import contents, train_command

_VERSION = 0x20080522
"""Of the structures of the system call capset."""
_NEW_NAMESPACE, _READ_ONLY = 0x00020000, 1
"""CLONE_NEWNS and MS_RDONLY."""


def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def without_privileges() -> Generator[None]:
    """Take from this process the right to write where permissions forbid it: only the superuser has it."""
    header = (ctypes.c_uint32 * 2)(_VERSION, 0)
    nothing = (ctypes.c_uint32 * 6)()
    if os.geteuid() == 0 and _libc().capset(header, nothing):
        raise OSError(ctypes.get_errno(), "capset")
    yield


@contextlib.contextmanager
def small_disk(at: Path, size: int, *, read_only: bool = False) -> Generator[None]:
    """Put a file system of `size` bytes in place of a folder, with what was in it, for this process alone."""
    libc = _libc()
    kept = at.with_name(f"{at.name}.kept")
    shutil.copytree(at, kept)
    made = libc.unshare(_NEW_NAMESPACE) == 0 and libc.mount(b"none", b"/", None, 1 << 18 | 1 << 14, None) == 0
    if not made or libc.mount(b"tmpfs", os.fsencode(at), b"tmpfs", 0, f"size={size}".encode()):
        raise OSError(ctypes.get_errno(), "mount")
    shutil.copytree(kept, at, dirs_exist_ok=True)
    shutil.rmtree(kept)
    if read_only and libc.mount(b"tmpfs", os.fsencode(at), b"tmpfs", 32 | _READ_ONLY, None):
        raise OSError(ctypes.get_errno(), "mount")
    if not read_only:
        _fill(at / "filling")
    yield


def _fill(path: Path) -> None:
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as handle:
        while True:
            handle.write(bytes(4096))


def may_mount(folder: Path) -> bool:
    """Whether this process may make file systems of its own."""
    (at := folder / "trial").mkdir()
    return run(["--help"], at, partial(small_disk, at, 1 << 16)).code == 0


@contextlib.contextmanager
def free_space(at: Path, free: int | None) -> Generator[None]:
    """Let the system say that so many bytes are free below a folder; None: that it cannot say."""
    plain = shutil.disk_usage

    def disk_usage(path: Any) -> Any:
        if not str(path).startswith(str(at)):
            return plain(path)
        if free is None:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), str(path))
        return mock.Mock(free=free, used=1 << 30, total=1 << 30)

    with mock.patch.object(shutil, "disk_usage", disk_usage):
        yield


def _interrupted(whole: Path, out: Path) -> Path:
    """Copy a run as it was before its last save."""
    shutil.copytree(whole, out)
    for name in ("model.safetensors", "replay.hdf5"):
        (out / name).unlink(missing_ok=True)
    shutil.rmtree(sorted((out / "checkpoints").iterdir())[-1])
    return out


@fault_check("folder problems")
def folder_problems(scale: Scale) -> tuple[int, int]:
    tally, folder = Tally(), scale.folder
    data = runs.make_data(folder / "data.hdf5")
    kinds = ("plain", "sac", "told values") if scale.full else ("plain",)
    mounts = may_mount(folder)
    for kind in kinds:
        succeed(train_command(kind, data, folder / f"{kind}-whole"), folder)
        for state in ("new", "begun"):
            for problem in ("read-only", "read-only disk", "full disk", "no room", "unknown room"):
                if "disk" in problem and not mounts:
                    continue
                place = folder / f"{kind}-{state}-{problem}".replace(" ", "-")
                place.mkdir()
                out = place / "run" if state == "new" else _interrupted(folder / f"{kind}-whole", place / "run")
                before, notes = contents(place), place.with_suffix(".notes")
                ended = run(
                    train_command(kind, data, out), folder, *_circumstances(problem, place), partial(noting, notes)
                )
                _permit(place)
                wrong = _wrong(ended, out, notes) or ("" if _same(before, contents(place)) else "something was changed")
                tally.add(not wrong, f"{kind}, {state}, {problem}: {wrong}")
    for problem in ("read-only", "read-only disk", "full disk", "no room", "unknown room"):
        if "disk" in problem and not mounts:
            continue
        for verb in ("collect", "reproduce") if scale.full else ("collect",):
            (place := folder / f"{verb}-{problem}".replace(" ", "-")).mkdir()
            out = place / "data.hdf5" if verb == "collect" else place / "experiment"
            words = {"collect": ["random", "--steps", 400], "reproduce": ["--quick", "--workers", 1]}[verb]
            ended = run([verb, *words, "--out", out, "--json"], folder, *_circumstances(problem, place))
            _permit(place)
            wrong = _wrong(ended, out, place / "none") or ("" if not [*place.rglob("*.hdf5")] else "something is left")
            tally.add(not wrong, f"{verb}, {problem}: {wrong}")
    return tally.figures


def _circumstances(problem: str, place: Path) -> list[Circumstance]:
    if problem == "read-only":
        for path in (place, *place.rglob("*")):
            if path.is_dir():
                path.chmod(0o555)
        return [without_privileges]
    if problem in ("read-only disk", "full disk"):
        return [partial(small_disk, place, 1 << 21, read_only=problem == "read-only disk")]
    return [partial(free_space, place, 4096 if problem == "no room" else None)]


def _permit(place: Path) -> None:
    for path in (place, *place.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)


def _wrong(ended: Ended, out: Path, notes: Path) -> str:
    if notes.exists() and notes.read_text():
        return "something was computed"
    if ended.code != 6 or not ended.sentence:
        return f"exit code {ended.code}, said {ended.said!r}"
    return "" if str(out) in ended.sentence else f"{out} is not named: {ended.sentence}"


def _same(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Whether all that was there is as it was; a new run may have its configuration."""
    return {name: value for name, value in after.items() if name in before or "config" not in name} == before
