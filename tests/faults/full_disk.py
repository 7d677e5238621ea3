"""The real thing: `foretell train` and `foretell collect` where files may not grow, or where system calls fail.

A case passes where the command says so in one sentence with the path and the free space and exits with 6, the last
checkpoint verifies, and the same command without the fault ends with the weights of an undisturbed run; or, where the
fault hit nothing that matters, where it exits with 0 and those weights are there.
"""

from __future__ import annotations

import os
import resource
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from faults import runs, worker
from faults.harness import Scale, Tally, fault_check
from foretell.cli.main import run_verb
from foretell.core.errors import CheckpointError, DatasetError
from foretell.core.files import sha256_of
from foretell.datasets.registry import open_dataset
from foretell.training.checkpoints import load_newest
from foretell.training.run_folder import load_run

SETTINGS = (
    "--context-length", "2", "--width", "8", "--layers", "1", "--updates", "6", "--batch-size", "4", "--log-every", "1",
    "--checkpoint-every", "2", "--threads", "1",
)  # fmt: skip
SYSTEM_CALLS = {"fsync": "EIO", "rename": "EIO", "mkdir": "ENOSPC", "write": "ENOSPC", "pwrite64": "ENOSPC"}
"""What strace makes fail, once, in the full form; with which error."""
WITHOUT_COMPILER = {"FORETELL_NATIVE": "0"}
LEAST = 16
"""Bytes of the smallest limit: Python's `tempfile`, and PyTorch with it, do not start where not even these fit."""


def train_command(data: Path, out: Path) -> list[str]:
    return ["train", str(data), "--out", str(out), *SETTINGS, "--json"]


def collect_command(out: Path) -> list[str]:
    return ["collect", "random", "--steps", "400", "--out", str(out), "--json"]


def limited(cases: Sequence[tuple[list[str], int]]) -> None:
    """In the worker: run each command in a fork in which no file may grow beyond the limit."""
    worker.run_in_forks(cases, lambda limit: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))


def run_limited(cases: list[tuple[list[str], int]]) -> list[tuple[int, str]]:
    return worker.ends_of_forks("full_disk:limited", cases)


def wrong_words(code: int, words: str, path: Path) -> str:
    """Say what is wrong with how a command ended; nothing where it was refused as it should be."""
    sentence = [line for line in words.splitlines() if line.startswith("foretell: ")]
    if code != 6 or len(sentence) != 1:  # TensorBoard's thread says what happened to it besides, in its own way
        return f"exit code {code}, said {words!r}"
    return "" if str(path) in sentence[0] and "free" in sentence[0] else f"path or free space not named: {sentence[0]}"


def wrong_run(out: Path, at_least: int) -> str:
    """Say what is wrong with a run folder after a fault: its newest checkpoint is the one before, or a newer one."""
    try:
        found = load_newest(out / "checkpoints")
    except CheckpointError as error:
        return str(error)
    update = found[1]["update"] if found else 0
    return "" if update >= at_least else f"update {update} is left, there was {at_least}"


def weights_of(out: Path) -> str | None:
    """SHA-256 of the weights of a finished run, None where they are not there or do not verify."""
    try:
        load_run(out)
    except CheckpointError:
        return None
    return sha256_of(out / "model.safetensors")


