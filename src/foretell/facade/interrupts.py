"""Ctrl-C in a notebook or a script: what was learned is saved before the call ends, as on the command line."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from foretell.core import stopping
from foretell.core.errors import StoppedError
from foretell.core.progress import Progress, silent
from foretell.core.settings import check_progress
from foretell.core.signals import noted

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def saved_when_interrupted(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Let a first Ctrl-C end a function's work where it can go on later, with `KeyboardInterrupt`; a second at once.

    Only where Python itself would have raised it: whoever heeds signals otherwise, and calls from other threads, are
    left alone. The function takes `progress`, and heeds `core.stopping`.
    """

    @wraps(function)
    def called(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        here = threading.current_thread() is threading.main_thread()
        if not here or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            return function(*args, **kwargs)
        given: Any = kwargs.get("progress", silent)
        check_progress(given)
        kwargs["progress"] = _heeding(given)
        with noted(signal.SIGINT):
            try:
                return function(*args, **kwargs)
            except StoppedError as error:
                if not stopping.asked() or error.signal_number != signal.SIGINT:  # a caller's own, or another signal
                    raise
                raise KeyboardInterrupt("saved; the same call goes on from there") from error

    return called


def _heeding(progress: Progress) -> Progress:
    def report(done: int, total: int, **measurements: float) -> None:
        progress(done, total, **measurements)
        stopping.stop_if_asked()

    return report
