"""Commands in processes that may be stopped, killed and watched: forked from one that has loaded everything.

What happens in a process besides the command are its circumstances: functions that return context managers, of
modules that the process can import, with their arguments in a `functools.partial`.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

Circumstance = Callable[[], AbstractContextManager[Any]]
LOADED = (
    "torch", "torch._dynamo", "torch.profiler", "torch.utils.tensorboard", "gymnasium.envs.classic_control",
    "foretell.facade", "foretell.cli.main", "foretell.cli.experiment_run", "foretell.models.decision_transformer",
)  # fmt: skip
PATIENCE = 120
"""Seconds after which a process counts as hanging."""


@cache
def _server() -> Any:
    """The process from which all are forked; it has one thread, so that forking is safe."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(LOADED))
    with mock.patch.dict(os.environ, OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", HF_HUB_OFFLINE="1"):
        first = context.Process(target=int)
        first.start()
        first.join()
    return context


@dataclass(frozen=True, kw_only=True)
class Ended:
    """Exit code (below 0: the signal that killed it), what was said on stderr, and seconds from start to end."""

    code: int
    said: str
    seconds: float

    @property
    def sentence(self) -> str:
        """The only line of an error as it should be, else nothing."""
        lines = self.said.splitlines()
        return lines[0] if len(lines) == 1 and lines[0].startswith("foretell: ") else ""


class Running:
    """A command at work, in a process group of its own, in the folder `at`."""

    def __init__(self, arguments: Sequence[object], at: Path, circumstances: Sequence[Circumstance] = ()):
        self._said = at.parent / f"{at.name}.said-{time.monotonic_ns()}"
        words = [os.fspath(one) if isinstance(one, Path) else str(one) for one in arguments]
        self._process = _server().Process(target=_run, args=(words, str(at), str(self._said), tuple(circumstances)))
        self._process.start()
        self.began = time.monotonic()

    @property
    def pid(self) -> int:
        """Number of the process, which is that of its group."""
        return self._process.pid

    @property
    def sentinel(self) -> int:
        """What `multiprocessing.connection.wait` can wait for."""
        return self._process.sentinel

    def ended_within(self, seconds: float) -> bool:
        """Wait; return whether it has ended."""
        self._process.join(max(0.0, seconds))
        return self._process.exitcode is not None

    def send(self, number: signal.Signals, *, group: bool = False) -> None:
        """Send a signal, where there is still anybody to get it."""
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if group else os.kill)(self.pid, number)

    def end(self) -> Ended:
        """Wait for its end; what hangs is killed, and its code says so."""
        if not self.ended_within(PATIENCE):
            self.send(signal.SIGKILL, group=True)
            self._process.join()
        seconds = time.monotonic() - self.began
        said = self._said.read_text(errors="replace") if self._said.exists() else ""
        self._said.unlink(missing_ok=True)
        return Ended(code=self._process.exitcode, said=said, seconds=seconds)


def run(arguments: Sequence[object], at: Path, *circumstances: Circumstance) -> Ended:
    """Run a command to its end."""
    return Running(arguments, at, circumstances).end()


def succeed(arguments: Sequence[object], at: Path, *circumstances: Circumstance) -> Ended:
    """Run a command that nothing disturbs."""
    ended = run(arguments, at, *circumstances)
    assert ended.code == 0, (arguments, ended)
    return ended


def _run(words: list[str], at: str, said: str, circumstances: Sequence[Circumstance]) -> None:
    """In the new process: the command line, as `foretell` runs it."""
    os.setsid()
    os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.stdout.reconfigure(encoding="utf-8", errors="strict")  # pyrefly: ignore
    os.chdir(at)
    import torch

    from foretell.cli.main import main

    torch.set_num_threads(1)
    with contextlib.ExitStack() as stack:
        for circumstance in circumstances:
            stack.enter_context(circumstance())
        code = main(words)
        print(end="", flush=True)
    sys.exit(code)


@contextlib.contextmanager
def after(gate: Path) -> Generator[None]:
    """Begin when this file is there: several processes that have loaded all they need begin together."""
    limit = time.monotonic() + PATIENCE
    while not gate.exists() and time.monotonic() < limit:
        time.sleep(0.001)
    yield


@contextlib.contextmanager
def heard() -> Generator[None]:
    """Hold signals back until the command line is ready for them: before, a process ends as any program does."""
    from foretell.cli import main as command_line

    numbers = {signal.SIGTERM, signal.SIGINT}
    plain = command_line.run_verb
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)

    def run_verb(arguments: Any) -> Any:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
        try:
            return plain(arguments)
        finally:
            signal.pthread_sigmask(signal.SIG_BLOCK, numbers)

    with mock.patch.object(command_line, "run_verb", run_verb):
        yield


@contextlib.contextmanager
def noting(path: Path) -> Generator[None]:
    """Append a line to a file at the beginning of every update (for SAC, every timestep): its number, from 0."""
    from foretell.training.sac import SACTraining
    from foretell.training.sequence import SequenceTraining

    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    update, act = SequenceTraining.update, SACTraining.act_and_record

    def noted_update(training: Any, number: int) -> Any:
        os.write(handle, f"{number}\n".encode())
        return update(training, number)

    def noted_act(training: Any) -> bool:
        os.write(handle, f"{training.replay.size}\n".encode())
        return act(training)

    with (
        mock.patch.object(SequenceTraining, "update", noted_update),
        mock.patch.object(SACTraining, "act_and_record", noted_act),
    ):
        yield
