"""Ctrl-C and SIGTERM: the update under way is finished and saved; then a command ends with 130 or 143, and a call from
Python with `KeyboardInterrupt` (`facade/interrupts.py`).

How: `core/stopping.py`. A second signal ends either at once, but for processes that torchrun started.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

from foretell.core import stopping, system
from foretell.core.launching import by_torchrun

AGAIN_SECONDS, LOOKS = 0.05, 200
"""From a signal in the middle of an import to the next look; and the number of looks, then it counts anyway."""
_looks: list[int] = []


@contextmanager
def noted(*numbers: signal.Signals) -> Generator[None]:
    """Note these signals while the block runs, instead of being ended by them."""
    before = {number: signal.signal(number, _note) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        stopping.forget()


def _note(number: int, frame: FrameType | None) -> None:
    if _importing(frame) and len(_looks) < LOOKS:
        _looks.append(number)
        again = threading.Timer(AGAIN_SECONDS, _send, (number,))
        again.daemon = True
        again.start()
        return
    _looks.clear()
    if stopping.asked() and not by_torchrun():  # which passes on what this may have heard already
        raise KeyboardInterrupt
    stopping.wish(number)


def _importing(frame: FrameType | None) -> bool:
    """Whether a module is being loaded: an exception in there leaves half of it behind, and importers swallow it."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _send(number: int) -> None:
    if signal.getsignal(number) is _note:  # else nobody waits for it any more
        system.signal_this_process(number)
