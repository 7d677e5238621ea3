"""An experiment as jobs, and the folder that they fill (layout: docs/architecture.md)."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from foretell.cli.jobs import Job, run_jobs
from foretell.core.errors import UsageError
from foretell.core.files import folder_lock, read_json, read_json_lines, write_json, write_json_lines
from foretell.core.versions import versions
from foretell.presets.experiment import DatasetPlan, Experiment
from foretell.reporting.experiment import write_report


class ExperimentRun:
    """One experiment in one folder: what has to be run, and what the report needs to know of it."""

    def __init__(self, experiment: Experiment, folder: Path, seeds: Sequence[int], root_seed: int):
        self.experiment, self.folder, self.seeds, self.root_seed = experiment, folder, seeds, root_seed
        self._common = ("--root-seed", str(root_seed), "--threads", "1")

    def execute(self, workers: int, *, quiet: bool = False) -> None:
        """Run every job that has not been done.

        Raises `UsageError` where the folder holds another experiment: another preset, other settings or root seed.
        More seeds than before are an extension, and allowed.
        """
        with folder_lock(self.folder):
            identity = {"experiment": _plain(asdict(self.experiment)), "root_seed": self.root_seed}
            marker = self.folder / "identity.json"
            if marker.exists() and read_json(marker) != identity:
                raise UsageError(f"{self.folder}: holds another experiment; choose another --out, or remove it.")
            if not marker.exists() and any(entry.name != ".lock" for entry in self.folder.iterdir()):
                raise UsageError(f"{self.folder}: exists and is no experiment of ours; choose another --out.")
            write_json(marker, identity)
            started = time.monotonic()
            try:
                run_jobs(list(self.jobs()), workers, quiet=quiet)
            finally:  # also what a stopped start took counts
                write_json(self._elapsed, {"wall_seconds": self.wall_seconds + time.monotonic() - started})

    @property
    def _elapsed(self) -> Path:
        return self.folder / "elapsed.json"

    @property
    def wall_seconds(self) -> float:
        """Seconds that all starts together spent on the jobs."""
        return float(read_json(self._elapsed)["wall_seconds"]) if self._elapsed.exists() else 0.0

    def report(self) -> list[Path]:
        """Gather the records and write table, figures and page."""
        models = [(plan.name, seed) for plan in self.experiment.datasets for seed in self.seeds]
        evaluated = [self._records(*each) for each in (("random", 0), ("sac", 0), *models)]
        for name, parts in (("evaluations", evaluated), ("asked", [self._asked(*each) for each in models])):
            records = [record for part in parts for record in read_json_lines(part)]
            write_json_lines(self.folder / f"{name}.jsonl", records)
        write_json(self.folder / "experiment.json", self._description())
        return write_report(self.folder)

    def jobs(self) -> Iterator[Job]:
        """Yield every job; the order is that of the commands in the report."""
        experiment, root = self.experiment, self._common
        sac, environment = self._run("sac", 0), ("--environment", experiment.environment)
        episodes = ("--episodes", str(experiment.evaluation_episodes))
        yield Job(
            name="train sac", weight=200, done_when=(sac / "model.safetensors",),
            arguments=("train", "--algorithm", "sac", *environment, "--out", str(sac), "--seed", str(self.root_seed),
                       *root, "--validation-episodes", str(experiment.validation_episodes),
                       *_flags(experiment.sac, "sac.")),
        )  # fmt: skip
        yield Job(
            name="evaluate sac", after=("train sac",), done_when=(self._records("sac", 0),),
            arguments=("evaluate", str(sac), *episodes, *root, "--out", str(self._records("sac", 0))),
        )  # fmt: skip
        yield Job(
            name="evaluate random", done_when=(self._records("random", 0),), weight=0.5,
            arguments=("evaluate", "random", *environment, *episodes, *root,
                       "--out", str(self._records("random", 0))),
        )  # fmt: skip
        for plan in experiment.datasets:
            yield from self._dataset_jobs(plan, sac)
        for seed in self.seeds:
            for plan in experiment.datasets:
                yield from self._model_jobs(plan, seed, [*episodes, *root])

    def _dataset_jobs(self, plan: DatasetPlan, sac: Path) -> Iterator[Job]:
        path, card = self._dataset(plan), self.folder / "cards" / f"{plan.name}.json"
        source = ("--environment", self.experiment.environment) if plan.recipe == "random" else ("--agent", str(sac))
        steps = ("--steps", str(plan.steps)) if plan.steps else ()
        yield Job(
            name=f"collect {plan.name}", after=() if plan.recipe == "random" else ("train sac",), weight=5,
            done_when=(path, path.with_suffix(".request.json")),
            arguments=("collect", plan.recipe, *source, *steps, "--seed", str(self.root_seed), "--out", str(path)),
        )  # fmt: skip
        yield Job(
            name=f"inspect {plan.name}", after=(f"collect {plan.name}",), done_when=(card,),
            arguments=("inspect", str(path), "--card", str(card)),
        )  # fmt: skip

    def _model_jobs(self, plan: DatasetPlan, seed: int, protocol: list[str]) -> Iterator[Job]:
        run, name = self._run(f"decision-transformer/{plan.name}", seed), f"{plan.name} seed {seed}"
        target = () if plan.target_return is None else ("--target-return", str(plan.target_return))
        yield Job(
            name=f"train {name}", after=(f"collect {plan.name}",), done_when=(run / "model.safetensors",),
            weight=plan.training.updates / 100,
            arguments=("train", str(self._dataset(plan)), "--out", str(run), "--seed", str(seed), *target,
                       *self._common, "--validation-episodes", str(self.experiment.validation_episodes),
                       *_flags(plan.model), *_flags(plan.training)),
        )  # fmt: skip
        yield Job(
            name=f"evaluate {name}", after=(f"train {name}",), weight=2, done_when=(self._records(plan.name, seed),),
            arguments=("evaluate", str(run), *protocol, "--out", str(self._records(plan.name, seed))),
        )  # fmt: skip
        asked = [str(value) for value in self.experiment.asked_returns]
        yield Job(
            name=f"ask {name}", after=(f"train {name}",), weight=4, done_when=(self._asked(plan.name, seed),),
            arguments=("evaluate", str(run), "--episodes", str(self.experiment.asked_episodes),
                       *self._common, "--out", str(self._asked(plan.name, seed)),
                       "--target-returns", *asked),
        )  # fmt: skip

    def _validation_level(self, run: str) -> float:
        from foretell.facade import validation_level

        experiment = self.experiment
        return validation_level(
            run, experiment.environment, episodes=experiment.validation_episodes, root_seed=self.root_seed
        )

    def _run(self, name: str, seed: int) -> Path:
        return self.folder / "runs" / name / f"seed-{seed}"

    def _dataset(self, plan: DatasetPlan) -> Path:
        return self.folder / "datasets" / f"{plan.name}.hdf5"

    def _records(self, policy: str, seed: int) -> Path:
        """Records of this experiment's own: whoever evaluates a run by hand adds to the run's, not to these."""
        return self.folder / "records" / policy / f"seed-{seed}.jsonl"

    def _asked(self, policy: str, seed: int) -> Path:
        return self.folder / "asked" / policy / f"seed-{seed}.jsonl"

    def _description(self) -> dict[str, Any]:
        experiment = self.experiment
        first = read_json(
            self._run(f"decision-transformer/{experiment.datasets[0].name}", self.seeds[0]) / "config.json"
        )
        return {
            "title": experiment.title, "preset": experiment.name, "quick": experiment.quick,
            "protocol": {
                "environment": experiment.environment, "root_seed": self.root_seed,
                "evaluation_starts": experiment.evaluation_episodes, "training_seeds": list(self.seeds),
                "checkpoint": "last", "acting": "deterministic", "target_rule": first["target"]["rule"],
                "bootstrap_samples": experiment.bootstrap_samples,
            },
            "rows": [
                {"name": "random", "algorithm": "random", "dataset": None, "report": experiment.report_random},
                {"name": "sac", "algorithm": "sac", "dataset": None, "report": experiment.report_sac},
                *({"name": plan.name, "algorithm": "decision-transformer", "dataset": plan.name, "report": plan.report}
                  for plan in experiment.datasets),
            ],
            "curves": [
                {"figure": "figure-6-sac", "title": "SAC learning (the report's Figure 6)", "dataset": None,
                 "runs": ["runs/sac/seed-0"]},
                *({"figure": plan.figure, "title": plan.title, "dataset": plan.name,
                   "runs": [f"runs/decision-transformer/{plan.name}/seed-{seed}" for seed in self.seeds]}
                  for plan in experiment.datasets),
            ],
            "validation_levels": {
                "random": self._validation_level("random"), "sac": self._validation_level(str(self._run("sac", 0))),
            },
            "commands": [job.command for job in self.jobs()],
            "versions": versions("torch", "h5py"), "wall_seconds": round(self.wall_seconds, 1),
            "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        }  # fmt: skip


def _flags(config: Any, prefix: str = "") -> list[str]:
    """Return the flags that say every field of a settings dataclass, so that a printed command is the whole truth."""
    flags = []
    for item in fields(config):
        value = getattr(config, item.name)
        values = value if isinstance(value, tuple) else (value,)
        flags += [f"--{prefix}{item.name.replace('_', '-')}", *map(str, values)]
    return flags


def _plain(value: Any) -> Any:
    """Return what JSON would give back: tuples become lists."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
