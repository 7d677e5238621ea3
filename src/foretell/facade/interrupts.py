"""Ctrl-C in a notebook or a script: what was learned is saved before the call ends, as on the command line."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager

from foretell.core import stopping
from foretell.core.errors import StoppedError
from foretell.core.progress import Progress
from foretell.core.signals import noted


@contextmanager
def saved_when_interrupted(progress: Progress) -> Generator[Progress]:
    """Let a first Ctrl-C end the work inside where it can go on later, with `KeyboardInterrupt`; a second at once.

    The work reports to the progress that is returned, and heeds `core.stopping`. Only where Python itself would have
    raised `KeyboardInterrupt`: whoever heeds signals otherwise is left alone, and work that other threads begin; what
    they have under way heeds the same wish where it evaluates, as on the command line.
    """
    here = threading.current_thread() is threading.main_thread()
    if not here or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield progress
        return
    with noted(signal.SIGINT):
        try:
            yield stopping.heeding(progress)
        except StoppedError as error:
            if not stopping.asked() or error.signal_number != signal.SIGINT:  # a caller's own, or another signal
                raise
            raise KeyboardInterrupt("what was learned is saved; the same call goes on from there") from None
        if stopping.asked():  # behind the last report: the work is done, its caller was to be stopped
            raise KeyboardInterrupt("the work was done")
