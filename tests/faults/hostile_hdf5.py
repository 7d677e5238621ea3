"""Fifty HDF5 files made to do harm: each is refused before anything is done, and what they point to is never opened.

The canary is a pipe without a writer: opening it would wait forever, and the watchdog would say so. In the full form
the system calls are looked at besides, where strace may trace.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import h5py
import numpy as np

from faults import hostile_content  # noqa: F401  registers its cases
from faults.harness import Scale, Tally, fault_check
from faults.hostile_links import HOSTILE, STEPS, good_rewards
from faults.worker import Report, limit_memory, run_cases, start
from foretell.core.errors import DatasetError
from foretell.datasets.registry import open_dataset

REFUSED, TAKEN, ESCAPED = "rtx"
BEGINNINGS = {"a user block before the file": 512, "a long user block": 8192}
"""Files that begin with something else: a script, say, that another program would run."""


def _columns() -> dict[str, np.ndarray]:
    return {
        "observations": np.ones((STEPS, 2), np.float32), "actions": np.ones((STEPS, 1), np.float32),
        "terminals": np.zeros(STEPS, bool), "timeouts": np.arange(STEPS) == STEPS - 1,
    }  # fmt: skip


def build_all(folder: Path, canary: Path) -> list[Path]:
    """Write every file; return their paths."""
    return [build(name, folder, canary) for name in (*HOSTILE, *BEGINNINGS)]


def build(name: str, folder: Path, canary: Path) -> Path:
    """Write the file of this name; return its path."""
    path = folder / f"{name.replace(' ', '-')}.hdf5"
    with h5py.File(path, "w", libver=("earliest", "v114"), userblock_size=BEGINNINGS.get(name, 0)) as file:
        for key, values in _columns().items():
            file[key] = values
        HOSTILE.get(name, lambda made, _: good_rewards(made))(file, canary)
    if name in BEGINNINGS:
        with path.open("r+b") as handle:
            handle.write(b"#!/bin/sh\n")
    return path


def open_all(path: str, first: int, last: int, folder: str) -> None:
    """In the worker: open each file as training would."""
    report = Report(Path(path))
    limit_memory()
    for number in range(first, last):
        report.begin(number)
        file = Path((Path(folder) / "list").read_text().splitlines()[number])
        try:
            open_dataset(file)
            letter = TAKEN
        except DatasetError as error:
            plain = str(file) in str(error) and str(error).isprintable() and len(str(error)) < 600
            letter = REFUSED if plain and error.exit_code == 3 else ESCAPED
            print(f"{file.stem}: {str(error).removeprefix(str(file))!r:.150}")
        except Exception as error:
            letter = ESCAPED
            print(f"    {file.stem}: {type(error).__name__}: {error}", file=sys.stderr)
        report.end(number, letter)


@fault_check("hostile HDF5 files")
def refused(scale: Scale) -> tuple[int, int]:
    tally, folder = Tally(), scale.folder
    for name in ("canary", "libcanary.so"):  # the second lies where HDF5 is told to look for plug-ins
        os.mkfifo(folder / name)
    paths = build_all(folder, folder / "canary")
    (folder / "list").write_text("\n".join(map(str, paths)))
    letters = run_cases("hostile_hdf5:open_all", len(paths), folder, folder, HDF5_PLUGIN_PATH=str(folder))
    for file, letter in zip(paths, letters):
        tally.add(letter == REFUSED, f"{file.stem}: {letter}")
    if scale.full and shutil.which("strace"):
        log = folder / "calls"
        wrapper = ("strace", "-f", "--seccomp-bpf", "-qq", "-e", "trace=open,openat,openat2", "-o", str(log))
        ended = start(
            "hostile_hdf5:open_all", folder / "again", 0, len(paths), folder, wrapper=wrapper,
            HDF5_PLUGIN_PATH=str(folder),
        )  # fmt: skip
        if ended.returncode == 0:
            calls = log.read_text()
            tally.add("canary" not in calls, "a canary was opened")
            tally.add(all(str(file) in calls for file in paths), "strace saw nothing")
    return tally.figures
