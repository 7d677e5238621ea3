"""Value learning on the 1,000,000 steps of pendulum-random at the default settings: seconds on one thread."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measuring import Options, Row

STEPS = 1_000_000
BOUND_SECONDS = 120.0


def rows(options: Options) -> Iterator[Row]:
    """Yield the seconds of `foretell train --algorithm iql`, its run folder written."""
    import torch

    from foretell import facade
    from foretell.collection.recipes import collect_random
    from foretell.values.configs import IQLConfig

    torch.set_num_threads(1)
    config = IQLConfig(updates=200) if options.quick else IQLConfig()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        data = collect_random("Pendulum-v1", 20_000 if options.quick else STEPS, 0, folder / "pendulum-random.hdf5")
        started = time.perf_counter()
        facade.train_iql(data, folder / "run", values=config)
        elapsed = time.perf_counter() - started
    yield Row(
        benchmark="values", name="implicit Q-learning", unit="s", ours=elapsed,
        setting={"steps": data.num_steps, "updates": config.updates, "threads": 1},
        bound=f"at most {BOUND_SECONDS:g} s", holds=elapsed <= BOUND_SECONDS,
    )  # fmt: skip
