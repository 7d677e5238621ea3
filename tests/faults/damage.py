"""Bit flips, truncations and swapped files in every artefact: each is refused, or what is read is what was written."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from faults import runs
from faults.harness import Scale, Tally, fault_check
from foretell.cli.collect import Collect
from foretell.core.errors import ForetellError
from foretell.core.files import read_json_lines
from foretell.datasets.dataset import Dataset
from foretell.datasets.fingerprint import unchanged
from foretell.datasets.registry import open_dataset
from foretell.facade.source import Source
from foretell.training.checkpoints import load_newest
from foretell.training.run_folder import RunFolder, load_run, read_events

EVERY_BYTE = 1 << 16
BEYOND = 10_000
Load = Callable[[], Any]


def damaged(content: bytes, scale: Scale, quick: int) -> Iterator[tuple[str, bytes]]:
    """Yield damaged contents, each with a word for it."""
    rng = np.random.default_rng(0)
    if scale.full:
        places = list(range(min(len(content), EVERY_BYTE)))
        if len(content) > EVERY_BYTE:
            places += rng.integers(EVERY_BYTE, len(content), BEYOND).tolist()
    else:
        places = np.unique(rng.integers(len(content), size=quick)).tolist()
    for place in places:
        bit = int(rng.integers(8))
        yield f"bit {bit} of byte {place}", content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :]
    cuts = {0, 1, len(content) // 2, len(content) - 1}
    if content.endswith(b"\n"):  # lines: cut where each ends, too
        cuts |= {place + 1 for place, byte in enumerate(content[:-1]) if byte == ord("\n")}
    cuts |= set(rng.integers(len(content), size=scale.pick(quick // 8, 2_000)).tolist())
    for cut in sorted(cuts):
        yield f"cut to {cut} bytes", content[:cut]
    for _ in range(scale.pick(quick // 8, 500)):
        start, size = int(rng.integers(len(content))), 1 << int(rng.integers(1, 10))
        yield f"{size} zeros from {start}", (content[:start] + bytes(size) + content[start + size :])[: len(content)]


def judge(tally: Tally, name: str, load: Load, original: Any) -> None:
    """Count a pass where the damage is refused in our words, or what is read equals the original."""
    try:
        found = load()
    except ForetellError as error:
        tally.add("\n" not in str(error), f"{name}: {error}")
    except Exception as error:
        tally.add(False, f"{name}: {type(error).__name__}: {error}")
    else:
        tally.add(same(found, original), f"{name}: accepted, and different")


def try_damages(tally: Tally, path: Path, load: Load, scale: Scale, quick: int) -> None:
    """Damage one file in every way, then put it back."""
    content, original = path.read_bytes(), copy.deepcopy(load())
    for word, bad in damaged(content, scale, quick):
        path.write_bytes(bad)
        judge(tally, f"{path.name}, {word}", load, original)
    path.write_bytes(content)
    tally.add(same(load(), original), f"{path.name}: put back, and not the same")


def try_swap(tally: Tally, path: Path, other: Path, load: Load) -> None:
    """Put another's file or folder into a place, then put back what was there. It must be refused."""
    kept = path.with_name(f".kept-{path.name}")
    path.rename(kept)
    (shutil.copytree if other.is_dir() else shutil.copy)(other, path)
    try:
        load()
    except ForetellError:
        tally.add(True, "")
    else:
        tally.add(False, f"{path} was taken for good; it is a copy of {other}")
    (shutil.rmtree if path.is_dir() else Path.unlink)(path)
    kept.rename(path)


def same(one: Any, other: Any) -> bool:
    """Whether two things that were read are equal, arrays and tensors by their bytes."""
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if hasattr(one, "dtype"):
        return (one.dtype, one.shape) == (other.dtype, other.shape) and bytes_of(one) == bytes_of(other)
    return type(one) is type(other) and one == other


def bytes_of(values: Any) -> bytes:
    return np.asarray(values).tobytes()


def everything(dataset: Dataset) -> dict[str, Any]:
    """All that a dataset says, in memory."""
    metadata = dataset.metadata
    return {
        "columns": {name: np.array(values) for name, values in dataset.columns().items()},
        "ends": np.array(dataset.episode_ends), "extras": dict(dataset.extras), "extra": dict(metadata.extra),
        "notes": dataset.notes, "name": dataset.name,
        "metadata": [metadata.environment, metadata.algorithm, metadata.seed, metadata.description],
        "settings": [dict(metadata.hyperparameters), dict(metadata.versions)],
    }  # fmt: skip


def for_training(path: Path) -> dict[str, Any]:
    """What training does with a dataset before its first update."""
    return everything(Source.of(path, None, None, None).data)


def checked(path: Path) -> dict[str, Any]:
    """Of what training does, the part that notices damage: it is quick, and can be done for every byte."""
    return everything(unchanged(open_dataset(path)))


