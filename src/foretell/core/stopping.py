"""A wish to stop, and where it is heeded: between two updates, or at once where nothing would be lost.

A wish only leaves a note. Whoever does long work reports progress, and the report is where the note is read, with
everything in a state that can be saved. Work before that says so by `nothing_to_save`.
"""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager

from foretell.core.errors import StoppedError
from foretell.core.progress import Progress, silent

_wishes: list[int] = []


class _OfThread(threading.local):
    blocks = 0


_here = _OfThread()
"""How many blocks of `nothing_to_save` this thread is in. Signals are heard by the main thread: what others may lose is
for them to say."""


def wish(signal_number: int) -> None:
    """Note that a signal asks for an end; raise `StoppedError` at once inside `nothing_to_save`."""
    _wishes.append(signal_number)
    if _here.blocks:
        stop_if_asked()


def asked() -> bool:
    """Say whether an end was asked for."""
    return bool(_wishes)


def forget() -> None:
    """Let what was noted be over."""
    _wishes.clear()


def stop_if_asked() -> None:
    """Raise `StoppedError` where a signal was noted."""
    if _wishes:
        raise StoppedError(_wishes[0])


def heeding(progress: Progress = silent) -> Progress:
    """Return what tells `progress` and takes every report as an occasion to stop."""

    def report(done: int, total: int, **measurements: float) -> None:
        progress(done, total, **measurements)
        stop_if_asked()

    return report


@contextmanager
def nothing_to_save() -> Generator[None]:
    """Let a signal end the block in the middle: what it computes can be computed again, and nothing is written.

    In another thread than the main one, which signals do not reach, it is heeded at the beginning, and by whatever
    reports in the block.
    """
    stop_if_asked()
    _here.blocks += 1
    try:
        yield
    finally:
        _here.blocks -= 1
