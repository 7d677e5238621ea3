"""Every file operation of a save made to fail in turn: what was good stays good, and the error is told, once.

A case is one operation of one scenario with one fault. It passes where the work so far is whole or absent afterwards,
an error became a `ResourceError` that names the path (and the free space, where that is the matter), no failed fsync
was tried again, and the same call then succeeds.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from faults.fake_disk import FAULTS, WRITES, Died, FakeDisk
from faults.harness import Scale, Tally, fault_check
from foretell.core.errors import ForetellError, ResourceError
from foretell.core.files import read_json, read_json_lines, write_json, write_json_lines
from foretell.core.run_forms import read_config
from foretell.datasets.d4rl_writer import write_dataset
from foretell.datasets.registry import open_dataset
from foretell.training.checkpoints import load_newest, load_tensors, save_checkpoint
from foretell.training.run_folder import RunFolder, read_events
from reference.making import make_dataset

CONFIG = {"kind": "sequence", "seed": 0}
QUICK = 80
"""Cases of the quick form, drawn from all of them."""
OLD, NEW = {"value": 1}, {"value": 2}


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """`prepare` makes what is there before, `act` is what is disturbed, `allowed` are the states it may leave."""

    name: str
    prepare: Callable[[Path], Any]
    act: Callable[[Path], Any]
    look: Callable[[Path], Any]
    """What a reader finds. Raises where a file is damaged."""
    before: Any
    after: Any


def _state(update: int) -> dict[str, torch.Tensor]:
    return {"weight": torch.full((200,), float(update)), "step": torch.tensor(update)}


def _save(folder: Path, *updates: int) -> None:
    for update in updates:
        save_checkpoint(folder / "checkpoints", update, _state(update), {"events": update})


def _newest(folder: Path) -> int | None:
    """The update of the newest checkpoint that verifies; its content is compared, too."""
    found = load_newest(folder / "checkpoints")
    if found is None:
        return None
    state, manifest = found
    assert torch.equal(state["weight"], _state(manifest["update"])["weight"])
    assert manifest["events"] == manifest["update"]
    return manifest["update"]


def _run(folder: Path, *, events: int) -> RunFolder:
    run = RunFolder(folder / "run", CONFIG)
    for number in range(1, events + 1):
        run.event("training", {"update": number})
    return run


def _start_run(folder: Path) -> None:
    _run(folder, events=0)


def _train(folder: Path) -> None:
    """What a start does: continue, log, save, finish."""
    run = RunFolder(folder / "run", CONFIG)
    if run.finished:
        return
    start = run.resume()
    for update in range(start[1] if start else 0, 3):
        run.event("training", {"update": update + 1})
        if update < 2:
            run.checkpoint(update + 1, _state(update + 1))
    run.finish(_state(3))


def _trained(folder: Path) -> Any:
    """How far a run is, by its own files: the update that a next start continues from, or "finished"."""
    path = folder / "run"
    if not path.exists() or not (path / "config.json").exists():
        return 0
    run = RunFolder(path, CONFIG)
    if not run.finished:
        found = run.resume()
        return 0 if found is None else found[1]
    weights = load_tensors(path / "model.safetensors", read_config(path / "config.json")["checksum"])
    assert torch.equal(weights["weight"], _state(3)["weight"])
    assert [event["update"] for event in read_events(path)] == [1, 2, 3]
    return "finished"


def _finish(folder: Path) -> None:
    RunFolder(folder / "run", CONFIG).finish(_state(3))


def _record(folder: Path, seed: int) -> None:
    write_dataset(folder / "data.hdf5", make_dataset([5, 4], seed=seed))


def _recorded(folder: Path) -> str:
    dataset = open_dataset(folder / "data.hdf5")
    assert dataset.fingerprint() == dataset.stored_fingerprint
    return dataset.fingerprint()


FIRST, SECOND = (make_dataset([5, 4], seed=seed).fingerprint() for seed in (0, 1))
SCENARIOS = [
    Scenario(
        name="the first checkpoint", prepare=lambda folder: None, act=lambda folder: _save(folder, 1), look=_newest,
        before=None, after=1,
    ),
    Scenario(
        name="the fourth checkpoint, which lets go of the first", prepare=lambda folder: _save(folder, 1, 2, 3),
        act=lambda folder: _save(folder, 4), look=_newest, before=3, after=4,
    ),
    Scenario(
        name="a checkpoint that is there already", prepare=lambda folder: _save(folder, 1),
        act=lambda folder: _save(folder, 1), look=_newest, before=1, after=1,
    ),
    Scenario(
        name="a whole run", prepare=lambda folder: None, act=_train, look=_trained, before=(0, 1, 2), after="finished",
    ),
    Scenario(
        name="JSON over JSON", prepare=lambda folder: write_json(folder / "a.json", OLD),
        act=lambda folder: write_json(folder / "a.json", NEW), look=lambda folder: read_json(folder / "a.json"),
        before=OLD, after=NEW,
    ),
    Scenario(
        name="lines over lines", prepare=lambda folder: write_json_lines(folder / "a.jsonl", [OLD] * 3),
        act=lambda folder: write_json_lines(folder / "a.jsonl", [NEW] * 4),
        look=lambda folder: read_json_lines(folder / "a.jsonl"), before=[OLD] * 3, after=[NEW] * 4,
    ),
    Scenario(
        name="a dataset over a dataset", prepare=lambda folder: _record(folder, 0),
        act=lambda folder: _record(folder, 1), look=_recorded, before=FIRST, after=SECOND,
    ),
]  # fmt: skip


def _operations(scenario: Scenario, folder: Path) -> FakeDisk:
    folder.mkdir()
    scenario.prepare(folder)
    with FakeDisk(folder).mounted() as disk:
        scenario.act(folder)
    assert scenario.look(folder) == scenario.after
    return disk


def _case(scenario: Scenario, folder: Path, number: int, how: str) -> str:
    """Run one case; return what was wrong, or nothing."""
    folder.mkdir()
    scenario.prepare(folder)
    disk = FakeDisk(folder, number, how)
    error: BaseException | None = None
    with disk.mounted():
        try:
            scenario.act(folder)
        except (Died, Exception) as caught:
            error = caught
    wrong = _wrong_error(error, how, disk, number) or _wrong_state(scenario, folder)
    if wrong:
        return wrong
    scenario.act(folder)
    if scenario.look(folder) != scenario.after:
        return "the same call did not succeed afterwards"
    left = [path.name for path in folder.rglob(".*") if path.name != ".lock"]
    return f"{left} stayed" if left and scenario.name == "a whole run" else ""


def _wrong_error(error: BaseException | None, how: str, disk: FakeDisk, number: int) -> str:
    if how.startswith("death"):
        return "" if isinstance(error, Died) else f"{error!r} in place of the end"
    if disk.operations[number - 1] == "read":
        passed_over = error is None  # what cannot be read does not verify; what is there afterwards is looked at
        told = isinstance(error, ForetellError) and disk.folder in str(error)
        return "" if passed_over or told else f"{error!r} on reading"
    if not isinstance(error, ResourceError):
        return f"{error!r} is no ResourceError: swallowed, or not told apart"
    if disk.folder not in str(error) or "free" not in str(error) or error.exit_code != 6:
        return f"path or free space are not named: {error}"
    failed = disk.paths[number - 1]
    again = [name for name, path in zip(disk.operations[number:], disk.paths[number:]) if path == failed]
    if disk.operations[number - 1] == "fsync" and ("fsync" in again or "replace" in again):
        return f"{failed} was used after its fsync had failed"
    return ""


def _wrong_state(scenario: Scenario, folder: Path) -> str:
    before = scenario.before if isinstance(scenario.before, tuple) else (scenario.before,)
    try:
        found = scenario.look(folder)
    except (ForetellError, AssertionError) as damage:
        return f"what is there is damaged: {damage!r}"
    return "" if found in (*before, scenario.after) else f"{found!r} is neither what was there nor what was to come"


def _unflushed(disk: FakeDisk) -> str:
    """Name what was renamed into place before its bytes were on the disk, or whose folder was not flushed after it."""
    steps = list(zip(disk.operations, disk.paths))
    for number, (operation, path) in enumerate(steps):
        folder = os.path.dirname(path)
        before = [place for name, place in steps[:number] if name == "fsync"]
        after = [place for name, place in steps[number + 1 : number + 4] if name == "fsync"]
        if operation in ("replace", "rename") and not any(p == path or p.startswith(path + "/") for p in before):
            return f"{path} was renamed before it was flushed"
        kept = operation in ("replace", "rename", "mkdir") and not os.path.basename(path).startswith(".building")
        if (kept or operation == "rename") and folder not in after:
            return f"{folder} was not flushed after {operation} of {path}"
    return ""


@fault_check("file operations: each of a save in turn")
def every_operation(scale: Scale) -> tuple[int, int]:
    tally, cases = Tally(), []
    with mock.patch.object(os, "fsync", return_value=None):  # there is no power to fail here, and it takes long
        for scenario in SCENARIOS:
            disk = _operations(scenario, scale.folder / "plain")
            shutil.rmtree(scale.folder / "plain")
            tally.add(not (wrong := _unflushed(disk)), f"{scenario.name}: {wrong}")
            for number, operation in enumerate(disk.operations, start=1):
                faults = [how for how in FAULTS if operation in WRITES or how not in ("torn", "death in the middle")]
                cases += [(scenario, number, operation, how) for how in faults]
        if not scale.full:
            cases = [cases[index] for index in np.random.default_rng(0).choice(len(cases), QUICK, replace=False)]
        for scenario, number, operation, how in cases:
            wrong = _case(scenario, scale.folder / "case", number, how)
            tally.add(not wrong, f"{scenario.name}, operation {number} ({operation}), {how}: {wrong}")
            shutil.rmtree(scale.folder / "case")
    return tally.figures
