"""Whether this process is one of several that `torchrun` started together; free of torch."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Launch:
    """Number `rank` of `count` processes, from 0; on this machine number `local_rank` of `local_count`."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    local_count: int = 1

    @property
    def speaks(self) -> bool:
        """Whether this is the process that writes and prints; the others are silent."""
        return self.rank == 0


def by_torchrun() -> bool:
    """Say whether torchrun started this process, maybe alone: other starters set RANK too, and mean something else."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def launch() -> Launch:
    """Return what torchrun says in the environment; one process alone where it said nothing."""
    if not by_torchrun():
        return Launch()
    names = {"rank": "RANK", "count": "WORLD_SIZE", "local_rank": "LOCAL_RANK", "local_count": "LOCAL_WORLD_SIZE"}
    return Launch(**{field: int(os.environ[name]) for field, name in names.items()})
