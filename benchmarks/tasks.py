"""Random actions in small tasks of Gymnasium's, and what is learned from them by each condition.

Ten minutes or so of one core; writes its table to `benchmarks/results/tasks.md`. Evaluation starts, last checkpoint,
three training seeds.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.measuring import Options, Row
from foretell import facade
from foretell.collection.recipes import collect_random
from foretell.core.decimals import shown
from foretell.core.seeding import stream
from foretell.models.configs import DecisionTransformerConfig, MLPConfig, ModelConfig
from foretell.reporting.statistics import estimate_mean
from foretell.training.configs import TrainingConfig
from foretell.values.configs import IQLConfig

TASKS = ("CartPole-v1", "Acrobot-v1", "FrozenLake-v1", "Pendulum-v1")
STEPS, SEEDS, EPISODES = 100_000, range(3), 200
MODEL = DecisionTransformerConfig(context_length=1, width=64, layers=2, dropout=0.0)
"""That of the README's run on advantages: these tasks need no memory."""
CLONE = MLPConfig(width=64)
TRAINING = TrainingConfig(updates=500, optimizer="muon", batch_size=256)
POLICIES = {
    "random": "random actions", "none": "imitation", "best": "imitation of the best tenth",
    "return": "told the return", "advantage": "told advantages", "greedy": "greedy on the values",
}  # fmt: skip
TABLE = Path(__file__).parent / "results" / "tasks.md"


def rows(options: Options) -> Iterator[Row]:
    """Yield the mean return of each policy in each task."""
    torch.set_num_threads(1)
    tasks, seeds, episodes = (TASKS[2:3], SEEDS[:1], 5) if options.quick else (TASKS, SEEDS, EPISODES)
    training = TrainingConfig(updates=2, batch_size=8) if options.quick else TRAINING
    values = IQLConfig(updates=20) if options.quick else IQLConfig()
    found: dict[tuple[str, str], Row] = {}
    for task in tasks:
        with tempfile.TemporaryDirectory() as folder:
            for name, returns in _returns(task, Path(folder), training, values, seeds, episodes):
                estimate = estimate_mean(returns, samples=10_000, generator=stream(0, "tasks"))
                found[task, name] = Row(
                    benchmark="tasks", name=f"{task}, {POLICIES[name]}", unit="mean return", ours=estimate.value,
                    setting={
                        "task": task, "steps": STEPS, "policy": name, "updates": training.updates,
                        "values": values.updates, "seeds": len(returns), "episodes": episodes,
                    },
                    extra={"interval": [estimate.low, estimate.high], "by_seed": returns.mean(1).tolist()},
                )  # fmt: skip
                yield found[task, name]
    if not options.quick:
        TABLE.write_text(_table(found), encoding="utf-8")


def _returns(
    task: str, folder: Path, training: TrainingConfig, values: IQLConfig, seeds: range, episodes: int
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the returns `(seeds, episodes)` of each policy."""
    data = collect_random(task, STEPS, 0, folder / "random.hdf5")
    yield "random", np.array([_earned("random", episodes, environment=task)])
    runs: dict[str, list[Path]] = {name: [] for name in ("none", "best", "return", "advantage")}
    for seed in seeds:
        for name, made in runs.items():
            cloned = name in ("none", "best")
            model: ModelConfig = CLONE if cloned else MODEL
            made.append(facade.train(
                data, folder / f"{name}-{seed}", algorithm="mlp" if cloned else "decision-transformer",
                condition="none" if cloned else name, model=model, training=training, seed=seed,
                best_share=0.1 if name == "best" else 1.0, values=values if name == "advantage" else None,
            ))  # fmt: skip
    for name, made in runs.items():
        yield name, np.array([_earned(run, episodes) for run in made])
    yield "greedy", np.array([_earned(run / "values", episodes, acting={"greedy": True}) for run in runs["advantage"]])


def _earned(run: str | Path, episodes: int, **settings: Any) -> list[float]:
    return [record["return"] for record in facade.evaluate(run, episodes=episodes, **settings)]


def _table(found: Mapping[tuple[str, str], Row]) -> str:
    """Return the table: a row for each task, its best policies in bold where their intervals meet the best mean."""
    tasks = list(dict.fromkeys(task for task, _ in found))
    lines = [f"| {STEPS:,} random timesteps of | {' | '.join(POLICIES.values())} |", f"|:--{'|--:' * len(POLICIES)}|"]
    for task in tasks:
        row = [found[task, name] for name in POLICIES]
        most = max(one.ours for one in row)
        cells = [_cell(one, bold=one.extra["interval"][1] >= most) for one in row]
        lines.append(f"| {task} | {' | '.join(cells)} |")
    return "\n".join([
        *lines, "",
        f"Mean undiscounted return from {EPISODES} shared start states, {len(SEEDS)} training seeds, [95% interval] "
        "over both; bold: reaches the best mean. Value functions at their defaults; 500 updates of a model of one "
        "timestep by Muon. Written by `python -m benchmarks tasks`.", "",
    ])  # fmt: skip


def _cell(row: Row, *, bold: bool) -> str:
    low, high = row.extra["interval"]
    words = f"{shown(row.ours, low, high)} [{shown(low, row.ours, high)}, {shown(high, row.ours, low)}]"
    return f"**{words}**" if bold else words
