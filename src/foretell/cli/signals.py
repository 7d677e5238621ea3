"""Ctrl-C and SIGTERM: the update under way is finished and saved, then the command ends with 130 or 143.

A signal only leaves a note. Whoever does long work reports progress, and the report is where the note is read:
between two updates, with everything in a state that can be saved. A second signal ends the command at once.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from foretell.core.errors import StoppedError

_noted: list[signal.Signals] = []


@contextmanager
def noted(*numbers: signal.Signals) -> Iterator[None]:
    """Note these signals while the block runs, instead of being ended by them."""
    before = {number: signal.signal(number, _note) for number in numbers}
    try:
        yield
    finally:
        _noted.clear()
        for number, handler in before.items():
            signal.signal(number, handler)


def _note(number: int, _: FrameType | None) -> None:
    if _noted:
        raise KeyboardInterrupt
    _noted.append(signal.Signals(number))


def stop_if_asked() -> None:
    """Raise `StoppedError` where a signal was noted."""
    if _noted:
        raise StoppedError(_noted[0])
