"""A synthetic experiment's folder: made-up returns of about the size that Pendulum gives."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

DATASETS = {
    # name: (report's value, our level, what asking for more brings: (lowest, highest) achieved, returns in the data)
    "pendulum-random": (-1235.27, -1010.0, (-1230.0, -990.0), (-1705.0, -880.0)),
    "pendulum-medium-replay": (-1025.76, -870.0, (-1300.0, -850.0), (-1600.0, -900.0)),
    "pendulum-full-replay": (None, -157.0, (-1250.0, -155.0), (-1500.0, -20.0)),
    "pendulum-medium": (-607.84, -149.0, (-330.0, -147.0), (-270.0, -5.0)),
}


def record(policy: str, seed: int | None, start: int, value: float, target: float | None = None) -> dict[str, Any]:
    """Return one evaluation record."""
    dataset = None if policy in ("random", "sac") else policy
    algorithm = "decision-transformer" if dataset else policy
    keys = {"policy": policy, "algorithm": algorithm, "dataset": dataset, "seed": seed, "start": start}
    return {**keys, "target": target, "return": value, "length": 200}


def experiment(*, seeds: int = 2, starts: int = 12, quick: bool = False) -> dict[str, Any]:
    """Return the content of experiment.json."""
    baselines = [("random", -1228.31), ("sac", -138.44)]
    rows = [{"name": name, "algorithm": name, "dataset": None, "report": report} for name, report in baselines]
    curves = [
        {"figure": "figure-6-sac", "title": "SAC learns to swing up", "dataset": None, "runs": ["runs/sac/seed-0"]}
    ]
    for number, (name, (report, *_)) in enumerate(DATASETS.items(), start=5):
        rows.append({"name": name, "algorithm": "decision-transformer", "dataset": name, "report": report})
        runs = [f"runs/decision-transformer/{name}/seed-{seed}" for seed in range(seeds)]
        title = f"Decision Transformer learning from {name}"
        curves.append({"figure": f"figure-{number}-{name}", "title": title, "dataset": name, "runs": runs})
    return {
        "title": "Decision Transformer on Pendulum <2021, revisited>",
        "preset": "pendulum",
        "quick": quick,
        "protocol": {
            "environment": "Pendulum-v1",
            "root_seed": 0,
            "evaluation_starts": starts,
            "training_seeds": list(range(seeds)),
            "checkpoint": "last",
            "acting": "deterministic",
            "target_rule": "95% quantile of the dataset's returns",
            "bootstrap_samples": 500,
        },
        "rows": rows,
        "curves": curves,
        "commands": ["foretell collect sac-agent --out datasets/pendulum-medium.hdf5", "foretell train && echo <done>"],
        "versions": {"foretell": "0.1.0", "torch": "2.9.0", "numpy": "2.0.0", "gymnasium": "1.0.0", "python": "3.12.1"},
        "validation_levels": {"random": -1230.0, "sac": -150.0},
        "wall_seconds": 412.0,
        "machine": "2 CPU cores, x86_64",
    }


def write_experiment(folder: Path, *, seeds: int = 2, starts: int = 12, targets: int = 5, quick: bool = False) -> Path:
    """Write a whole experiment's folder, as the stages before reporting would."""
    generator = np.random.default_rng(0)
    ease = generator.normal(0, 78, starts)  # what a start state does to every policy
    first = 10_000 + np.arange(starts)
    evaluations = [record("random", None, int(s), float(generator.normal(-1230, 290))) for s in first]
    evaluations += [record("sac", 0, int(s), float(-143 + e)) for s, e in zip(first, ease)]
    asked = []
    for name, (_, level, (low, high), (data_low, data_high)) in DATASETS.items():
        _write_lines(folder / "cards" / f"{name}.json", None)
        quantiles = {"0.05": data_low, "0.5": (data_low + data_high) / 2, "0.95": data_high}
        card = {
            "name": name,
            "episodes": 1000,
            "steps": 200_000,
            "returns": {"mean": -300.0, "max": -5.0, "quantiles": quantiles},
        }
        (folder / "cards" / f"{name}.json").write_text(json.dumps(card))
        for seed in range(seeds):
            shift = generator.normal(0, 4)
            for start, e in zip(first, ease):
                noise = generator.normal(0, 12)
                evaluations.append(record(name, seed, int(start), level + shift + e + noise, target=data_high))
                for target in np.linspace(-1600, 0, targets):
                    got = min(max(target, low), high) + shift + 0.3 * e + noise
                    asked.append(record(name, seed, int(start), got, target=float(target)))
            updates = np.arange(0, 4001, 250)
            means = level - (1100 + level) * np.exp(-updates / 400) * (1 if level > -900 else 0)
            means = means + generator.normal(0, 15, len(updates))
            _write_lines(
                folder / f"runs/decision-transformer/{name}/seed-{seed}/events.jsonl",
                [{"event": "evaluation", "update": int(u), "mean_return": float(m)} for u, m in zip(updates, means)],
            )
    steps = np.arange(200, 20_001, 200)
    learned = -150 - 1100 / (1 + np.exp((steps - 4000) / 700)) + generator.normal(0, 90, len(steps))
    events = [{"event": "episode", "step": int(s), "return": float(r), "length": 200} for s, r in zip(steps, learned)]
    events += [
        {"event": "evaluation", "step": int(s), "mean_return": float(r)} for s, r in zip(steps[9::10], learned[9::10])
    ]
    _write_lines(folder / "runs/sac/seed-0/events.jsonl", events)
    _write_lines(folder / "evaluations.jsonl", evaluations)
    _write_lines(folder / "asked.jsonl", asked)
    (folder / "experiment.json").write_text(json.dumps(experiment(seeds=seeds, starts=starts, quick=quick)))
    return folder


def _write_lines(path: Path, values: list[dict[str, Any]] | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(value) + "\n" for value in values or []))


@pytest.fixture(scope="session", name="write_experiment")
def fixture_write_experiment() -> Callable[..., Path]:
    return write_experiment


@pytest.fixture
def experiment_folder(tmp_path: Path) -> Path:
    return write_experiment(tmp_path / "experiment")
