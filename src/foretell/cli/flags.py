"""From settings back to the flags that say them, so that a command can be printed, or run in another process."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields
from typing import Any

from foretell.core.errors import UsageError
from foretell.core.system import cores

FIRST = "decision-transformer"
"""The model whose flags have no prefix."""
RECORDS = "evaluations.jsonl"
"""What an evaluation's records are called in the folder of a run, or of several seeds, where nothing else is said."""
MOST_SEEDS, MOST_THREADS = 10_000, 1_024
"""Of one command. Beyond them it is a slip of the finger, and a system gives out before it can say so."""


def flags_of(config: Any, prefix: str = "") -> list[str]:
    """Return the flags that say every field of a settings dataclass; none for None.

    >>> from foretell.evaluation.configs import ChunkingConfig
    >>> flags_of(ChunkingConfig(actions_taken=3), "chunking.")
    ['--chunking.actions-taken', '3']
    """
    flags = []
    for item in fields(config) if config is not None else ():
        flags += flag(f"{prefix}{item.name}", getattr(config, item.name))
    return flags


def flag(name: str, value: Any) -> list[str]:
    """Return one flag with its value; nothing for an empty tuple.

    >>> flag("goals", False), flag("values.hidden_sizes", (8, 8))
    (['--no-goals'], ['--values.hidden-sizes', '8', '8'])
    """
    name = name.replace("_", "-")
    if isinstance(value, bool):
        group, _, last = name.rpartition(".")
        return [f"--{group}{'.' if group else ''}{'' if value else 'no-'}{last}"]
    if value == ():
        return []
    return [f"--{name}", *map(str, value if isinstance(value, tuple) else (value,))]


def model_prefix(algorithm: str) -> str:
    """Return the prefix of a model's flags on the command line of `foretell train`."""
    return "" if algorithm == FIRST else f"{algorithm}."


def parse_seeds(text: str) -> list[int]:
    """Return the seeds that `text` names: "0..7" (both ends), or "0,3,5". Raises `UsageError`.

    >>> parse_seeds("2..4"), parse_seeds("7,1")
    ([2, 3, 4], [7, 1])
    """
    seeds: Sequence[int] = []
    with suppress(ValueError):
        first, between, last = text.partition("..")
        seeds = range(int(first), int(last) + 1) if between else [int(part) for part in text.split(",")]
    if len(seeds) > MOST_SEEDS:
        raise UsageError(f"--seeds {text} names {len(seeds):,} seeds; expected at most {MOST_SEEDS:,} at a time.")
    if not seeds or len(set(seeds)) != len(seeds) or min(seeds) < 0:
        raise UsageError(f"--seeds {text}; expected different whole numbers from 0, as 0..7 or 0,3,5.")
    return list(seeds)


def require_threads(threads: int | None) -> None:
    """Raise `UsageError` where `--threads` is no number of threads, or one that a system may not have."""
    require_one("threads", threads)
    if threads is not None and threads > MOST_THREADS:
        raise UsageError(
            f"--threads {threads}; expected at most {MOST_THREADS}; more than there are cores only cost time."
        )


def require_one(name: str, count: int | None) -> None:
    """Raise `UsageError` where a flag counts something and is below 1."""
    if count is not None and count < 1:
        raise UsageError(f"--{name} {count}; expected at least 1.")


def wait_briefly() -> None:
    """Have threads that wait for each other sleep after some microseconds, as GNU's OpenMP reads it when it is loaded.

    Its own hundred times as long spares little where the cores are free; where others use them as well, waiting takes
    the time of the thread that is waited for, and training was two to three times as slow. Who has said how, has.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = "10000"


def use_threads(threads: int | None, processes: int = 1) -> None:
    """Compute on as many threads; None is one a core, shared among the `processes` of this machine. Loads PyTorch.

    Who has set OMP_NUM_THREADS has said how many, where there is one process: of several torchrun sets it to 1.
    """
    import torch

    if threads or processes > 1 or "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(threads or max(1, cores() // processes))


def common_flags(verb: Any, names: Sequence[str]) -> list[str]:
    """Return the flags of a verb's plain fields, those that are None left out."""
    found = ((name, getattr(verb, name)) for name in names)
    return [part for name, value in found if value is not None for part in flag(name, value)]
