"""A process in which things may go wrong: `python -m faults.worker MODULE:FUNCTION ARGUMENTS`, in the folder `tests`.

The function gets the arguments of a list in JSON. What it reports for a case lies at once in a file, so that the
cases before a crash, and the one that crashed, are known.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parent.parent
PATIENCE = 10
"""Seconds for one case; a process that takes longer is ended by the system (SIGALRM) and counts as hanging."""
MEMORY = 1 << 30
"""Bytes of address space that a case may take beyond what its process has after the imports."""


class Report:
    """One letter a case, in a file: where it is missing, the process ended in that case."""

    def __init__(self, path: Path):
        self._handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)

    def begin(self, number: int) -> None:
        """Start the clock for a case."""
        os.pwrite(self._handle, b"!", number)
        signal.alarm(PATIENCE)

    def end(self, number: int, letter: str) -> None:
        """Say what came of it."""
        signal.alarm(0)
        os.pwrite(self._handle, letter.encode(), number)


def limit_memory() -> None:
    """Refuse this process more address space than `MEMORY` beyond what it has now."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))


def start(
    function: str, *arguments: Any, wrapper: tuple[str, ...] = (), **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run `MODULE:FUNCTION` of this folder in a process of its own, to its end."""
    words = [str(argument) if isinstance(argument, Path) else argument for argument in arguments]
    return subprocess.run(
        [*wrapper, sys.executable, "-m", "faults.worker", function, json.dumps(words)], cwd=TESTS, text=True,
        capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1", **environment}, check=False,
    )  # fmt: skip


def run_cases(function: str, count: int, folder: Path, *arguments: Any, batch: int = 5_000, **environment: str) -> str:
    """Run cases 0 to `count` - 1 with `function(report, first, last, ...)`; return one letter for each.

    "!" stands for a case in which the process ended or hung; the next process goes on behind it. What the processes
    said on stderr is passed on.
    """
    path = folder / "letters"
    done = 0
    while done < count:
        ended = start(function, path, done, min(done + batch, count), *arguments, **environment)
        sys.stderr.write(ended.stderr)
        letters = path.read_text()
        if ended.returncode == 0:
            done = min(done + batch, count)
        elif not letters.endswith("!"):
            raise RuntimeError(f"{function} ended with {ended.returncode} outside a case: {ended.stderr}")
        else:
            print(f"    case {len(letters) - 1} of {function}: code {ended.returncode}", file=sys.stderr, flush=True)
            done = len(letters)
    return path.read_text()


def run_in_forks(cases: Sequence[tuple[list[str], int]], limit: Callable[[int], None]) -> None:
    """Run each `foretell` command in a fork, after `limit` was called there with the number beside it.

    Prints a list in JSON, the last line: exit code and stderr of each.
    """
    import torch
    import torch._dynamo  # once here, not in every fork: optimisers import it
    import torch.utils.tensorboard

    from foretell import facade  # noqa: F401
    from foretell.cli.main import main

    torch.set_num_threads(1)
    said = []
    for command, number in cases:
        out, into = os.pipe()
        child = os.fork()
        if child == 0:
            os.dup2(into, 2)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            limit(number)
            os._exit(main(command))
        os.close(into)
        with os.fdopen(out) as stream:
            words = stream.read()
        said.append([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), words])
    print("\n" + json.dumps(said))


def ends_of_forks(function: str, *arguments: Any) -> list[tuple[int, str]]:
    """Run a function that calls `run_in_forks` in a worker; return exit code and stderr of each command."""
    ended = start(function, *arguments)
    if ended.returncode:
        raise RuntimeError(ended.stderr)
    return [(code, words) for code, words in json.loads(ended.stdout.splitlines()[-1])]


def main() -> None:
    """Run one function."""
    module, _, name = sys.argv[1].partition(":")
    getattr(importlib.import_module(f"faults.{module}"), name)(*json.loads(sys.argv[2]))


if __name__ == "__main__":
    main()
