"""Several seeds of one training in one process: on a GPU their updates are one graph."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from foretell.core.errors import ForetellError, StoppedError
from foretell.core.progress import Progress, silent
from foretell.datasets.dataset import Dataset
from foretell.facade.training import train
from foretell.training.together import Meeting

ANOTHER = 0
"""In place of a signal's number, where a run ends because another has."""
WAITED_SECONDS = 0.2
"""Between two looks at the threads; a signal is heeded in between."""


def train_seeds(
    dataset: str | Path | Dataset,
    out: str | Path,
    seeds: Sequence[int],
    *,
    progress: Progress = silent,
    **settings: Any,
) -> list[Path]:
    """Train every seed into `out/seed-N` with the `settings` of `train`; return the run folders.

    Each is the run that `train` makes of that seed on one thread; on a GPU all are trained in one program. The same
    call continues what is not finished. Where one fails, the others save what they have.
    Raises as `train` does, with the name of the seed.
    """
    work = _Work(dataset, [_Run(seed=seed, folder=Path(out) / f"seed-{seed}") for seed in seeds], progress, settings)
    threads = [
        threading.Thread(target=work.train, args=(run,), name=f"seed {run.seed}", daemon=True) for run in work.runs
    ]
    available = torch.get_num_threads()
    try:
        for thread in threads:
            thread.start()
        _wait_for(threads)
    finally:
        torch.set_num_threads(available)  # what a thread is told, threads begin with that come after it
    work.raise_what_ended_it()
    return [run.folder for run in work.runs]


@dataclass(kw_only=True, eq=False)
class _Run:
    """One seed: where it lies, how far it is, and what ended it."""

    seed: int
    folder: Path
    done: int = 0
    error: BaseException | None = None


class _Work:
    """All runs, and what each does in its thread."""

    def __init__(
        self, dataset: str | Path | Dataset, runs: Sequence[_Run], progress: Progress, settings: dict[str, Any]
    ):
        self.dataset, self.runs, self.progress, self.settings = dataset, runs, progress, settings
        self.meeting, self.ended, self._reporting = Meeting(len(runs)), threading.Event(), threading.Lock()

    def train(self, run: _Run) -> None:
        """Train one seed; what ends it ends the others too, when they next report."""
        torch.set_num_threads(1)
        try:
            train(
                self.dataset, run.folder, seed=run.seed, meeting=self.meeting, progress=self._report_of(run),
                **self.settings,
            )  # fmt: skip
        except BaseException as error:
            run.error = error
            self.ended.set()
        finally:
            self.meeting.leave()

    def _report_of(self, run: _Run) -> Progress:
        def report(done: int, total: int, **measurements: float) -> None:
            with self._reporting:
                run.done = done
                together = sum(one.done for one in self.runs)
                self.progress(together, len(self.runs) * total, **measurements)
            if self.ended.is_set():
                raise StoppedError(ANOTHER)

        return report

    def raise_what_ended_it(self) -> None:
        """Raise the first error of the work itself, else that of a signal."""
        for run in sorted((one for one in self.runs if one.error), key=_rank):
            assert run.error is not None
            if isinstance(run.error, ForetellError) and not isinstance(run.error, StoppedError):
                raise type(run.error)(f"seed {run.seed}: {run.error}") from run.error
            raise run.error


def _rank(run: _Run) -> int:
    if not isinstance(run.error, StoppedError):
        return 0
    return 2 if run.error.signal_number == ANOTHER else 1


def _wait_for(threads: Sequence[threading.Thread]) -> None:
    """Wait for all to end. A signal is theirs to heed: each saves what it has."""
    while any(thread.is_alive() for thread in threads):
        try:
            for thread in threads:
                thread.join(WAITED_SECONDS)
        except StoppedError:  # of `nothing_to_save` in one of the threads, which reads the note itself
            continue
