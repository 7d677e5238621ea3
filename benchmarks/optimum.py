"""The optimum of Pendulum-v1 on coarser and finer grids: what acting on each earns, and what its tables promise.

Some minutes of one core, and 2 GiB of memory for the finest grid.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from benchmarks.measuring import Options, Row

GRIDS = ((200, 11), (500, 21), (1_000, 41), (1_400, 41), (2_000, 61))
"""Angles and torques; the finest is what the others are compared with."""
OTHERS = 2_000
"""Validation starts beside the 200 evaluation starts."""


def rows(options: Options) -> Iterator[Row]:
    """Yield the mean return from the evaluation starts for each grid, the finest first."""
    import numpy as np
    import torch

    from foretell.agents.pendulum_optimum import OptimumConfig, OptimumPolicy, pendulum_optimum
    from foretell.environments.making import make_environments
    from foretell.evaluation.protocol import evaluate, evaluation_starts, validation_starts

    torch.set_num_threads(1)
    lists = evaluation_starts(0), validation_starts(0, 20 if options.quick else OTHERS)
    first = [make_environments("Pendulum-v1", len(starts)).reset(starts) for starts in lists]
    finest = None
    for angles, torques in reversed(GRIDS[:2] if options.quick else GRIDS):
        started = time.perf_counter()
        optimum = pendulum_optimum(OptimumConfig(angles=angles, torques=torques))
        seconds = time.perf_counter() - started
        earned = [evaluate(OptimumPolicy(optimum), "Pendulum-v1", starts).returns for starts in lists]
        promised = [optimum.returns(observations) for observations in first]
        finest = earned if finest is None else finest
        yield Row(
            benchmark="optimum", name=f"{angles} x {optimum.grid.rows}, {torques} torques", unit="mean return",
            ours=float(earned[0].mean()),
            setting={"angles": angles, "torques": torques, "evaluation_starts": len(lists[0]), "others": len(lists[1])},
            extra={
                "tables_promise": float(promised[0].mean()), "others_earn": float(earned[1].mean()),
                "others_tables_promise": float(promised[1].mean()),
                "behind_the_finest": float((finest[0] - earned[0]).mean()),
                "others_behind_the_finest": float((finest[1] - earned[1]).mean()),
                "others_more_than_1_behind": int((finest[1] - earned[1] > 1).sum()),
                "largest_gap": float(max(np.abs(gap).max() for gap in map(np.subtract, promised, earned))),
                "tables": len(optimum.tables), "seconds": seconds,
                "tables_gib": sum(table.nbytes for table in optimum.tables) / 2**30,
            },
        )  # fmt: skip
