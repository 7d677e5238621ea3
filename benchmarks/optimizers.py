"""AdamW and Muon on pendulum-medium: what an update takes by each, and what a number of updates earns.

Reads the data of `foretell reproduce` in results/pendulum; some five minutes of one core. Validation starts.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from benchmarks.making import TORQUE, random_model
from benchmarks.measuring import Options, Row, alternate, rate
from foretell import facade
from foretell.datasets.registry import open_dataset
from foretell.evaluation.protocol import evaluate, validation_starts
from foretell.presets import league
from foretell.presets.league import AGENTS_OWN, MEDIUM, SCHEDULES
from foretell.sequences.normalization import Normalization
from foretell.sequences.windows import WindowSampler
from foretell.training.configs import TrainingConfig
from foretell.training.sequence import SequenceTraining

DATA = Path(f"results/pendulum/datasets/{MEDIUM}.hdf5")
MUON = replace(AGENTS_OWN, evaluate_every=0)
ADAMW = replace(SCHEDULES[MEDIUM], batch_size=MUON.batch_size, evaluate_every=0)
MODEL = replace(league.MODEL, context_length=1)
SEEDS, EPISODES = range(3), 200


def rows(options: Options) -> Iterator[Row]:
    """Yield the time of an update, then the mean return for each optimiser, number of updates and seed."""
    torch.set_num_threads(1)
    yield time_of_an_update(5 if options.quick else 100, 1 if options.quick else 5)
    for config in (MUON, replace(ADAMW, updates=MUON.updates), ADAMW):
        for seed in SEEDS[:1] if options.quick else SEEDS:
            yield score(replace(config, updates=30) if options.quick else config, seed)


def time_of_an_update(updates: int, repetitions: int) -> Row:
    """Time updates by one and the other in turn."""
    data = open_dataset(DATA)
    sampler = WindowSampler(data, Normalization.fit(data, TORQUE), context_length=MODEL.context_length, seed=0)
    sides = [SequenceTraining(random_model(MODEL), sampler, config, seed=0) for config in (MUON, ADAMW)]
    for side in sides:
        rate(side.update, 3)
    comparison = alternate(
        *(partial(rate, side.update, updates) for side in sides), repetitions, higher_is_better=True
    )  # fmt: skip
    return Row(
        benchmark="optimizers", name="updates by Muon", unit="updates/s", setting=_setting(MUON),
        peer_name="by AdamW", peer_version=torch.__version__, **comparison.fields(),
    )  # fmt: skip


def score(config: TrainingConfig, seed: int) -> Row:
    """Train one run and let it act from the validation starts."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        run = facade.train(DATA, Path(folder) / "run", model=MODEL, training=config, seed=seed)
        seconds = time.perf_counter() - started
        earned = evaluate(facade.load_policy(run), "Pendulum-v1", validation_starts(0, EPISODES)).returns
    return Row(
        benchmark="optimizers", name=f"{config.optimizer}, {config.updates:,} updates, seed {seed}", unit="mean return",
        ours=float(earned.mean()), setting=_setting(config) | {"seed": seed, "episodes": EPISODES},
        extra={"worst_return": float(earned.min()), "seconds": seconds},
    )  # fmt: skip


def _setting(config: TrainingConfig) -> dict[str, object]:
    return {
        "dataset": MEDIUM, "optimizer": config.optimizer, "updates": config.updates, "batch_size": config.batch_size,
        "learning_rate": config.learning_rate, "threads": 1,
    }  # fmt: skip
