"""Running many verbs, several at a time, each after those whose artefacts it reads.

A job is a command line: what the report prints under "commands" is what was run. Workers are processes that stay
alive, so that torch is loaded once in each; every job computes on one thread, which for these small networks uses
the cores better than threads do, and makes numbers independent of how many cores there are.
"""

from __future__ import annotations

import contextlib
import gc
import io
import multiprocessing
import multiprocessing.queues
import os
import queue
import signal
import sys
import threading
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from foretell.cli.progress import PLAIN_SECONDS, Meter, bars, details, tell
from foretell.core import signals, system
from foretell.core.errors import ForetellError, StoppedError
from foretell.core.stopping import stop_if_asked

GRACE_SECONDS = 60.0
"""For workers to save what they have after a stop: an update, an episode of SAC. A second signal ends them at once."""
WORKER_ENVIRONMENT = {
    **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
    # glibc gives arrays of megabytes back to the system after each use, and fetching them again costs a third of
    # the time of batched acting (docs/performance.md).
    **dict.fromkeys(("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"), str(1 << 30)),
    "PYTHONSAFEPATH": "1",  # else modules would be looked for in the current folder first, which may be a stranger's
}
"""What a worker finds in its environment before it loads anything."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One verb with its arguments. `weight` is its share of the whole work, for the time left."""

    name: str
    arguments: tuple[str, ...]
    after: tuple[str, ...] = ()
    weight: float = 1.0
    done_when: tuple[Path, ...] = ()
    """Files whose presence shows that an earlier start did this job."""
    kin: str = ""
    """Jobs of one kin learn the same thing on their way, which a worker remembers: one does them all, where it can."""

    @property
    def command(self) -> str:
        """The command line, as a person would type it."""
        return system.command_line(["foretell", *self.arguments])


def run_jobs(jobs: Sequence[Job], workers: int, *, quiet: bool = False) -> None:
    """Run every job; stop at the first that fails.

    Raises `ForetellError` of the failed job's kind, with its message.
    """
    done = {job.name for job in jobs if job.done_when and all(path.exists() for path in job.done_when)}
    waiting = [job for job in jobs if job.name not in done]
    context = multiprocessing.get_context("spawn")
    with _environment(WORKER_ENVIRONMENT):  # the first semaphore starts a process, too
        requests, messages = [context.SimpleQueue() for _ in range(min(workers, len(waiting)))], context.Queue()
        enough = context.Semaphore(0)
        processes = [context.Process(target=_work, args=(one, messages, enough), daemon=True) for one in requests]
        for process in processes:
            process.start()
    try:
        _Dispatcher(jobs, done, waiting, requests, messages, processes, quiet=quiet).run()
    finally:
        for process, one in zip(processes, requests, strict=True):
            one.put(None)  # for who is about to wait: a signal behind the last report of a job is heard by nobody
            if system.ENDS_ARE_HEARD:
                process.terminate()
            else:
                enough.release()
        until = time.monotonic() + GRACE_SECONDS
        try:
            for process in processes:  # each finishes its update and saves
                process.join(max(0.0, until - time.monotonic()))
        finally:
            for process in processes:  # what has not ended is ended: files stay whole
                process.kill()


def work_ahead(jobs: Sequence[Job]) -> dict[str, float]:
    """Return for each job the weight of the longest chain that it begins: itself, what waits for it, and so on.

    The longest goes first. What is left for the end are then jobs that wait for nothing and are waited for by none, of
    which every worker has some.
    """
    behind: dict[str, list[Job]] = {}
    for job in jobs:
        for name in job.after:
            behind.setdefault(name, []).append(job)

    @cache
    def ahead(name: str) -> float:
        return weights[name] + max((ahead(job.name) for job in behind.get(name, ())), default=0.0)

    weights = {job.name: job.weight for job in jobs}
    return {job.name: ahead(job.name) for job in jobs}


