"""Processes killed with SIGKILL: the same command again ends with what an undisturbed one made, byte for byte.

Half of the kills of `train` and `collect` come from the process itself, around one of the file operations of a save or
in the middle of a write; the others from outside, at a random moment. `reproduce` is killed from outside, with its
workers or alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
from collections.abc import Callable, Generator, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from faults import fake_disk, runs
from faults.commands import Circumstance, Running, noting, run, succeed
from faults.fake_disk import WRITES, FakeDisk
from faults.harness import Scale, Tally, fault_check
from faults.tiny import TINY_PRESET, tiny_preset
from foretell.core.files import sha256_of

NETWORK = ("--context-length", 2, "--width", 8, "--layers", 1, "--batch-size", 4, "--log-every", 1)
KINDS = {
    "plain": (*NETWORK, "--updates", 6, "--checkpoint-every", 2),
    "told values": (
        *NETWORK, "--updates", 6, "--checkpoint-every", 2, "--condition", "value", "--values.updates", 4,
        "--values.checkpoint-every", 2, "--values.hidden-sizes", 8, "--values.batch-size", 8,
    ),
    "sac": (
        "--algorithm", "sac", "--sac.total-steps", 800, "--sac.learning-starts", 780, "--sac.hidden-sizes", 8,
        "--sac.batch-size", 8, "--sac.checkpoint-every", 200, "--sac.evaluate-every", 0,
    ),
}  # fmt: skip
"""Ways to train, each with three saves on the way."""
INTERVAL = {"plain": 2, "told values": 2, "sac": 200}
"""Updates, or timesteps, between two saves."""
TRAIN = {False: ("plain", "sac"), True: ("plain", "plain", "sac", "told values")}
"""What is trained in turn, in the quick and the full form."""


def train_command(kind: str, data: Path, out: str | Path) -> list[object]:
    return ["train", *([] if kind == "sac" else [data]), "--out", out, *KINDS[kind], "--threads", 1, "--json"]


class _Killed(BaseException):
    def __init__(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


@contextlib.contextmanager
def dying(folder: Path, number: int, how: str) -> Generator[None]:
    """Kill this process around file operation `number` below a folder."""
    with mock.patch.object(fake_disk, "Died", _Killed), FakeDisk(folder, number, how).mounted():
        yield


@contextlib.contextmanager
def counting(folder: Path, to: Path) -> Generator[None]:
    """Write down every file operation below a folder, and its path."""
    with FakeDisk(folder).mounted() as disk:
        yield
    to.write_text(json.dumps(list(zip(disk.operations, disk.paths))))


def contents(folder: Path) -> dict[str, Any]:
    """SHA-256 of every file that holds no times, and of events without them, by name."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        timed = path.name in ("manifest.json", "elapsed.json", "experiment.json", "report.html", ".lock")
        if path.is_dir() or timed or "tfevents" in name:
            continue
        if path.name == "events.jsonl":
            events = [json.loads(line) for line in path.read_text().splitlines()]
            kept = [{k: v for k, v in event.items() if k not in ("wall_seconds", "checksum")} for event in events]
            found[name] = hashlib.sha256(json.dumps(kept).encode()).hexdigest()
        else:
            found[name] = path.suffix == ".svg" or sha256_of(path)  # figures have identifiers of their own
    return found


def differing(folder: Path, whole: dict[str, Any]) -> str:
    """Say in which files a folder differs from an undisturbed one."""
    found = contents(folder)
    names = sorted(name for name in found.keys() | whole.keys() if found.get(name) != whole.get(name))
    return f"other than undisturbed: {', '.join(names)}" if names else ""


def _numbers(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().split()] if path.exists() else []


