"""What choosing the target from the data costs against the best fixed target found in hindsight, and whether asking
for more brings more. Reads the experiment of `foretell reproduce` in results/pendulum; nothing is trained.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measuring import Options, Row
from foretell.reporting.asked import asked_achieved
from foretell.reporting.inputs import ExperimentInputs, read_experiment, support_of

FOLDER = Path("results/pendulum")
QUANTILES = (0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 1.0)
"""Advantages that are asked for in hindsight."""
MOST_PERCENT = 1.0
LEAST_SPEARMAN = 0.9

Records = Sequence[Mapping[str, Any]]


def rows(options: Options) -> Iterator[Row]:
    """Yield the cost of the target rule of every policy, then Spearman's correlation on the whole replay."""
    inputs = read_experiment(FOLDER)
    level = {name: _mean(inputs.records, name, None) for name in ("random", "sac")}
    for row in inputs.experiment["rows"]:
        if row["dataset"] is None:
            continue
        asked = inputs.asked if row["condition"] == "return" else _asked_for_advantages(inputs, row["name"], options)
        yield _cost(row["name"], inputs.records, asked, level["sac"] - level["random"])
    yield _correlation(inputs, "pendulum-full-replay")


def _cost(policy: str, records: Records, asked: Records, scale: float) -> Row:
    own = [record for record in asked if record["policy"] == policy]
    starts = {record["start"] for record in own}
    fixed = {target: _mean(own, policy, target) for target in sorted({record["target"] for record in own})}
    best = max(fixed, key=lambda target: fixed[target])
    auto = _mean([record for record in records if record["start"] in starts], policy, None)
    cost = 100 * (fixed[best] - auto) / scale
    return Row(
        benchmark="targets", name=policy, unit="% of random to SAC lost", ours=cost,
        setting={"episodes": len(starts), "seeds": len({record["seed"] for record in own}), "targets": list(fixed)},
        bound=f"at most {MOST_PERCENT:g}%", holds=cost <= MOST_PERCENT,
        extra={"best_fixed_target": best, "best_fixed_mean": fixed[best], "auto_mean": auto},
    )  # fmt: skip


def _asked_for_advantages(inputs: ExperimentInputs, policy: str, options: Options) -> Records:
    """Evaluate every seed of a policy that is told advantages for several of them, from as many starts."""
    from foretell import facade

    episodes = 5 if options.quick else len({record["start"] for record in inputs.asked})
    records: list[Mapping[str, Any]] = []
    for run in sorted((inputs.folder / "runs" / policy).glob("seed-*")):
        records += facade.evaluate(run, episodes=episodes, target_returns=QUANTILES, name=policy)
    return records


def _mean(records: Records, policy: str, target: float | None) -> float:
    found = [r["return"] for r in records if r["policy"] == policy and r["target"] == target]
    return float(np.mean(found))


def _correlation(inputs: ExperimentInputs, policy: str) -> Row:
    points = asked_achieved(inputs.asked, policy, samples=100, root_seed=0)
    if points is None:
        raise SystemExit(f"{FOLDER}: asked.jsonl has no records of {policy}; run foretell reproduce first.")
    found, count = points.correlation(support_of(inputs.cards.get(policy)))
    return Row(
        benchmark="targets", name=f"{policy}, achieved against asked", unit="Spearman", ours=found,
        setting={"targets": count, "within": "the data's support"}, bound=f"at least {LEAST_SPEARMAN:g}",
        holds=found >= LEAST_SPEARMAN,
    )  # fmt: skip
