"""Opening datasets of 10,000 to 100,000,000 steps and drawing batches from them: time and memory against size.

Unless --quick is given, also draws what was measured: `benchmarks/results/datasets.png`.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import h5py
import matplotlib.pyplot as plt

from benchmarks.making import TORQUE
from benchmarks.measuring import ROOT, Comparison, Options, Row, rate, seconds
from foretell.collection.recipes import collect_random
from foretell.reporting.style import OURS, PNG_DPI, REPORT_COLOR, STYLE

SIZES = (10_000, 100_000, 1_000_000, 10_000_000, 100_000_000)
FIGURE = ROOT / "benchmarks/results/datasets.png"
SMALL, LARGE = 1_000_000, 100_000_000
BATCH_BOUND = 1.2
"""Most that a batch from 100,000,000 steps may cost, in batches from 1,000,000."""
MEMORY_BOUND_MIB = 500.0
BYTES_PER_STEP = 46
LATER = 1_200
"""Batches after which a file that was read afresh is mapped all through, by the system and by what a virtual machine
runs on: `later_batches` are the last of these."""
OPEN_BOUND_SECONDS = 0.2
BATCH_SIZE, CONTEXT_LENGTH = 64, 20


def rows(options: Options) -> Iterator[Row]:
    """Yield, for each size: seconds to open, milliseconds a batch, anonymous memory. Files are temporary."""
    found: dict[int, dict[str, Row]] = {}
    for steps in SIZES[:2] if options.quick else SIZES:
        with tempfile.TemporaryDirectory() as folder:
            free, needed = shutil.disk_usage(folder).free, 2 * BYTES_PER_STEP * steps
            if free < needed:
                print(
                    f"datasets     {steps:,} steps left out: {free / 2**20:,.0f} MiB free, {needed / 2**20:,.0f} needed"
                )
                continue
            path = Path(folder) / f"pendulum-random-{steps}.hdf5"
            collect_random("Pendulum-v1", steps, 0, path)
            of_size = list(_rows_of(path, steps, 1 if options.quick else 5))
            found[steps] = {row.name.split()[0]: row for row in of_size}
            yield from of_size
    if SMALL in found and LARGE in found:
        small, large = found[SMALL]["batch"].ours, found[LARGE]["batch"].ours
        later = found[LARGE]["batch"].extra["later_batches"] / found[SMALL]["batch"].extra["later_batches"]
        yield Row(
            benchmark="datasets", name=f"batch of {LARGE:,} steps, in batches of {SMALL:,}", unit="times",
            setting=found[LARGE]["batch"].setting, ours=large / small, repetitions=found[LARGE]["batch"].repetitions,
            bound=f"at most {BATCH_BOUND:g}", holds=large / small <= BATCH_BOUND, extra={"later_batches": later},
        )  # fmt: skip
    if not options.quick:
        _draw(found)


def _draw(found: Mapping[int, Mapping[str, Row]]) -> None:
    """Draw time to open, a batch, and memory against the number of steps, with the peer's and the bounds."""
    panels = (("open", "time to open (s)", OPEN_BOUND_SECONDS), ("batch", "time of a batch (ms)", None),
              ("memory", "anonymous memory (MiB)", MEMORY_BOUND_MIB))  # fmt: skip
    with plt.rc_context(STYLE):
        figure, all_axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
        for axes, (name, label, bound) in zip(all_axes, panels):
            sizes, rows_of = list(found), [of_size[name] for of_size in found.values()]
            axes.plot(sizes, [row.ours for row in rows_of], "o-", color=OURS, label="Foretell")
            if all(row.peer is not None for row in rows_of):
                peers = [row.peer for row in rows_of]
                axes.plot(sizes, peers, "s--", color=REPORT_COLOR, label="h5py, every column read")
                axes.set_yscale("symlog", linthresh=1e-3 if name == "open" else 1.0)  # memory may not grow at all
            if bound:
                axes.axhline(bound, color="#6B6B6B", linewidth=1, linestyle=":", label="our bound")
            axes.set(xscale="log", xlabel="timesteps in the file", ylabel=label)
            if name == "batch":
                axes.set_ylim(0, 1.1 * max(row.ours for row in rows_of))
            else:
                axes.legend(loc="upper left")
        figure.savefig(FIGURE, dpi=PNG_DPI, metadata={"Software": None})
        plt.close(figure)


