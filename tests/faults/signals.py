"""SIGTERM and Ctrl-C at random moments: what was done is saved, the command ends in time, and goes on to the end."""

from __future__ import annotations

import shutil
import signal
from functools import partial
from pathlib import Path

import numpy as np

from faults import runs
from faults.commands import Running, heard, noting, run, succeed
from faults.harness import Scale, Tally, fault_check
from faults.interruption import NETWORK, contents, differing
from foretell.core.errors import CheckpointError
from foretell.training.checkpoints import load_newest

SECONDS = 5.0
"""From the signal to the end."""
SAVED_AT_ANY = (*NETWORK, "--updates", 100, "--checkpoint-every", 1_000)
"""No save but the one that is asked for."""
SAVED_AT_ENDS = (
    "--algorithm", "sac", "--sac.total-steps", 1_000, "--sac.learning-starts", 900, "--sac.hidden-sizes", 8,
    "--sac.batch-size", 8, "--sac.checkpoint-every", 10_000, "--sac.evaluate-every", 0,
)  # fmt: skip
"""SAC, which saves at ends of episodes."""


class _Stoppable:
    """A training that takes a while, and what it makes undisturbed."""

    def __init__(self, folder: Path, source: list[object], flags: tuple[object, ...]):
        self.folder, self.flags = folder, ["--threads", 1, "--json", *flags]
        self.words = ["train", *source, "--out", "run"]
        (at := folder / "whole").mkdir(parents=True)
        self.seconds = succeed([*self.words, *self.flags], at).seconds
        self.whole = contents(at)

    def stopped(self, case: int, number: signal.Signals, rng: np.random.Generator) -> str:
        """Send a signal while it is at work; say what is wrong."""
        words, wait = [*self.words, *self.flags], self.seconds * rng.random()
        for attempt in range(5):
            at, notes, running = self._start(words, f"{case}-{attempt}")
            running.ended_within(wait)
            running.send(number)
            in_time = running.ended_within(SECONDS)
            ended = running.end()
            if ended.code == -number and not any(at.iterdir()):
                continue  # it had not come to the command line yet, and ended as any program does
            if ended.code or not in_time:
                break
            if wrong := differing(at, self.whole):  # all was done before the signal came, and is there
                return wrong
            wait /= 2
        if not in_time or ended.code != 128 + number:
            return f"exit code {ended.code} after {ended.seconds:.1f} s: {ended.said}"
        if f"stopped by signal {number:d}" not in ended.sentence:
            return f"said {ended.said!r}"
        wrong = self._not_saved(at / "run", [int(line) for line in notes.read_text().split()])
        again = run(words, at)
        shutil.rmtree(at / "run" / "checkpoints", ignore_errors=True)  # the undisturbed one has none
        return wrong or (again.said if again.code else "") or differing(at, self.whole)

    def _start(self, words: list[object], name: str) -> tuple[Path, Path, Running]:
        (at := self.folder / f"stopped-{name}").mkdir()
        notes = self.folder / f"notes-{name}"
        return at, notes, Running(words, at, [heard, partial(noting, notes)])

    def _not_saved(self, out: Path, done: list[int]) -> str:
        if (out / "model.safetensors").exists():
            return ""
        try:
            found = load_newest(out / "checkpoints")
        except CheckpointError as error:
            return str(error)
        saved, taken = found[1]["update"] if found else 0, done[-1] + 1 if done else 0  # none: stopped before the first
        return "" if saved == taken else f"{taken} updates done, {saved} saved"


def _stop(scale: Scale, number: signal.Signals, cases: int) -> tuple[int, int]:
    tally, rng = Tally(), np.random.default_rng(number)
    data = runs.make_data(scale.folder / "data.hdf5")
    trainings = [_Stoppable(scale.folder / "offline", [data], SAVED_AT_ANY)]
    if scale.full:
        trainings.append(_Stoppable(scale.folder / "online", [], SAVED_AT_ENDS))
    for case in range(cases):
        training = trainings[case % 4 == 3 and scale.full]
        wrong = training.stopped(case, number, rng)
        tally.add(not wrong, f"{training.folder.name}, case {case}: {wrong}")
    return tally.figures


@fault_check("sigterm")
def sigterm(scale: Scale) -> tuple[int, int]:
    return _stop(scale, signal.SIGTERM, scale.pick(2, 100))


@fault_check("ctrl-c")
def ctrl_c(scale: Scale) -> tuple[int, int]:
    return _stop(scale, signal.SIGINT, scale.pick(1, 20))
