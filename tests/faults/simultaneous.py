"""Several processes on one run folder: one works, the others are told at once; a reader never sees half of a file."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path

from faults import runs
from faults.commands import PATIENCE, Running, after, heard
from faults.harness import Scale, Tally, fault_check
from faults.interruption import NETWORK
from foretell.core.errors import CheckpointError
from foretell.core.files import read_sealed_json
from foretell.training.checkpoints import load_newest
from foretell.training.run_folder import load_run, read_events

STARTS = 8
SECONDS = 2.0
"""From the start of all to the refusal of the last."""
ENDLESS = (*NETWORK, "--updates", 1_000_000, "--checkpoint-every", 1_000_000, "--threads", 1, "--json")


@fault_check("simultaneous starts")
def simultaneous_starts(scale: Scale) -> tuple[int, int]:
    tally = Tally()
    data = runs.make_data(scale.folder / "data.hdf5")
    for number in range(scale.pick(1, 20)):
        (at := scale.folder / f"round-{number}").mkdir()
        out, gate = at / "run", at / "gate"
        words = ["train", data, "--out", out, *ENDLESS]
        running = [Running(words, at, [heard, partial(after, gate)]) for _ in range(STARTS)]
        time.sleep(0.2)  # all wait at the gate, or are about to
        gate.touch()
        began, left, refused = time.monotonic(), {one.sentinel: one for one in running}, []
        while len(left) > 1 and time.monotonic() - began < PATIENCE:
            for sentinel in wait(list(left), timeout=1):
                refused.append((time.monotonic() - began, left.pop(sentinel).end()))  # type: ignore[arg-type]
        for seconds, ended in refused:
            wrong = ended.code != 7 or str(out) not in ended.sentence or seconds > SECONDS
            tally.add(not wrong, f"round {number}: {seconds:.2f} s, {ended}")
        for one in left.values():
            one.send(signal.SIGTERM)
            ended = one.end()
            tally.add(ended.code == 143, f"round {number}, the one at work: {ended}")
    return tally.figures


@fault_check("simultaneous starts: from nothing", quick=False)
def cold_starts(scale: Scale) -> tuple[int, int]:
    """As a person starts them: Python and all that it imports are loaded eight times over, and count."""
    tally = Tally()
    data = runs.make_data(scale.folder / "data.hdf5")
    for number in range(scale.pick(1, 10)):
        out = scale.folder / f"cold-{number}"
        words = [sys.executable, "-m", "foretell", "train", str(data), "--out", str(out), *map(str, ENDLESS)]
        began = time.monotonic()
        running = [
            subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) for _ in range(STARTS)
        ]
        left, refused = list(running), []
        while len(left) > 1 and time.monotonic() - began < PATIENCE:
            for one in [one for one in left if one.poll() is not None]:
                left.remove(one)
                refused.append((time.monotonic() - began, one.returncode, one.communicate()[1]))
            time.sleep(0.005)
        for seconds, code, said in refused:
            wrong = code != 7 or str(out) not in said or seconds > SECONDS
            tally.add(not wrong, f"round {number}: {seconds:.2f} s, exit code {code}, {said!r}")
        for one in left:
            one.kill()
            one.communicate()
            tally.add(one.returncode == -signal.SIGKILL, f"round {number}, the one at work: {one.returncode}")
    return tally.figures


@fault_check("reader during training")
def reader(scale: Scale) -> tuple[int, int]:
    """All that a run keeps is read again and again while it trains; a run that ends is followed by the next."""
    tally, reads = Tally(), scale.pick(200, 10_000)
    data = runs.make_data(scale.folder / "data.hdf5")
    number, seen = 0, {"events": 0, "checkpoint": 0}
    while tally.total < reads:
        out = scale.folder / f"run-{number}"
        words = [
            "train",
            data,
            "--out",
            out,
            *NETWORK,
            "--updates",
            150,
            "--checkpoint-every",
            1,
            "--threads",
            1,
            "--json",
        ]
        running = Running(words, scale.folder)
        while not running.ended_within(0) and tally.total < reads:
            for what, wrong in _read(out, seen).items():
                tally.add(not wrong, f"{out.name}, {what}: {wrong}")
        if tally.total >= reads:
            running.send(signal.SIGTERM)
        running.end()
        seen, number = {"events": 0, "checkpoint": 0}, number + 1
    return tally.figures


def _read(out: Path, seen: dict[str, int]) -> dict[str, str]:
    """Read what is there, as whoever looks at a run does; say what is wrong with each: damaged, or less than before."""
    found: dict[str, str] = {}
    for what, path, read in (
        ("configuration", out / "config.json", lambda: read_sealed_json(out / "config.json") and 0),
        ("events", out / "events.jsonl", lambda: len(read_events(out))),
        ("checkpoint", out / "checkpoints", lambda: _newest(out)),
        ("weights", out / "model.safetensors", lambda: load_run(out) and 0),
    ):
        if not path.exists():
            continue
        try:
            there = read()
        except CheckpointError as error:
            found[what] = str(error)
            continue
        found[what] = "" if there >= seen.get(what, 0) else f"{there} after {seen[what]}"
        seen[what] = there
    return found


def _newest(out: Path) -> int:
    found = load_newest(out / "checkpoints")
    return found[1]["update"] if found else 0