def _rows_of(path: Path, steps: int, repetitions: int) -> Iterator[Row]:
    """Each repetition is a process of its own, with the file out of the page cache before it is opened."""
    found = []
    for _ in range(repetitions):
        command = [sys.executable, "-m", "benchmarks.datasets", str(path)]
        output = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
        found.append(json.loads(output))
    setting = {
        "steps": steps,
        "file_mib": path.stat().st_size / 2**20,
        "page_cache": "dropped before each opening, filled before batches are drawn",
    }

    def compared(name: str, peer: str) -> Comparison:
        return Comparison(ours=[f[name] for f in found], peer=[f[peer] for f in found], higher_is_better=False)

    h5py_facts = {"peer_name": "h5py, every column read", "peer_version": h5py.__version__}
    opening = compared("open_seconds", "peer_open_seconds")
    yield Row(
        benchmark="datasets", name=f"open {steps:,} steps", unit="s", setting=setting, **h5py_facts,
        bound=f"at most {OPEN_BOUND_SECONDS:g} s, slowest", holds=max(opening.ours) <= OPEN_BOUND_SECONDS,
        extra={"slowest": max(opening.ours)}, **opening.fields(),
    )  # fmt: skip
    sampling = {**setting, "batch_size": BATCH_SIZE, "context_length": CONTEXT_LENGTH, "batches": found[0]["batches"]}
    batch, first, later = (
        statistics.median(f[f"{which}_milliseconds"] for f in found) for which in ("batch", "fresh", "later")
    )
    yield Row(
        benchmark="datasets", name=f"batch of {steps:,} steps", unit="ms", setting=sampling, ours=batch,
        repetitions=repetitions, extra={"first_batches": first, "later_batches": later},
    )  # fmt: skip
    # No ratio: ours is near nothing, and a ratio to nothing says nothing.
    memory = compared("anonymous_mib", "peer_anonymous_mib")
    yield Row(
        benchmark="datasets", name=f"memory of {steps:,} steps", unit="MiB anonymous", setting=sampling, **h5py_facts,
        ours=statistics.median(memory.ours), peer=statistics.median(memory.peer), repetitions=repetitions,
        bound=f"at most {MEMORY_BOUND_MIB:g} MiB, largest", holds=max(memory.ours) <= MEMORY_BOUND_MIB,
        extra={"after_opening": statistics.median(f["anonymous_after_opening_mib"] for f in found)},
    )  # fmt: skip


def probe(path: Path) -> dict[str, float]:
    """Open, sample, then read as the peer does; return seconds, and growth of the process's anonymous memory in MiB."""
    from foretell.datasets.registry import open_dataset
    from foretell.sequences.normalization import Normalization
    from foretell.sequences.windows import WindowSampler

    batches = 200
    with tempfile.TemporaryDirectory() as folder:  # everything that is loaded once, loaded before anything is measured
        warm_up = Path(folder) / "small.hdf5"
        small = collect_random("Pendulum-v1", 2_000, 0, warm_up)
        sampler = WindowSampler(small, Normalization.fit(small, TORQUE), context_length=CONTEXT_LENGTH, seed=0)
        for update in range(20):
            sampler.batch(update, BATCH_SIZE)
        _read_everything(warm_up)
    _forget(path)
    before, opened = _anonymous_mib(), []
    found = {"open_seconds": seconds(lambda: opened.append(open_dataset(path)))}
    found["anonymous_after_opening_mib"] = _anonymous_mib() - before
    normalization = Normalization.fit(opened[0], TORQUE)
    sampler = WindowSampler(opened[0], normalization, context_length=CONTEXT_LENGTH, seed=0)
    _recall(path)
    found["fresh_milliseconds"] = 1000 / rate(lambda update: sampler.batch(batches + update, BATCH_SIZE), batches)
    found["batch_milliseconds"] = 1000 / rate(lambda update: sampler.batch(update, BATCH_SIZE), batches)
    for update in range(2 * batches, LATER - batches):
        sampler.batch(update, BATCH_SIZE)
    found["later_milliseconds"] = 1000 / rate(
        lambda update: sampler.batch(LATER - batches + update, BATCH_SIZE), batches
    )
    found["anonymous_mib"] = _anonymous_mib() - before
    _forget(path)
    before, columns = _anonymous_mib(), []
    found["peer_open_seconds"] = seconds(lambda: columns.append(_read_everything(path)))
    return found | {"peer_anonymous_mib": _anonymous_mib() - before, "batches": batches}


def _read_everything(path: Path) -> dict[str, object]:
    """Read each column into memory, as D4RL's own reader does."""
    columns = {}
    with h5py.File(path, "r") as file:
        file.visititems(lambda name, item: columns.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return columns


def _forget(path: Path) -> None:
    """Ask the kernel to drop the file from its page cache, so that opening is opening and not remembering."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _recall(path: Path) -> None:
    """Read the file into the page cache: what a batch costs then is the program's doing, not the disk's."""
    with path.open("rb") as file:
        while file.read(1 << 24):
            pass


def _anonymous_mib() -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("RssAnon"))


if __name__ == "__main__":
    print(json.dumps(probe(Path(sys.argv[1]))))
