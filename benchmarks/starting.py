"""What a command costs before and after its work: one update, one episode, beside loading PyTorch and nothing else."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

import foretell
from benchmarks.measuring import Options, Row, alternate, seconds

STEPS = 2_000
LOADED = [sys.executable, "-c", "import torch"]


def rows(options: Options) -> Iterator[Row]:
    """Yield seconds of whole commands."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data, run, records = folder / "random.hdf5", folder / "run", folder / "records.jsonl"
        foretell.collect_random("Pendulum-v1", STEPS, seed=0, path=data)
        command = [sys.executable, "-m", "foretell"]
        one_update = [*command, "train", str(data), "--out", str(run), "--updates", "1", "--batch-size", "4", "--json"]
        one_episode = [*command, "evaluate", str(run), "--episodes", "1", "--out", str(records), "--json"]

        def train() -> float:
            shutil.rmtree(run, ignore_errors=True)
            return _seconds(one_update)

        def evaluate() -> float:
            records.unlink(missing_ok=True)
            return _seconds(one_episode)

        yield _row("train, one update", train, 1 if options.quick else 9)
        yield _row("evaluate, one episode", evaluate, 1 if options.quick else 9)


def _row(name: str, ours: Callable[[], float], repetitions: int) -> Row:
    ours()
    found = alternate(ours, lambda: _seconds(LOADED), repetitions, higher_is_better=False)
    return Row(
        benchmark="starting", name=name, unit="s", setting={"environment": "Pendulum-v1", "steps": STEPS},
        peer_name="python -c 'import torch'", peer_version=torch.__version__, **found.fields(),
    )  # fmt: skip


def _seconds(command: list[str]) -> float:
    return seconds(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL))
