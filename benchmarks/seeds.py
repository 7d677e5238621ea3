"""Eight seeds of a small model: all of them at once, beside one run after another on all cores."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import torch

import foretell
from benchmarks.measuring import Options, Row, alternate
from foretell.cli.train import Train
from foretell.core.files import sha256_of
from foretell.presets.league import MODEL, TRAINING

SEEDS, UPDATES, STEPS = 8, 1_000, 20_000
REPETITIONS = 3
BOUND = 2.0


def rows(options: Options) -> Iterator[Row]:
    """Yield the seconds of both ways, as commands and without Python's starts, and check that the weights are the same.

    What starts Python once a seed is what a shell's loop does; without its starts, our side still starts its workers.
    """
    seeds, updates, repetitions = (2, 20, 1) if options.quick else (SEEDS, UPDATES, REPETITIONS)
    training = replace(TRAINING, updates=updates, evaluate_every=0)
    with tempfile.TemporaryDirectory() as folder:
        timing = _Timing(Path(folder), training, seeds)
        commands = alternate(timing.one_command, timing.a_command_each, repetitions, higher_is_better=False)
        calls = alternate(timing.together, timing.one_after_another, repetitions, higher_is_better=False)
        same = timing.same_weights()
    peers = {
        "one command": (commands, "a command for each seed, all cores each"),
        "start to end": (calls, "one run after another, all cores each"),
    }
    for name, (comparison, peer) in peers.items():
        found = comparison.fields()
        yield Row(
            benchmark="seeds", name=f"{seeds} seeds, {name}", unit="s", **found,
            peer_name=peer, peer_version=torch.__version__,
            setting={**asdict(MODEL), "updates": updates, "batch_size": training.batch_size, "steps": STEPS,
                     "workers": os.cpu_count(), "threads": 1},
            bound=f"at least {BOUND:g} times faster", holds=found["ratio"] >= BOUND,
            extra={"same_weights_as_alone_on_one_thread": same},
        )  # fmt: skip


class _Timing:
    def __init__(self, folder: Path, training: foretell.TrainingConfig, seeds: int):
        self.folder, self.training, self.seeds = folder, training, seeds
        self.data = folder / "random.hdf5"
        foretell.collect_random("Pendulum-v1", STEPS, seed=0, path=self.data)

    def together(self) -> float:
        shutil.rmtree(self.folder / "together", ignore_errors=True)
        started = time.perf_counter()
        self._verb("together").run()
        return time.perf_counter() - started

    def one_command(self) -> float:
        return self._run("command", [self._command("command", 0, "--seeds", f"0..{self.seeds - 1}")])

    def a_command_each(self) -> float:
        each = [self._command(f"each/seed-{seed}", seed, "--seed", str(seed)) for seed in range(self.seeds)]
        return self._run("each", each)

    def _verb(self, name: str) -> Train:
        return Train(
            dataset=str(self.data), out=self.folder / name, seeds=f"0..{self.seeds - 1}", model=MODEL,
            training=self.training, json=True,
        )  # fmt: skip

    def _command(self, name: str, seed: int, *seeds: str) -> list[str]:
        """Return the command line of a seed, with other flags in the place of its folder, seed and threads."""
        flags = list(self._verb(name).arguments(seed))
        for given in ("--out", "--seed", "--threads"):
            at = flags.index(given)
            del flags[at : at + 2]
        return [sys.executable, "-m", "foretell", *flags, "--out", str(self.folder / name), "--json", *seeds]

    def _run(self, name: str, commands: list[list[str]]) -> float:
        shutil.rmtree(self.folder / name, ignore_errors=True)
        started = time.perf_counter()
        for command in commands:
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - started

    def one_after_another(self) -> float:
        shutil.rmtree(self.folder / "alone", ignore_errors=True)
        started = time.perf_counter()
        for seed in range(self.seeds):
            self._alone(seed, "alone")
        return time.perf_counter() - started

    def same_weights(self) -> bool:
        """Whether the first seed's weights are, bit for bit, those of a run by itself on one thread."""
        available = torch.get_num_threads()
        torch.set_num_threads(1)
        self._alone(0, "check")
        torch.set_num_threads(available)
        found = [self.folder / name / "seed-0" / "model.safetensors" for name in ("together", "check")]
        return sha256_of(found[0]) == sha256_of(found[1])

    def _alone(self, seed: int, name: str) -> None:
        foretell.train(self.data, self.folder / name / f"seed-{seed}", model=MODEL, training=self.training, seed=seed)
