"""What an experiment's folder says of itself: `experiment.json` (docs/architecture.md)."""

from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING, Any

from foretell.cli.flags import use_threads
from foretell.core.versions import versions
from foretell.presets.experiment import PLAIN, Entry
from foretell.sequences.targets import target_rule

if TYPE_CHECKING:
    from foretell.cli.experiment_run import ExperimentRun


def describe(run: ExperimentRun) -> dict[str, Any]:
    """Return protocol, rows, learning curves, commands and circumstances of an experiment that is done."""
    experiment = run.experiment
    return {
        "title": experiment.title, "preset": experiment.name, "quick": experiment.quick,
        "protocol": {
            "environment": experiment.environment, "root_seed": run.root_seed,
            "evaluation_starts": experiment.evaluation_episodes, "training_seeds": list(run.seeds),
            "checkpoint": "last", "acting": "deterministic", "target_rule": _rules(run.shown),
            "bootstrap_samples": experiment.bootstrap_samples,
        },
        "rows": [
            {"name": "random", "algorithm": "random", "dataset": None, "report": experiment.report_random},
            {"name": "sac", "algorithm": "sac", "dataset": None, "report": experiment.report_sac},
            *map(_row, _by_dataset(run)),
        ],
        "curves": [
            {"figure": "figure-6-sac", "title": "SAC learning (the report's Figure 6)", "dataset": None,
             "runs": ["runs/sac/seed-0"]},
            *({**_curve(entry), "dataset": entry.dataset.name, "policy": entry.policy,
               "runs": [f"runs/{entry.policy}/seed-{seed}" for seed in run.seeds]} for entry in _by_dataset(run)),
        ],
        "validation_levels": {"random": _validation_level(run, "random"),
                              "sac": _validation_level(run, str(run.run_path("sac", 0)))},
        **({"league": _league(run)} if run.league else {}),
        "commands": [job.command for job in run.jobs()],
        "versions": versions("torch", "h5py"), "wall_seconds": round(run.wall_seconds, 1),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }  # fmt: skip


def _by_dataset(run: ExperimentRun) -> list[Entry]:
    """Return the table's entries, what learned from the same data side by side."""
    order = [plan.name for plan in run.experiment.datasets]
    return sorted(run.shown, key=lambda entry: order.index(entry.dataset.name))


def _rules(entries: list[Entry]) -> str:
    conditions = dict.fromkeys(entry.method.condition for entry in entries)
    return "; ".join(target_rule(condition, "auto")["rule"] for condition in conditions if condition)


def _row(entry: Entry) -> dict[str, Any]:
    method, dataset = entry.method, entry.dataset
    return {
        "name": entry.policy, "algorithm": method.algorithm, "dataset": dataset.name, "condition": method.condition,
        "label": method.label, "report": dataset.report if method.name == PLAIN else None,
    }  # fmt: skip


def _curve(entry: Entry) -> dict[str, str]:
    if entry.method.name == PLAIN:
        return {"figure": entry.dataset.figure, "title": entry.dataset.title}
    return {"figure": f"learning-{entry.policy}", "title": f"{entry.method.label}, learning on {entry.dataset.name}"}


def _league(run: ExperimentRun) -> dict[str, Any]:
    methods = dict.fromkeys(entry.method.name for entry in run.entries)
    found = [run.experiment.method(name) for name in methods]
    return {
        "methods": [
            {"name": m.name, "label": m.label, "algorithm": m.algorithm, "condition": m.condition} for m in found
        ],
        "datasets": [plan.name for plan in run.experiment.datasets],
        "entries": [
            {"policy": entry.policy, "method": entry.method.name, "dataset": entry.dataset.name}
            for entry in run.entries
        ],
    }


def _validation_level(run: ExperimentRun, policy: str) -> float:
    from foretell.facade import validation_level

    use_threads(1)  # as every job: numbers do not depend on how many cores there are
    experiment = run.experiment
    return validation_level(
        policy, experiment.environment, episodes=experiment.validation_episodes, root_seed=run.root_seed
    )