@fault_check("damage: dataset")
def dataset(scale: Scale) -> tuple[int, int]:
    tally = Tally()
    path = runs.make_data(scale.folder / "data.hdf5", steps=scale.pick(400, 2_000))
    other = runs.make_data(scale.folder / "other.hdf5", seed=1, steps=scale.pick(400, 2_000))
    try_damages(tally, path, lambda: checked(path), scale, 250)
    try_damages(tally, path, lambda: for_training(path), replace(scale, full=False), 60)
    for name in ("data.hdf5", "data.request.json"):
        try_swap(tally, scale.folder / name, other.with_suffix(name.removeprefix("data")), lambda: for_training(path))
    run = runs.train(path, scale.folder / "run", stop_at=3)
    path.with_suffix(".request.json").unlink()
    try_swap(tally, path, other, lambda: runs.train(path, run))
    return tally.figures


@fault_check("damage: the request beside a dataset")
def request(scale: Scale) -> tuple[int, int]:
    tally = Tally()
    path = runs.make_data(scale.folder / "data.hdf5")
    again = Collect(recipe="random", steps=400, out=path, json=True)
    asked = path.with_suffix(".request.json")
    content = asked.read_bytes()

    def collect() -> Any:
        return again.run(), asked.read_bytes() == content, everything(open_dataset(path))

    try_damages(tally, asked, collect, scale, 60)
    return tally.figures


@fault_check("damage: checkpoint")
def checkpoint(scale: Scale) -> tuple[int, int]:
    tally = Tally()
    data = runs.make_data(scale.folder / "data.hdf5")
    folders = [
        runs.train(data, scale.folder / f"run-{seed}", seed=seed, stop_at=3, width=scale.pick(8, 48)) for seed in (0, 1)
    ]
    for folder in folders:
        shutil.rmtree(folder / "checkpoints" / f"update-{2:012d}")
    ours, theirs = (folder / "checkpoints" / f"update-{3:012d}" for folder in folders)
    configuration = load_newest(ours.parent)[1]["configuration"]

    def load() -> Any:
        return load_newest(ours.parent, {"configuration": configuration})

    try_damages(tally, ours / "manifest.json", load, scale, 100)
    try_damages(tally, ours / "state.safetensors", load, scale, 200)
    for name in ("manifest.json", "state.safetensors"):
        try_swap(tally, ours / name, theirs / name, load)
    try_swap(tally, ours, theirs, load)
    later = ours.with_name(f"update-{5:012d}")
    shutil.copytree(ours, later)  # an older state in a newer one's place is passed over
    tally.add(load()[1]["update"] == 3, "a copy under a later name was taken for it")
    return tally.figures


@fault_check("damage: weights and configuration")
def finished_run(scale: Scale) -> tuple[int, int]:
    tally = Tally()
    data = runs.make_data(scale.folder / "data.hdf5")
    ours, theirs = (
        runs.train(data, scale.folder / f"run-{seed}", seed=seed, width=scale.pick(8, 48)) for seed in (0, 1)
    )
    for name in ("model.safetensors", "config.json"):
        try_damages(tally, ours / name, lambda: load_run(ours), scale, 200)
        try_swap(tally, ours / name, theirs / name, lambda: load_run(ours))
    config = dict(load_run(ours)[0])
    with (ours / "model.safetensors").open("r+b") as file:  # training again must not say that all is done
        file.seek(-1, 2)
        file.write(b"\0")
    judge(tally, "a damaged model counts as finished", lambda: RunFolder(ours, config).finished, None)
    return tally.figures


@fault_check("damage: events and evaluations")
def lines(scale: Scale) -> tuple[int, int]:
    tally = Tally()
    data = runs.make_data(scale.folder / "data.hdf5")
    ours, theirs = (runs.train(data, scale.folder / f"run-{seed}", seed=seed) for seed in (0, 1))
    records = [runs.evaluate(run) for run in (ours, theirs)]
    loads = {"events.jsonl": lambda: read_events(ours), "evaluations.jsonl": lambda: read_json_lines(records[0])}
    for name, load in loads.items():
        try_damages(tally, ours / name, load, scale, 120)
        try_swap(tally, ours / name, theirs / name, load)
    stopped = runs.train(data, scale.folder / "stopped", stop_at=5)
    events = stopped / "events.jsonl"
    counted = load_newest(stopped / "checkpoints")[1]["events"]
    config = load_config(stopped)

    def resumed() -> Any:
        found = read_json_lines(events, first=counted)
        RunFolder(stopped, config).resume()
        return found

    try_damages(tally, events, resumed, scale, 40)
    try_swap(tally, events, theirs / "events.jsonl", resumed)
    return tally.figures


def load_config(run: Path) -> dict[str, Any]:
    """The configuration of a run that may be unfinished, as training is given it."""
    from foretell.core.files import read_sealed_json

    config = read_sealed_json(run / "config.json")
    return {name: value for name, value in config.items() if name not in ("checksum", "versions")}
