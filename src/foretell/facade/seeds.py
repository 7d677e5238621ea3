"""Several seeds of one training in one process: on a GPU their updates are one graph."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from signal import SIGINT
from typing import Any, TypedDict, Unpack

import torch

from foretell.core import stopping
from foretell.core.errors import ForetellError, StoppedError, UsageError
from foretell.core.progress import Progress, silent
from foretell.core.settings import check_progress, path_of, seed_of
from foretell.core.warning import caller, on_behalf_of
from foretell.datasets.dataset import Dataset
from foretell.datasets.registry import open_dataset
from foretell.evaluation.configs import ActingConfig
from foretell.facade.interrupts import saved_when_interrupted
from foretell.facade.training import train
from foretell.models.configs import ModelConfig
from foretell.sequences.conditions import Condition, Target
from foretell.sequences.defaults import usual_defaults
from foretell.sequences.scaling import ActionRange
from foretell.training.configs import ComputeConfig, TrainingConfig
from foretell.training.processes import Processes
from foretell.training.together import Meeting
from foretell.values.configs import IQLConfig

ANOTHER = 0
"""In place of a signal's number, where a run ends because another has."""
WAITED_SECONDS = 0.2
"""Between two looks at the threads; a signal is heeded in between."""


class TrainSettings(TypedDict, total=False):
    """Settings of `train` that all seeds share, besides those that `train_seeds` names itself."""

    algorithm: str
    condition: Condition
    target: Target
    model: ModelConfig | None
    training: TrainingConfig | None
    acting: ActingConfig | None
    compute: ComputeConfig | None
    processes: Processes
    values: IQLConfig | None
    values_from: str | Path | None
    best_share: float
    initial_weights: str | Path | None
    action_range: ActionRange | None
    root_seed: int
    validation_episodes: int


@usual_defaults
def train_seeds(
    dataset: str | Path | Dataset,
    out: str | Path,
    seeds: Sequence[int],
    *,
    environment: str | None = None,
    horizon: int | None = None,
    ends_at: str | None = None,
    progress: Progress = silent,
    **settings: Unpack[TrainSettings],
) -> list[Path]:
    """Train every seed into `out/seed-N` with the `settings` of `train`; return the run folders.

    Each is the run that `train` makes of that seed on one thread; on a GPU all are trained in one program. The same
    call continues what is not finished. Where one fails, the others save what they have.
    Raises as `train` does; Foretell's own errors name the seed.
    """
    check_progress(progress)
    if not isinstance(seeds, Iterable) or isinstance(seeds, str):
        raise UsageError(f"seeds is {seeds!r:.100}; expected several, (0, 1, 2) say.")
    out, seeds = path_of("out", out), [seed_of("seed", one) for one in seeds]
    if not seeds or len({*seeds}) < len(seeds):
        raise UsageError(f"seeds are {seeds}; expected at least one, and each of them once.")
    if not isinstance(dataset, Dataset):
        dataset = open_dataset(dataset, horizon=horizon, environment=environment, ends_at=ends_at)
        horizon = ends_at = None
    given = {**settings, "environment": environment, "horizon": horizon, "ends_at": ends_at}
    with saved_when_interrupted(progress) as heeding:
        runs = [_Run(seed=seed, folder=out / f"seed-{seed}") for seed in seeds]
        return _trained(_Work(dataset, runs, heeding, given, stays=heeding is not progress))


def _trained(work: _Work) -> list[Path]:
    """Train all runs, each in a thread; return their folders."""
    threads = [
        threading.Thread(target=work.train, args=(run,), name=f"seed {run.seed}", daemon=True) for run in work.runs
    ]
    available, started = torch.get_num_threads(), list[threading.Thread]()
    try:
        for thread in threads:
            thread.start()
            started.append(thread)
        _wait_for(started, work)
    except BaseException as error:
        work.ended.set()
        work.meeting.expect_fewer(len(threads) - len(started))
        if not stopping.asked() or (work.stays and isinstance(error, StoppedError) and error.signal_number == SIGINT):
            for thread in started:  # they hold the folders; where the process ends, they end with it
                thread.join()
        raise
    finally:
        torch.set_num_threads(available)  # what a thread is told, threads begin with that come after it
    work.raise_what_ended_it()
    work.report_the_end()
    return [run.folder for run in work.runs]


@dataclass(kw_only=True, eq=False)
class _Run:
    """One seed: where it lies, how far it is, and what ended it."""

    seed: int
    folder: Path
    done: int = 0
    finished: bool = False
    error: BaseException | None = None


class _Work:
    """All runs, and what each does in its thread."""

    def __init__(
        self, dataset: Dataset, runs: Sequence[_Run], progress: Progress, settings: dict[str, Any], *, stays: bool
    ):  # fmt: skip
        self.dataset, self.runs, self.progress, self.settings = dataset, runs, progress, settings
        self.meeting, self.ended, self._reporting = Meeting(len(runs)), threading.Event(), threading.Lock()
        self.stays = stays
        """Whether the process goes on where Ctrl-C ends the work: then whoever called may want the folders."""
        self._total, self._caller = 0, caller()

    def train(self, run: _Run) -> None:
        """Train one seed; what ends it ends the others too, when they next report."""
        torch.set_num_threads(1)
        try:
            with on_behalf_of(self._caller):
                train(
                    self.dataset, run.folder, seed=run.seed, meeting=self.meeting, progress=self._report_of(run),
                    **self.settings,
                )  # fmt: skip
            run.finished = True
        except BaseException as error:
            run.error = error
            self.ended.set()
        finally:
            self.meeting.leave()

    def _report_of(self, run: _Run) -> Progress:
        def report(done: int, total: int, **measurements: float) -> None:
            with self._reporting:
                run.done, self._total = done, total
                together = sum(total if one.finished else one.done for one in self.runs)
                self.progress(together, len(self.runs) * total, **measurements)
            if self.ended.is_set():
                raise StoppedError(ANOTHER)

        return report

    def report_the_end(self) -> None:
        """Say that all are done, where any said how far it was: who was finished before said nothing."""
        if self._total and any(run.done < self._total for run in self.runs):
            self.progress(len(self.runs) * self._total, len(self.runs) * self._total)

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


def _wait_for(threads: Sequence[threading.Thread], work: _Work) -> None:
    """Wait for all to end. A signal is theirs to heed, when they next report: each saves what it has.

    Before any has, there is nothing to save, and `StoppedError` ends it all at once.
    """
    waiting = list(threads)
    while waiting:
        waiting[0].join(WAITED_SECONDS)
        if not waiting[0].is_alive():
            waiting.pop(0)
        elif not any(run.done for run in work.runs):
            stopping.stop_if_asked()
