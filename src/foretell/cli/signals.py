"""Ctrl-C and SIGTERM: the update under way is finished and saved, then the command ends with 130 or 143.

How: `core/stopping.py`. A second signal ends the command at once.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from foretell.core import stopping


@contextmanager
def noted(*numbers: signal.Signals) -> Iterator[None]:
    """Note these signals while the block runs, instead of being ended by them."""
    before = {number: signal.signal(number, _note) for number in numbers}
    try:
        yield
    finally:
        stopping.forget()
        for number, handler in before.items():
            signal.signal(number, handler)


def _note(number: int, _: FrameType | None) -> None:
    if stopping.asked():
        raise KeyboardInterrupt
    stopping.wish(number)
