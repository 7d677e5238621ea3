"""The verbs, and what becomes of errors: one sentence on stderr and an exit code (`core/errors.py`)."""

from __future__ import annotations

import gc
import io
import json
import os
import platform
import re
import signal
import sys
import threading
import time
import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from typing import Annotated, Any, TextIO

import tyro

from foretell.cli.collect import Collect
from foretell.cli.evaluate import Evaluate
from foretell.cli.flags import wait_briefly
from foretell.cli.inspect import Inspect
from foretell.cli.own_environments import with_own_environments
from foretell.cli.progress import tell
from foretell.cli.report import Report
from foretell.cli.reproduce import Reproduce
from foretell.cli.train import Train
from foretell.core.errors import DatasetError, ForetellError, ResourceError, StoppedError, UsageError
from foretell.core.files import UNFIT
from foretell.core.launching import launch
from foretell.core.memory import keep_within_the_container, memory_errors
from foretell.core.printing import printable
from foretell.core.signals import noted
from foretell.core.stopping import nothing_to_save
from foretell.core.system import has_left
from foretell.core.versions import versions

Verb = (
    Annotated[Collect, tyro.conf.subcommand("collect")]
    | Annotated[Inspect, tyro.conf.subcommand("inspect")]
    | Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Report, tyro.conf.subcommand("report")]
    | Annotated[Reproduce, tyro.conf.subcommand("reproduce")]
)
YOUNG = 10_000
"""Objects made before the garbage collector looks at the youngest (Python's own: 700 to 2,000). To load PyTorch makes a
million, all of which stay, and to look at them again and again takes a while."""
PATIENCE = 5.0
"""Seconds until another process than the first says its error. If it ended at once, torchrun would end the first, maybe
before that has said what both met; when the first has, torchrun ends this one, silently."""
_OF_GYMNASIUM = re.compile(r"\x1b\[\d+mWARN: (.*)\x1b\[0m", re.DOTALL)
"""How Gymnasium colours its warnings."""
DESCRIPTION = "Foretell: recorded experience in, policies out, by sequence modelling. --version says what is installed."


def main(arguments: Sequence[str] | None = None, out: TextIO | None = None) -> int:
    """Run one verb, or say what is installed; return the exit code. Results go to `out`, else to stdout."""
    words, out = sys.argv[1:] if arguments is None else list(arguments), out or sys.stdout
    warnings.showwarning, threading.excepthook = _show_warning, _show_thread_error
    try:
        if words == ["--version"]:
            _print_result(_versions(), out)
            return 0
        with (
            noted(signal.SIGINT, signal.SIGTERM), redirect_stdout(sys.stderr) if _alone(words) else nullcontext(),
            _the_first_speaks_first(),
        ):  # fmt: skip
            verb, result = run_verb(arguments)
        if launch().speaks:
            _print_result(json.dumps(result, allow_nan=False) if verb.json else verb.show(result), out)
        return DatasetError.exit_code if isinstance(verb, Inspect) and verb.failed(result) else 0
    except ForetellError as error:
        if launch().speaks or not isinstance(error, StoppedError):
            tell(f"foretell: {error}")
        return error.exit_code
    except (OSError, MemoryError) as error:
        if isinstance(error, OSError) and has_left(error) and {"-h", "--help"} & set(words):
            return 0  # who read it has read enough
        # what no stage could say better: the machine, not the input
        unfit = isinstance(error, OSError) and error.errno in UNFIT
        mend = "choose another path" if unfit else "free some space or choose another path"
        tell(f"foretell: {str(error) or 'memory is full'}; {mend}.")
        return (UsageError if unfit else ResourceError).exit_code
    except KeyboardInterrupt:
        tell("foretell: ended at once; the same command continues from the last checkpoint.")
        return 130


@contextmanager
def _the_first_speaks_first() -> Generator[None]:
    """Keep an error to itself for a while in another process than the first: it may be one that both meet."""
    try:
        yield
    except ForetellError as error:
        if not launch().speaks and not isinstance(error, StoppedError):
            with nothing_to_save():
                time.sleep(PATIENCE)
        raise


def _print_result(text: str, out: TextIO) -> None:
    """Raises `ResourceError` where it cannot be printed; a reader who has read enough is none."""
    try:
        print(printable(text), file=out, flush=True)
    except OSError as error:
        if not has_left(error):
            raise ResourceError(
                f"the result cannot be printed ({error.strerror}); what was asked for is done."
            ) from None


def run_verb(arguments: Sequence[str] | None) -> tuple[Any, dict[str, Any]]:
    """Parse one command line and run it; return the verb and its result. Raises `ForetellError`."""
    with nothing_to_save():
        verb = tyro.cli(Verb, prog="foretell", description=DESCRIPTION, args=arguments)  # type: ignore[call-overload]
    if launch().count > 1 and not isinstance(verb, Train):
        raise UsageError("torchrun starts several processes, which foretell train alone can share; run it plainly.")
    verb = with_own_environments(verb)
    with memory_errors():
        return verb, verb.run()


def _versions() -> str:
    """Return what a report of a problem has to say first."""
    found = versions("torch", "h5py", "safetensors")
    name, python = found.pop("foretell"), found.pop("python")
    rest = "".join(f"\n{package} {number}" for package, number in found.items())
    return f"foretell {name}\npython {python} on {platform.platform()}{rest}"


def entry() -> None:
    """Console script."""
    gc.set_threshold(YOUNG)
    wait_briefly()
    if os.environ.get("MPLBACKEND", "").startswith("module://"):  # a notebook's, for its shell too; need not be here
        del os.environ["MPLBACKEND"]
    _open_what_is_closed()
    replaced(sys.stdout)
    replaced(sys.stderr)
    keep_within_the_container()
    code = main(out=_stdout_alone() if _alone(sys.argv) else None)
    _leave_what_cannot_be_said()
    gc.freeze()  # at its end Python looks for what may go, and lets a million objects go one by one: half a second
    sys.exit(code)


def _open_what_is_closed() -> None:
    """Give those of stdin, stdout and stderr that are closed to nowhere: the next file would be taken for them."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free is this one
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", closefd=False))


def _leave_what_cannot_be_said() -> None:
    """Let go of what a full disk or a reader who left did not take; Python would make an exit code of it."""
    for name in ("stdout", "stderr"):
        try:
            getattr(sys, name).flush()
        except (OSError, ValueError):
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115


def _alone(words: Sequence[str]) -> bool:
    """Whether stdout is for one JSON object and nothing else."""
    return "--json" in words and not {"-h", "--help"} & set(words)


def _stdout_alone() -> TextIO:
    """Return what was stdout; all else that is printed, by C and other processes and at the end too, is for stderr."""
    was, sys.stdout = sys.stdout, sys.stderr
    kept = os.dup(1)
    os.dup2(2, 1)
    return os.fdopen(kept, "w", encoding=was.encoding, errors=was.errors, closefd=False)


def replaced(stream: TextIO) -> None:
    """Have characters that a stream would refuse replaced: a pipe on Windows takes 256, and bars are none of them."""
    if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
        stream.reconfigure(errors="replace")


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    if launch().speaks:
        tell(f"foretell: warning: {without_colours(message)}")


def without_colours(message: Warning | str) -> str:
    """Return what a warning says, without the colours of Gymnasium's."""
    coloured = _OF_GYMNASIUM.fullmatch(str(message))
    return coloured[1] if coloured else str(message)


def _show_thread_error(error: threading.ExceptHookArgs) -> None:
    if not isinstance(error.exc_value, OSError):  # TensorBoard's writer keeps those, and raises them where it is used
        threading.__excepthook__(error)
