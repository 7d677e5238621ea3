"""Mutated files of every format that Foretell reads: refused in our words or read, never a crash, a hang or a flood.

The cases run in a process of their own (`faults.worker`): 1 GiB of address space beyond the imports, 10 s a case.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from faults.harness import Scale, Tally, fault_check
from faults.mutations import mended_hdf5, mutate_bytes, mutate_json, mutate_safetensors
from faults.worker import Report, limit_memory, run_cases
from foretell.core.errors import ForetellError
from foretell.core.files import read_json, read_json_lines, read_sealed_json
from foretell.datasets.d4rl_writer import D4RLWriter, layout_of
from foretell.datasets.dataset import DatasetMetadata
from foretell.datasets.doctor import diagnose
from foretell.datasets.registry import open_dataset

REFUSED, READ, ESCAPED = "rox"


@fault_check("fuzzing: safetensors and JSON")
def tensors_and_json(scale: Scale) -> tuple[int, int]:
    from faults import runs  # late: workers that read HDF5 alone need no torch

    data = runs.make_data(scale.folder / "data.hdf5")
    run = runs.train(data, scale.folder / "run")
    return _count(run_cases("fuzzing:read_tensors_and_json", scale.pick(2_000, 100_000), scale.folder, run))


@fault_check("fuzzing: HDF5")
def hdf5(scale: Scale) -> tuple[int, int]:
    return _count(run_cases("fuzzing:read_hdf5", scale.pick(200, 20_000), scale.folder, scale.folder))


def _count(letters: str) -> tuple[int, int]:
    tally = Tally()
    for number, letter in enumerate(letters):
        tally.add(letter in (REFUSED, READ), f"case {number}: {letter}")
    assert REFUSED in letters, "nothing was refused: the mutations reach nothing"
    assert READ in letters, "nothing was read: the mutations are too coarse"
    return tally.figures


def read_tensors_and_json(path: str, first: int, last: int, run: str) -> None:
    """In the worker: cases `first` to `last` - 1; a third each of tensors, JSON objects and lines of JSON."""
    from foretell.training.checkpoints import load_tensors

    folder = Path(run)
    (checkpoint, *_) = sorted((folder / "checkpoints").iterdir())
    tensors = [(folder / "model.safetensors").read_bytes(), (checkpoint / "state.safetensors").read_bytes()]
    objects = [(folder / "config.json").read_text(), (checkpoint / "manifest.json").read_text()]
    lines = (folder / "events.jsonl").read_text()
    (elsewhere := Path(path).with_name("case")).mkdir(exist_ok=True)

    def make(number: int) -> tuple[Path, bytes, Callable[[Path], Any]]:
        rng = random.Random(number)
        if number % 3 == 0:
            return elsewhere / "a.safetensors", mutate_safetensors(rng, rng.choice(tensors)), load_tensors
        if number % 3 == 1:
            return (
                elsewhere / "a.json",
                mutate_json(rng, rng.choice(objects)),
                rng.choice([read_json, read_sealed_json]),
            )
        return elsewhere / "a.jsonl", mutate_json(rng, lines), read_json_lines

    _read_cases(path, range(first, last), make)


def read_hdf5(path: str, first: int, last: int, folder: str) -> None:
    """In the worker: datasets of every layout that HDF5 has, ours among them."""
    whole = [file.read_bytes() for file in _make_files(Path(folder) / "whole")]

    def make(number: int) -> tuple[Path, bytes, Callable[[Path], Any]]:
        rng = random.Random(number)
        content = mutate_bytes(rng, rng.choice(whole))
        return Path(folder) / "a.hdf5", content if rng.random() < 0.3 else mended_hdf5(content), _read_dataset

    _read_cases(path, range(first, last), make)


def _read_cases(path: str, numbers: range, make: Callable[[int], tuple[Path, bytes, Callable[[Path], Any]]]) -> None:
    report = Report(Path(path))
    limit_memory()
    for number in numbers:
        file, content, read = make(number)
        file.write_bytes(content)
        report.begin(number)
        try:
            read(file)
            letter = READ
        except ForetellError as error:
            letter = REFUSED if "\n" not in str(error) else ESCAPED
        except BaseException as error:
            letter = ESCAPED
            print(f"    case {number}: {type(error).__name__}: {str(error)[:200]}", file=sys.stderr)
        report.end(number, letter)


def _read_dataset(path: Path) -> None:
    """Read all that is in the file."""
    dataset = open_dataset(path)
    diagnose(dataset)
    dataset.fingerprint()


def _make_files(folder: Path) -> list[Path]:
    """The same small dataset in HDF5's old and new forms, in one piece, in chunks, and compressed."""
    folder.mkdir(exist_ok=True)
    rng, ends = np.random.default_rng(0), np.arange(60) % 30 == 29
    columns = {
        "observations": rng.normal(size=(60, 3)).astype(np.float32), "rewards": rng.normal(size=60).astype(np.float32),
        "actions": rng.uniform(-1, 1, (60, 1)).astype(np.float32), "terminals": np.zeros(60, bool), "timeouts": ends,
        "infos/qpos": rng.normal(size=(60, 2)),
    }  # fmt: skip
    ours = {
        name.replace("terminals", "terminations").replace("timeouts", "truncations"): columns[name] for name in columns
    }
    texts = {"metadata/environment": np.bytes_(b"Pendulum-v1"), "metadata/versions": np.bytes_(b'{"a": "b"}')}
    layouts: dict[str, dict[str, Any]] = {
        "plain": {}, "chunks": {"chunks": True}, "growing": {"chunks": True, "maxshape": None},
        "gzip": {"chunks": True, "compression": "gzip", "shuffle": True, "fletcher32": True},
        "lzf": {"chunks": True, "compression": "lzf"}, "many": {"chunks": 7, "compression": "gzip"},
    }  # fmt: skip
    paths = [folder / "ours.hdf5"]
    metadata = DatasetMetadata(environment="Pendulum-v1", seed=1)
    with D4RLWriter(paths[0], num_steps=60, layout=layout_of(ours), metadata=metadata) as writer:
        writer.append(ours)
    for form in ("earliest", "v108", "latest"):
        for name, options in layouts.items():
            paths.append(folder / f"{form}-{name}.hdf5")
            with h5py.File(paths[-1], "w", libver=form if form != "v108" else ("v108", "v108")) as file:
                for key, values in columns.items():
                    made = dict(options)
                    if "maxshape" in made:
                        made["maxshape"] = (None,) * values.ndim
                    if made.get("chunks") == 7:
                        made["chunks"] = (7, *values.shape[1:])
                    file.create_dataset(key, data=values, **made)
                for key, text in texts.items():
                    file.create_dataset(key, data=text)
                file["metadata/note"] = "a text of any length"
    return paths
