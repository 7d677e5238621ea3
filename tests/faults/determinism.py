"""The same command twice: the same bytes. Where the promise does not hold, because something else computes, it is said.

An experiment of every stage is made again and again, each time in a process of its own: datasets, weights, records and
tables are compared byte for byte.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Generator
from functools import partial
from pathlib import Path
from unittest import mock

from faults import runs
from faults.commands import Circumstance, run, succeed
from faults.harness import Scale, Tally, fault_check
from faults.interruption import contents, train_command
from faults.tiny import TINY_PRESET, in_one_process, tiny_preset, without_figures

COMPARED = {
    "datasets": "datasets/*.hdf5", "weights": "runs/**/model.safetensors", "states": "runs/**/state.safetensors",
    "records": "**/seed-*.jsonl", "tables": "table.*",
}  # fmt: skip
"""What is compared, and where it lies in the experiment's folder."""


@fault_check("determinism: the same command twice")
def determinism(scale: Scale) -> tuple[int, int]:
    tally = Tally()
    words = ["reproduce", "--preset", TINY_PRESET, "--json", "--out", "experiment"]
    first: dict[str, object] = {}
    for number in range(scale.pick(1, 20) + 1):
        (at := scale.folder / f"time-{number}").mkdir()
        succeed(words, at, tiny_preset, in_one_process, without_figures)
        found = contents(at / "experiment")
        first = first or found
        if number:
            for kind, pattern in COMPARED.items():
                names = {str(path.relative_to(at / "experiment")) for path in (at / "experiment").glob(pattern)}
                other = [name for name in names if found[name] != first.get(name)]
                tally.add(bool(names) and not other, f"time {number}, {kind}: {other} of {len(names)}")
    return tally.figures


@contextlib.contextmanager
def _computed_by(name: str, value: str) -> Generator[None]:
    """Let versions, threads or processor be another one, as far as the run can tell."""
    from foretell.training import run_folder

    found = {**run_folder.run_versions(), name: value}
    with mock.patch.object(run_folder, "run_versions", return_value=found):
        yield


@fault_check("determinism: continued under other versions, threads or processor")
def other_machine(scale: Scale) -> tuple[int, int]:
    tally = Tally()
    data = runs.make_data(scale.folder / "data.hdf5")
    whole = scale.folder / "whole"
    words = train_command("plain", data, whole)
    succeed(words, scale.folder)
    kept = json.loads((whole / "config.json").read_text())["versions"]
    for name in ("foretell", "python", "numpy", "torch", "threads", "processor"):
        tally.add(name in kept, f"{name} is not in the run")
        for changed in (False, True) if scale.full else (name == "threads",):
            out = _begun(whole, scale.folder / f"{name}-{changed}")
            other: list[Circumstance] = [partial(_computed_by, name, "another")] if changed else []
            ended = run(train_command("plain", data, out), scale.folder, *other)
            says = f"{name} {kept[name]} there, another here" in ended.said if changed else not ended.said
            tally.add(ended.code == 0 and says, f"{name}, {changed=}: {ended}")
    return tally.figures


def _begun(whole: Path, out: Path) -> Path:
    """Copy a run as it was at its last save."""
    shutil.copytree(whole, out)
    (out / "model.safetensors").unlink()
    return out
