"""Memory: how much training on a large file takes, and what is said where less than that is allowed.

The first check reads how much anonymous memory a process holds (what the file itself occupies of the page cache does
not count), from another process, while it trains. The second one lets commands run where address space, or data, is
limited: each ends well, or says in one sentence that memory is full and exits with 6.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from faults import runs, worker
from faults.full_disk import SETTINGS
from faults.harness import Scale, Tally, fault_check

BOUND = 512
"""MiB of anonymous memory that training may take beyond what the imports have."""
BYTES_PER_STEP = 34
EPISODES = 5_000
"""Different ones in the file, of 200 timesteps; it holds them again and again."""
PAUSE = 0.002
LIMITS = (8, 16, 32, 128)
"""MiB more than the imports have. With 2 a process cannot even grow its stack, and ends by a signal."""
KINDS = {"address space": resource.RLIMIT_AS, "data": resource.RLIMIT_DATA}


def write_large(path: Path, steps: int) -> Path:
    """Write `steps` timesteps of Pendulum-v1 as another program would: without a seal, and without ends."""
    block = _recorded(path.with_suffix(".block"))
    with h5py.File(path, "w") as file:
        file["metadata/environment"] = np.bytes_(b"Pendulum-v1")
        for name, values in block.items():
            column = file.create_dataset(name, (steps, *values.shape[1:]), values.dtype)
            for start in range(0, steps, len(values)):
                column[start : start + len(values)] = values[: steps - start]
    return path


def _recorded(folder: Path) -> dict[str, np.ndarray]:
    from foretell.collection.recipes import collect_random

    folder.mkdir()
    found = collect_random("Pendulum-v1", 200 * EPISODES, 0, folder / "block.hdf5")
    names = {"terminations": "terminals", "truncations": "timeouts"}
    block = {names.get(name, name): np.array(values) for name, values in found.columns().items() if "/" not in name}
    shutil.rmtree(folder)
    return block


def anonymous(process: int | str) -> float:
    """MiB of anonymous memory that a process holds; 0 where it has ended."""
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("RssAnon")), 0.0)


def train_when_imported(ready: str, warm_up: Sequence[str], command: Sequence[str]) -> None:
    """In the worker: run a small command, so that all is imported; say what that took; run the command."""
    import torch

    from foretell.cli.main import main

    torch.set_num_threads(1)
    with contextlib.redirect_stdout(io.StringIO()):
        assert main(list(warm_up)) == 0
        Path(ready).write_text(str(anonymous("self")))
        sys.exit(main(list(command)))


def grown(folder: Path, warm_up: list[str], command: list[str]) -> tuple[int, float]:
    """Return the exit code of a command, and MiB of anonymous memory at its peak beyond the imports'."""
    ready, said = folder / "ready", folder / "said"
    with said.open("w") as err:
        arguments = json.dumps([str(ready), warm_up, command])
        process = subprocess.Popen(
            [sys.executable, "-m", "faults.worker", "memory:train_when_imported", arguments], cwd=worker.TESTS,
            stderr=err, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        most = 0.0
        while process.poll() is None:
            now = anonymous(process.pid)
            if ready.exists():
                most = max(most, now)
            time.sleep(PAUSE)
    sys.stderr.write(said.read_text())
    return process.returncode, most - float(ready.read_text() or 0)


@fault_check("memory: training on a large file")
def large(scale: Scale) -> tuple[int, int]:
    tally, folder = Tally(), scale.folder
    asked = scale.pick(10**6, 10**8)
    steps = min(asked, int(0.8 * shutil.disk_usage(folder).free / BYTES_PER_STEP) // 200 * 200)
    if steps < asked:
        print(f"    disk space for {steps:,} of {asked:,} timesteps only", file=sys.stderr, flush=True)
    data = write_large(folder / "large.hdf5", steps)
    small = runs.make_data(folder / "small.hdf5")
    settings = ["--updates", "5", "--batch-size", "64", "--checkpoint-every", "2", "--threads", "1", "--json"]
    settings += [] if scale.full else ["--target", "-800"]  # what to ask for takes seconds to learn
    code, size = grown(
        folder, ["train", str(small), "--out", str(folder / "warm"), *settings],
        ["train", str(data), "--out", str(folder / "run"), *settings],
    )  # fmt: skip
    print(f"    {steps:,} timesteps: {size:,.0f} MiB beyond the imports", file=sys.stderr, flush=True)
    tally.add(code == 0, f"exit code {code}")
    tally.add(0 < size <= BOUND, f"{size:,.0f} MiB for {steps:,} timesteps; expected at most {BOUND}")
    return tally.figures


def limited(kind: str, cases: Sequence[tuple[list[str], int]]) -> None:
    """In the worker: run each command in a fork that may take so many more bytes."""
    word = {"address space": "VmSize", "data": "VmData"}[kind]

    def limit(more: int) -> None:
        status = Path("/proc/self/status").read_text()
        used = next(int(line.split()[1]) for line in status.splitlines() if line.startswith(word)) << 10
        resource.setrlimit(KINDS[kind], (used + more, used + more))

    worker.run_in_forks(cases, limit)


def wrong_words(code: int, words: str) -> str:
    """Say what is wrong with how a command ended; nothing where it is as it should be."""
    sentences = [line for line in words.splitlines() if line.startswith("foretell: ")]
    if code != 6 or len(sentences) != 1 or "Traceback" in words:
        return f"exit code {code}, said {words!r}"
    return "" if "memory is full" in sentences[0] and "allows" in sentences[0] else f"no limit named: {sentences[0]}"


@fault_check("memory: a limit that is known")
def known_limit(scale: Scale) -> tuple[int, int]:
    tally, folder = Tally(), scale.folder
    data, plenty = runs.make_data(folder / "data.hdf5"), 1 << 32
    train = ["train", str(data), "--json", *SETTINGS]
    for kind in list(KINDS)[: scale.pick(1, 2)]:
        cases: list[tuple[list[str], int, bool | None]] = [
            ([*train, "--batch-size", "30000000", "--out", str(folder / f"{kind}-batch")], 1 << 28, True),
            ([*train, "--width", "8192", "--out", str(folder / f"{kind}-net")], 1 << 28, True),
            (["collect", "random", "--steps", "400", "--out", str(folder / f"{kind}.hdf5")], plenty, False),
        ]  # fmt: skip
        for mib in LIMITS if scale.full else ():
            cases += [
                ([*train, "--out", str(folder / f"{kind}-{mib}")], mib << 20, None),
                (["inspect", str(data), "--json"], mib << 20, None),
                (["collect", "random", "--steps", "400", "--out", str(folder / f"{kind}-{mib}.hdf5")], mib << 20, None),
            ]  # fmt: skip
        ended = worker.ends_of_forks("memory:limited", kind, [case[:2] for case in cases])
        for (command, more, short), (code, words) in zip(cases, ended):
            fine = code == 0 and not short
            wrong = "" if fine or (short is not False and not (wrong_words(code, words))) else wrong_words(code, words)
            tally.add(not wrong, f"{kind}, {more >> 20} MiB more, {' '.join(command[:2])}: {wrong or code}")
    return tally.figures
