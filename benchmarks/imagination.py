"""How little data imagination needs: parts of SAC's replay, the world learned from each, greedy acting in it scored.

Reads the replay of `foretell reproduce` in results/pendulum; about half a minute of one core for each row.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measuring import Options, Row

REPLAY = Path("results/pendulum/runs/sac/seed-0/replay.hdf5")
PARTS = ((0, 1_000, 1), (19_000, 20_000, 3), (0, 500, 1), (19_500, 20_000, 1), (0, 200, 1))
"""First timestep, timestep behind the last, seeds."""
IMAGINED = 100_000
EPISODES = 200


def rows(options: Options) -> Iterator[Row]:
    """Yield the mean return over the shared start states for each part and seed."""
    for start, stop, seeds in PARTS[:1] if options.quick else PARTS:
        for seed in range(1 if options.quick else seeds):
            yield score(start, stop, seed, quick=options.quick)


def score(start: int, stop: int, seed: int, *, quick: bool) -> Row:
    """Learn a world of a part of the replay, value functions of what is imagined in it, and act greedily on them."""
    import torch

    from foretell.collection.imagination import imagine
    from foretell.datasets.registry import open_dataset
    from foretell.evaluation.protocol import evaluate, evaluation_starts
    from foretell.sequences.normalization import Normalization
    from foretell.sequences.scaling import ActionRange
    from foretell.values.acting import GreedyPolicy
    from foretell.values.configs import IQLConfig
    from foretell.values.training import train_values

    torch.set_num_threads(1)
    config = IQLConfig(updates=200 if quick else 5_000)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        part = open_dataset(REPLAY).section(start, stop)
        steps = 2_000 if quick else IMAGINED
        data = imagine(part, num_steps=steps, seed=seed, path=Path(temporary) / "imagined.hdf5")
        normalization = Normalization.fit(data, ActionRange(low=(-2.0,), high=(2.0,)))
        functions = train_values(data, normalization, config, seed=seed)
    seconds = time.perf_counter() - started
    earned = evaluate(GreedyPolicy(functions), "Pendulum-v1", evaluation_starts(0, EPISODES)).returns
    return Row(
        benchmark="imagination", name=f"timesteps {start} to {stop - 1}, seed {seed}", unit="mean return",
        ours=float(earned.mean()),
        setting={"recorded": stop - start, "imagined": steps, "updates": config.updates, "episodes": EPISODES},
        extra={"worst_return": float(earned.min()), "seconds": seconds},
    )  # fmt: skip