@fault_check("full disk: files that may not grow")
def limits(scale: Scale) -> tuple[int, int]:
    tally, folder = Tally(), scale.folder
    data = runs.make_data(folder / "data.hdf5")
    run_verb(train_command(data, folder / "whole"))
    run_verb(collect_command(folder / "one.hdf5"))
    whole, sizes = weights_of(folder / "whole"), sizes_of(folder / "whole", folder / "one.hdf5")
    rng = np.random.default_rng(0)
    random = sorted(int(limit) for limit in rng.integers(max(sizes), size=scale.pick(1, 60)))
    chosen = [limit for size in sizes for limit in (size - 1, size)] if scale.full else [sizes[-2] - 1]
    cases: list[tuple[Path, list[str], int]] = []
    for number, limit in enumerate([LEAST, *chosen, *random, max(sizes) + 1]):
        shutil.copytree(folder / "whole", out := folder / f"run-{number}")
        (out / "model.safetensors").unlink()
        shutil.rmtree(out / "checkpoints" / f"update-{4:012d}")
        cases += [(out, train_command(data, out), limit)]
        cases += [(out := folder / f"recording-{number}.hdf5", collect_command(out), limit)]
    for (out, _, limit), (code, words) in zip(cases, run_limited([case[1:] for case in cases])):
        wrong = "" if code == 0 and limit > LEAST else wrong_words(code, words, out)
        if out.suffix:
            good = out.exists() and _readable(out)
            wrong = wrong or ("" if good == (code == 0) else f"exit code {code}, file {good}")
            wrong = wrong or ("" if not [*folder.glob(f".{out.name}*")] else "a temporary file stayed")
        else:
            wrong = wrong or ("" if (weights_of(out) == whole) == (code == 0) else f"exit code {code}, weights differ")
            wrong = wrong or wrong_run(out, 2)
        tally.add(not wrong, f"{out.name}, limit {limit}: {wrong}")
    for out, command, _ in cases:
        run_verb(command)
        good = _readable(out) if out.suffix else weights_of(out) == whole
        tally.add(good, f"{out.name}: the same command without a limit ends otherwise than an undisturbed one")
    return tally.figures


def sizes_of(run: Path, recording: Path) -> list[int]:
    """Sizes of what is written, the smallest first."""
    files = [run / "config.json", run / "events.jsonl", run / "model.safetensors", recording]
    files += (run / "checkpoints" / f"update-{4:012d}").iterdir()
    return sorted(path.stat().st_size for path in files)


def _readable(path: Path) -> bool:
    try:
        dataset = open_dataset(path)
    except DatasetError:
        return False
    return dataset.fingerprint() == dataset.stored_fingerprint


@fault_check("full disk: system calls that fail", quick=False)
def system_calls(scale: Scale) -> tuple[int, int]:
    """With strace, where it is there and may trace. Of our own calls: a C compiler, which is asked for its version,
    would have the first of its writes fail as well."""
    tally, folder = Tally(), scale.folder
    data = runs.make_data(folder / "data.hdf5")
    wrapper = ("strace", "-f", "--seccomp-bpf", "-qq", "-o", os.devnull)
    traced = shutil.which("strace") and worker.start("full_disk:nothing", wrapper=wrapper).returncode == 0
    worker.start("full_disk:command", train_command(data, folder / "whole"), **WITHOUT_COMPILER)
    whole = weights_of(folder / "whole")
    tally.add(whole is not None, "the undisturbed run")
    cases: list[tuple[str, int]] = [(name, number) for name in SYSTEM_CALLS for number in range(1, 13)]
    for name, number in cases if traced else []:
        out = folder / f"{name}-{number}"
        error = SYSTEM_CALLS[name]
        inject = f"inject={name}:error={error}:when={number}"
        ended = worker.start(
            "full_disk:command", train_command(data, out),
            wrapper=(*wrapper, "-e", f"trace={name}", "-e", inject), **WITHOUT_COMPILER,
        )  # fmt: skip
        finished = weights_of(out) == whole
        wrong = "" if ended.returncode == 0 and finished else wrong_words(ended.returncode, ended.stderr, out)
        tally.add(not wrong and (ended.returncode == 0) == finished, f"{name} {number}: {wrong}")
        worker.start("full_disk:command", train_command(data, out), **WITHOUT_COMPILER)
        tally.add(weights_of(out) == whole, f"{name} {number}: other weights after the same command without a fault")
    return tally.figures


def nothing() -> None:
    """In the worker: whether it can be traced."""


def command(arguments: list[str]) -> None:
    """In the worker: one command line, and its exit code."""
    from foretell.cli.main import main

    sys.exit(main(arguments))