class _Dispatcher:
    def __init__(
        self, jobs: Sequence[Job], done: set[str], waiting: list[Job], requests: Sequence[Any],
        messages: multiprocessing.queues.Queue, processes: Sequence[Any], *, quiet: bool,
    ):  # fmt: skip
        self.jobs, self.done, self.waiting = {job.name: job for job in jobs}, done, waiting
        self.requests, self.messages, self.processes = requests, messages, processes
        self.running: dict[str, Meter] = {}
        self.idle, self.workers, self.kin = set(range(len(processes))), dict[str, int](), dict[str, int]()
        self.warned: set[str] = set()
        self.ahead = work_ahead(jobs)
        self.display = None if quiet else (_Bars if sys.stderr.isatty() else _Lines)()

    def run(self) -> None:
        """Hand out jobs as they become possible until all are done."""
        with self.display or contextlib.nullcontext():
            while self.waiting or self.running:
                self._hand_out()
                self._listen()
                if self.display:
                    self.display.show(self._share(), self.running)

    def _hand_out(self) -> None:
        possible = [job for job in self.waiting if self.done.issuperset(job.after)]
        possible.sort(key=lambda job: -self.ahead[job.name])
        for worker in sorted(self.idle)[: len(possible)]:
            job = next((one for one in possible if self.kin.get(one.kin, worker) == worker), possible[0])
            if job.kin:
                self.kin.setdefault(job.kin, worker)
            possible.remove(job)
            self.waiting.remove(job)
            self.idle.remove(worker)
            self.workers[job.name], self.running[job.name] = worker, Meter(job.name)
            self.requests[worker].put((job.name, job.arguments))

    def _listen(self) -> None:
        try:
            message = self.messages.get(timeout=1.0)
        except queue.Empty:
            message = None
        stop_if_asked()
        self._check_workers()
        if message is None:
            return
        name, kind, content = message
        if kind == "progress":
            if name in self.running:
                self.running[name].update(*content)
        elif kind == "warning":
            if content not in self.warned:
                self.warned.add(content)
                tell(f"foretell: warning: {content}")
        elif kind == "done":
            self.done.add(name)
            self.idle.add(self.workers.pop(name))
            del self.running[name]
        else:
            raise content

    def _check_workers(self) -> None:
        for process in self.processes:
            if not process.is_alive():
                raise ForetellError(
                    f"a worker ended with code {process.exitcode} during {', '.join(self.running)}; was it killed, "
                    "or is memory short? The same command continues."
                )

    def _share(self) -> float:
        total = sum(job.weight for job in self.jobs.values())
        finished = sum(self.jobs[name].weight for name in self.done)
        under_way = sum(
            self.jobs[name].weight * meter.done / max(1, meter.total) for name, meter in self.running.items()
        )
        return (finished + under_way) / total


class _Bars:
    def __init__(self) -> None:
        self._bars = bars()
        self._tasks: dict[str, Any] = {}
        self._last = 0.0

    def __enter__(self) -> None:
        self._bars.start()
        self._whole = self._bars.add_task("everything", total=1.0, text="")
        self._begin = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def show(self, share: float, running: dict[str, Meter]) -> None:
        """Redraw, ten times a second at most."""
        if time.monotonic() - self._last < 0.1:
            return
        self._last = time.monotonic()
        for name in self._tasks.keys() - running.keys():
            self._bars.remove_task(self._tasks.pop(name))
        for name, meter in running.items():
            if name not in self._tasks:
                self._tasks[name] = self._bars.add_task(name, total=1.0, text="")
            self._bars.update(self._tasks[name], completed=meter.done / max(1, meter.total), text=details(meter))
        self._bars.update(self._whole, completed=share, text=_overall(share, time.monotonic() - self._begin))


class _Lines:
    def __enter__(self) -> None:
        self._begin = self._last = time.monotonic()

    def __exit__(self, *_: object) -> None: ...

    def show(self, share: float, running: dict[str, Meter]) -> None:
        """Print one line every few seconds."""
        if time.monotonic() - self._last >= PLAIN_SECONDS:
            self._last = time.monotonic()
            parts = [_overall(share, time.monotonic() - self._begin), *(meter.line() for meter in running.values())]
            tell(" | ".join(parts))


def _overall(share: float, seconds: float) -> str:
    left = f", about {seconds * (1 - share) / share:,.0f} s left" if share > 0.02 else ""
    return f"{100 * share:.0f}% after {seconds:,.0f} s{left}"


def _work(requests: Any, messages: multiprocessing.queues.Queue, enough: Any) -> None:
    """Body of a worker: run verbs until the parent ends it."""
    from foretell.cli import main, progress

    gc.set_threshold(main.YOUNG)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal; the parent decides
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if not system.ENDS_ARE_HEARD:
        threading.Thread(target=_end_when_told, args=(enough,), daemon=True).start()
    current = [""]
    said = main.without_colours
    warnings.showwarning = lambda message, *_, **__: messages.put((current[0], "warning", said(message)))
    warnings.simplefilter("always", UserWarning)  # the parent says each once
    while True:
        if (request := requests.get()) is None:
            return
        name, arguments = request
        gc.collect()
        gc.freeze()  # what is there by now stays; looked through again and again it takes two hundredths of training
        current[0] = name
        last = [0.0]

        def report(done: int, total: int, *, _name: str = name, _last: list[float] = last, **numbers: float) -> None:
            if time.monotonic() - _last[0] > 0.2:
                _last[0] = time.monotonic()
                messages.put((_name, "progress", (done, total, numbers)))

        try:
            with contextlib.redirect_stdout(io.StringIO()), progress.sent_to(report), signals.noted(signal.SIGTERM):
                main.run_verb(arguments)
            messages.put((name, "done", None))
        except StoppedError:
            return
        except ForetellError as error:
            messages.put((name, "failed", type(error)(f"{name}: {error}")))
        except (Exception, SystemExit) as error:
            messages.put((name, "failed", ForetellError(f"{name}: {type(error).__name__}: {error}")))


def _end_with_parent() -> None:
    """End this process when its parent was killed: nobody would ask for more, and the next start needs the folders."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _end_when_told(enough: Any) -> None:
    """Where the parent cannot send a signal, take its word for one."""
    enough.acquire()
    system.signal_this_process(signal.SIGTERM)


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Any:
    before = {key: os.environ[key] for key in values if key in os.environ}
    os.environ.update(values)
    try:
        yield
    finally:
        for key in values:
            del os.environ[key]
        os.environ.update(before)