class Command:
    """One command with a folder in which it works; what it makes undisturbed, how long it takes, where it saves."""

    def __init__(self, name: str, folder: Path, words: Callable[[Path], list[object]], saves: Callable[[str], bool]):
        self.name, self.folder, self.words = name, folder, words
        at = self._place("whole")
        operations = folder / "operations.json"
        self.seconds = succeed(words(at), at).seconds
        self.whole = contents(at)
        other = self._place("counted")
        succeed(words(other), other, partial(counting, other, operations))
        assert contents(other) == self.whole, differing(other, self.whole)
        found = enumerate(json.loads(operations.read_text()), start=1)
        self.moments = [
            (number, how)
            for number, (operation, path) in found if saves(path[len(str(other)) :]) and operation != "read"
            for how in ("death before", "death after", *(["death in the middle"] if operation in WRITES else []))
        ]  # fmt: skip

    def _place(self, name: str) -> Path:
        at = self.folder / name
        at.mkdir(parents=True)
        return at

    def killed(self, number: int, rng: np.random.Generator, *, saving: bool, interval: int = 0) -> str:
        """Kill it once, run it again; say what is wrong. What is done twice must not be more than the interval."""
        at, notes = self._place(f"killed-{number}"), self.folder / f"notes-{number}"
        watched = [partial(noting, notes)] if interval else []
        if saving:
            operation, how = self.moments[rng.integers(len(self.moments))]
            what = f"{how} {operation}"
            code = run(self.words(at), at, *watched, partial(dying, at, operation, how)).code
        else:
            what, code = "at a moment", self._killed_from_outside(at, rng, watched)
        if code != -signal.SIGKILL:
            return f"{what}: exit code {code}"
        ended = run(self.words(at), at, *watched)
        wrong = f"exit code {ended.code}, {ended.said}" if ended.code else differing(at, self.whole)
        done = _numbers(notes)
        if not wrong and len(done) - len(set(done)) > interval:
            wrong = f"{len(done) - len(set(done))} repeated, saved every {interval}"
        return f"{what}: {wrong}" if wrong else ""

    def _killed_from_outside(self, at: Path, rng: np.random.Generator, watched: Sequence[Circumstance]) -> int:
        limit = self.seconds
        while True:
            running = Running(self.words(at), at, watched)
            if not running.ended_within(limit * rng.random()):
                running.send(signal.SIGKILL)
            if (code := running.end().code) or limit < self.seconds / 4:
                return code
            limit /= 2  # it was faster than before, and is done: once more, with less patience


@fault_check("kill train")
def kill_train(scale: Scale) -> tuple[int, int]:
    tally, rng = Tally(), np.random.default_rng(0)
    data = runs.make_data(scale.folder / "data.hdf5")
    commands = {
        kind: Command(
            kind, scale.folder / kind, lambda at, kind=kind: train_command(kind, data, at / "run"), _of_a_save
        )
        for kind in dict.fromkeys(TRAIN[scale.full])
    }
    for number in range(scale.pick(6, 200)):
        kind = TRAIN[scale.full][number // 2 % len(TRAIN[scale.full])]
        wrong = commands[kind].killed(number, rng, saving=number % 2 == 0, interval=INTERVAL[kind])
        tally.add(not wrong, f"{kind}, kill {number}: {wrong}")
    return tally.figures


def _of_a_save(path: str) -> bool:
    return "checkpoints" in path or "model.safetensors" in path or "replay.hdf5" in path


@fault_check("kill collect")
def kill_collect(scale: Scale) -> tuple[int, int]:
    tally, rng = Tally(), np.random.default_rng(0)
    agent = scale.folder / "agent"
    succeed(train_command("sac", scale.folder, agent), scale.folder)
    recipes: dict[str, list[object]] = {
        "random": ["random"], "sac-agent": ["sac-agent", "--agent", agent],
        "sac-replay": ["sac-replay", "--agent", agent], "policy": ["policy", "--agent", agent, "--noise", 0.1],
    }  # fmt: skip
    commands = [
        Command(
            name, scale.folder / name, saves=lambda path: True,
            words=lambda at, start=start: ["collect", *start, "--steps", 600, "--out", at / "data.hdf5", "--json"],
        )
        for name, start in list(recipes.items())[: scale.pick(1, 4)]
    ]  # fmt: skip
    for number in range(scale.pick(4, 200)):
        command = commands[number // 2 % len(commands)]
        wrong = command.killed(number, rng, saving=number % 2 == 0)
        tally.add(not wrong, f"{command.name}, kill {number}: {wrong}")
    return tally.figures


@fault_check("kill reproduce", quick=False)
def kill_reproduce(scale: Scale) -> tuple[int, int]:
    tally, rng = Tally(), np.random.default_rng(0)
    words = ["reproduce", "--preset", TINY_PRESET, "--workers", 1, "--json", "--out", "experiment"]
    (whole := scale.folder / "whole").mkdir()
    seconds = succeed(words, whole, tiny_preset).seconds
    for number in range(scale.pick(1, 10)):
        limit, killed = seconds, False
        for attempt in range(5):
            (at := scale.folder / f"killed-{number}-{attempt}").mkdir()
            running = Running(words, at, [tiny_preset])
            if killed := not running.ended_within(limit * rng.random()):
                running.send(signal.SIGKILL, group=number % 2 == 0)
            if running.end().code or killed:
                break
            limit /= 2  # it was faster than before, and is done: once more, with less patience
        ended = run(words, at, tiny_preset)
        wrong = ended.said if ended.code else differing(at, contents(whole))
        tally.add(killed and not wrong, f"kill {number}: {killed=}, {wrong}")
    return tally.figures
