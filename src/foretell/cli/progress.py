"""Showing long work: a bar on a terminal, a plain line every few seconds elsewhere. All on stderr."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager

from foretell.core.printing import printable
from foretell.core.progress import Progress
from foretell.core.stopping import heeding

PLAIN_SECONDS = 5.0
"""Between plain lines, where there is no terminal."""
BAR_SECONDS = 0.1
"""Between redraws of a bar."""


def tell(line: str) -> None:
    """Say a line on stderr, where that is possible: a full disk or a reader who left must not end the work."""
    with contextlib.suppress(OSError, ValueError):
        print(printable(line), file=sys.stderr, flush=True)


class Meter:
    """Rate and time left of one piece of work, and its newest measurements."""

    def __init__(self, title: str):
        self.title = title
        self._begin: tuple[float, int] | None = None
        self.done, self.total, self.measurements = 0, 1, dict[str, float]()

    def update(self, done: int, total: int, measurements: dict[str, float]) -> None:
        """Take note of the newest numbers."""
        if self._begin is None:
            self._begin = (time.monotonic(), done)
        self.done, self.total, self.measurements = done, total, measurements

    @property
    def rate(self) -> float:
        """Units a second since the first call; 0 before there is one to tell."""
        if self._begin is None:
            return 0.0
        seconds = time.monotonic() - self._begin[0]
        return (self.done - self._begin[1]) / seconds if seconds > 0 else 0.0

    def line(self) -> str:
        """Say it in one line: share, rate, time left, measurements."""
        left = "starting"
        if self.done >= self.total:
            left = "done"
        elif self.rate:
            left = f"{(self.total - self.done) / self.rate:,.0f} s left"
        numbers = "".join(f", {name.replace('_', ' ')} {value:.4g}" for name, value in self.measurements.items())
        share = 100 * self.done / max(1, self.total)
        rate = "" if left == "done" and not self.rate else f"{self.rate:,.0f}/s, "  # of a single call nobody knows it
        return f"{self.title}: {self.done:,}/{self.total:,} ({share:.0f}%), {rate}{left}{numbers}"


_elsewhere: list[Progress] = []


@contextmanager
def sent_to(progress: Progress) -> Generator[None]:
    """Send what `watch` would show to `progress` instead: a worker's news go to the parent, which has the screen."""
    _elsewhere.append(progress)
    try:
        yield
    finally:
        _elsewhere.pop()


@contextmanager
def watch(title: str, *, quiet: bool = False) -> Generator[Progress]:
    """Show the progress of one piece of work while the block runs."""
    if _elsewhere:
        yield heeding(_elsewhere[-1])
    elif quiet:
        yield heeding()
    elif sys.stderr.isatty():
        with _bar(title) as progress:
            yield heeding(progress)
    else:
        yield heeding(_plain(title))


def _plain(title: str) -> Progress:
    meter, last = Meter(title), [time.monotonic()]

    def progress(done: int, total: int, **measurements: float) -> None:
        meter.update(done, total, measurements)
        if time.monotonic() - last[0] >= PLAIN_SECONDS or (done >= total and done > 1):
            last[0] = time.monotonic() + (1e9 if done >= total else 0.0)
            tell(meter.line())

    return progress


@contextmanager
def _bar(title: str) -> Generator[Progress]:
    with bars() as display:
        task = display.add_task(printable(title), total=1.0, text="starting")
        meter, last = Meter(title), [0.0]

        def progress(done: int, total: int, **measurements: float) -> None:
            meter.update(done, total, measurements)
            if time.monotonic() - last[0] >= BAR_SECONDS or done >= total:
                last[0] = time.monotonic()
                display.update(task, completed=done / max(1, total), text=details(meter))

        yield progress


def details(meter: Meter) -> str:
    """Return what stands behind a bar."""
    return meter.line().removeprefix(f"{meter.title}: ")


def bars():
    """Return rich's display of several bars, one a task; tasks take a field `text`."""
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as RichProgress

    return RichProgress(
        TextColumn("{task.description}", markup=False), BarColumn(bar_width=24),
        TextColumn("{task.fields[text]}", markup=False),
        console=Console(stderr=True), transient=False,
    )  # fmt: skip
