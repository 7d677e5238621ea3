"""An experiment as jobs, and the folder that they fill (layout: docs/architecture.md)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from foretell.cli.experiment_story import describe
from foretell.cli.flags import flags_of, model_prefix
from foretell.cli.jobs import Job, run_jobs
from foretell.core.errors import UsageError
from foretell.core.files import read_json, read_json_lines, write_json, write_json_lines
from foretell.core.forms import check_form
from foretell.core.locks import folder_lock
from foretell.core.run_settings import as_json
from foretell.core.space import require_room
from foretell.evaluation.configs import ActingConfig, PlanningConfig
from foretell.presets.experiment import DatasetPlan, Entry, Experiment
from foretell.reporting.experiment import write_report
from foretell.reporting.league import write_league
from foretell.sequences.conditions import NEEDS_VALUES
from foretell.values.configs import IQLConfig

ONE_THREAD = ("--threads", "1")
"""Of every job that computes, so that its command gives the same bits by itself."""
STEP_BYTES = 64
"""Of a timestep in a dataset, generously: Pendulum-v1's have 34."""


class ExperimentRun:
    """One experiment in one folder: what has to be run, and what the report needs to know of it."""

    def __init__(
        self, experiment: Experiment, folder: Path, seeds: Sequence[int], root_seed: int, *, league: bool = False
    ):
        self.experiment, self.folder, self.seeds, self.root_seed = experiment, folder, seeds, root_seed
        self.league = league
        self.shown = list(experiment.entries(league=False))
        self.entries = list(experiment.entries(league=league))
        self._common = ("--root-seed", str(root_seed), *ONE_THREAD)

    def execute(self, workers: int, *, quiet: bool = False) -> None:
        """Run every job that has not been done.

        Raises `UsageError` where the folder holds another experiment: another preset, other settings or root seed.
        More seeds or methods than before are an extension, and allowed.
        """
        with folder_lock(self.folder):
            identity = {"experiment": as_json(asdict(self.experiment)), "root_seed": self.root_seed}
            marker = self.folder / "identity.json"
            if marker.exists() and not _extends(identity, read_json(marker)):
                raise UsageError(
                    f"{self.folder}: holds another experiment, of other settings or of an older Foretell's; choose "
                    "another --out, or remove it."
                )
            if not marker.exists() and any(entry.name != ".lock" for entry in self.folder.iterdir()):
                raise UsageError(f"{self.folder}: exists and is no experiment of ours; choose another --out.")
            require_room(self.folder, self._missing_bytes(), "datasets")
            write_json(marker, identity)
            started = time.monotonic()
            try:
                run_jobs(list(self.jobs()), workers, quiet=quiet)
            finally:  # also what a stopped start took counts
                write_json(self._elapsed, {"wall_seconds": self.wall_seconds + time.monotonic() - started})

    def _missing_bytes(self) -> int:
        """Bytes of the datasets that are not there yet, counted generously."""
        steps = {
            self._dataset(plan): plan.steps or self.experiment.sac.total_steps for plan in self.experiment.datasets
        } | {
            self._imagined(entry.dataset, seed): entry.lesson.imagined
            for entry in self.entries if entry.lesson.imagined for seed in self.seeds
        }  # fmt: skip
        return STEP_BYTES * sum(count for path, count in steps.items() if not path.exists())

    @property
    def _elapsed(self) -> Path:
        return self.folder / "elapsed.json"

    @property
    def wall_seconds(self) -> float:
        """Seconds that all starts together spent on the jobs."""
        if not self._elapsed.exists():
            return 0.0
        found = read_json(self._elapsed)
        check_form(found, {"wall_seconds": float}, str(self._elapsed), "Remove it and run the same command again.")
        return max(0.0, float(found["wall_seconds"]))

    def report(self) -> list[Path]:
        """Gather the records and write tables, figures and page."""
        agents = [self.records("random", 0), self.records("sac", 0)]
        self._gather("evaluations", [*agents, *self._of(self.shown, self.records)])
        self._gather("asked", self._of([entry for entry in self.shown if _asks(entry)], self._asked))
        if self.league:
            agents.append(self.records("optimum", 0))
            self._gather("league", [*agents, *self._of(self.entries, self.records)])
        write_json(self.folder / "experiment.json", describe(self))
        return [*write_report(self.folder), *(write_league(self.folder) if self.league else [])]

    def _of(self, entries: Sequence[Entry], place: Callable[[str, int], Path]) -> list[Path]:
        return [place(entry.policy, seed) for entry in entries for seed in self.seeds]

    def _gather(self, name: str, parts: Sequence[Path]) -> None:
        write_json_lines(self.folder / f"{name}.jsonl", [record for part in parts for record in read_json_lines(part)])

    def jobs(self) -> Iterator[Job]:
        """Yield every job; the order is that of the commands in the report."""
        experiment, root = self.experiment, self._common
        sac, environment = self.run_path("sac", 0), ("--environment", experiment.environment)
        episodes = ("--episodes", str(experiment.evaluation_episodes))
        yield Job(
            name="train sac", weight=200, done_when=(sac / "model.safetensors",),
            arguments=("train", "--algorithm", "sac", *environment, "--out", str(sac), "--seed", str(self.root_seed),
                       *root, "--validation-episodes", str(experiment.validation_episodes),
                       *flags_of(experiment.sac, "sac.")),
        )  # fmt: skip
        yield Job(
            name="evaluate sac", after=("train sac",), done_when=(self.records("sac", 0),),
            arguments=("evaluate", str(sac), *episodes, *root, "--out", str(self.records("sac", 0))),
        )  # fmt: skip
        yield Job(
            name="evaluate random", done_when=(self.records("random", 0),), weight=0.5,
            arguments=("evaluate", "random", *environment, *episodes, *root,
                       "--out", str(self.records("random", 0))),
        )  # fmt: skip
        if self.league:
            yield Job(
                name="evaluate optimum", done_when=(self.records("optimum", 0),), weight=10,
                arguments=("evaluate", "optimum", *environment, *episodes, *root,
                           "--out", str(self.records("optimum", 0))),
            )  # fmt: skip
        for plan in experiment.datasets:
            yield from self._dataset_jobs(plan, sac)
        for seed in self.seeds:
            made: set[str] = set()
            for entry in self.entries:
                for job in self._entry_jobs(entry, seed, [*episodes, *root]):
                    if job.name not in made:  # value functions are shared
                        made.add(job.name)
                        yield job

    def _dataset_jobs(self, plan: DatasetPlan, sac: Path) -> Iterator[Job]:
        path, card = self._dataset(plan), self.folder / "cards" / f"{plan.name}.json"
        source = ("--environment", self.experiment.environment) if plan.recipe == "random" else ("--agent", str(sac))
        steps = ("--steps", str(plan.steps), "--keep", plan.keep) if plan.steps else ()
        yield Job(
            name=f"collect {plan.name}", after=() if plan.recipe == "random" else ("train sac",), weight=5,
            done_when=(path, path.with_suffix(".request.json")),
            arguments=("collect", plan.recipe, *source, *steps, "--seed", str(self.root_seed), *ONE_THREAD,
                       "--out", str(path)),
        )  # fmt: skip
        yield Job(
            name=f"inspect {plan.name}", after=(f"collect {plan.name}",), done_when=(card,),
            arguments=("inspect", str(path), "--card", str(card)),
        )  # fmt: skip

    def _entry_jobs(self, entry: Entry, seed: int, protocol: list[str]) -> Iterator[Job]:
        lesson, policy = entry.lesson, entry.policy
        name, run, data = f"{policy} seed {seed}", self.run_path(policy, seed), self._dataset(entry.dataset)
        needs = [f"collect {entry.dataset.name}"]
        if entry.method.algorithm == "iql":
            yield self._iql_job(self.run_path(policy, seed), needs[0], data, lesson.values, seed)
        else:
            given: list[str] = []
            if lesson.imagined:
                yield (imagine := self._imagine_job(entry, seed))
                needs, data = [*needs, imagine.name], imagine.done_when[0]
            if lesson.imagined or entry.method.condition in NEEDS_VALUES:
                run_of_values, settings = self._values_of(entry, seed)
                yield (iql := self._iql_job(run_of_values, needs[-1], data, settings, seed))
                needs, given = [*needs, iql.name], ["--values-from", str(run_of_values)]
            updates = lesson.training.updates if lesson.training else 0
            yield Job(
                name=f"train {name}", after=tuple(needs), done_when=(run / "model.safetensors",),
                weight=updates / 100 + 5 * (entry.method.condition in NEEDS_VALUES),
                arguments=("train", str(data), "--out", str(run), "--algorithm", entry.method.algorithm,
                           "--condition", str(entry.method.condition), "--best-share", str(entry.method.best_share),
                           "--seed", str(seed), *self._common, *given,
                           "--validation-episodes", str(self.experiment.validation_episodes),
                           *flags_of(lesson.model, model_prefix(entry.method.algorithm)), *flags_of(lesson.training),
                           *flags_of(lesson.acting, _acting_prefix(lesson.acting))),
            )  # fmt: skip
        yield Job(
            name=f"evaluate {name}", after=(f"train {name}",), weight=2, done_when=(self.records(policy, seed),),
            arguments=("evaluate", str(run), *protocol, "--name", policy, "--out", str(self.records(policy, seed))),
        )  # fmt: skip
        if lesson.shown and _asks(entry):
            asked = [str(value) for value in self.experiment.asked_returns]
            yield Job(
                name=f"ask {name}", after=(f"train {name}",), weight=4, done_when=(self._asked(policy, seed),),
                arguments=("evaluate", str(run), "--episodes", str(self.experiment.asked_episodes), *self._common,
                           "--name", policy, "--out", str(self._asked(policy, seed)), "--target-returns", *asked),
            )  # fmt: skip

    def _values_of(self, entry: Entry, seed: int) -> tuple[Path, IQLConfig | None]:
        """Return where the value functions of a method that needs some are learned, and how: all methods that learn
        them from the same timesteps as implicit Q-learning does share theirs."""
        lesson, dataset = entry.lesson, entry.dataset.name
        usual = self.experiment.method("iql").lessons[dataset].values
        if lesson.values not in (None, usual):
            return self.run_path(f"{entry.policy}.values", seed), lesson.values
        return self.run_path(f"{dataset}.{'imagined-iql' if lesson.imagined else 'iql'}", seed), usual

    def _iql_job(self, run: Path, needs: str, data: Path, settings: IQLConfig | None, seed: int) -> Job:
        return Job(
            name=f"train {run.parent.name} seed {seed}", after=(needs,), weight=10,
            done_when=(run / "model.safetensors",),
            arguments=("train", str(data), "--out", str(run), "--algorithm", "iql", "--seed", str(seed), *self._common,
                       *flags_of(settings, "values.")),
        )  # fmt: skip

    def _imagine_job(self, entry: Entry, seed: int) -> Job:
        path = self._imagined(entry.dataset, seed)
        return Job(
            name=f"imagine {entry.dataset.name} seed {seed}", after=(f"collect {entry.dataset.name}",), weight=10,
            kin=f"the dynamics of {entry.dataset.name}",
            done_when=(path, path.with_suffix(".request.json")),
            arguments=("collect", "imagined", "--source", str(self._dataset(entry.dataset)),
                       "--steps", str(entry.lesson.imagined), "--seed", str(seed), *ONE_THREAD, "--out", str(path)),
        )  # fmt: skip

    def run_path(self, name: str, seed: int) -> Path:
        """Return the run folder of a policy."""
        return self.folder / "runs" / name / f"seed-{seed}"

    def _dataset(self, plan: DatasetPlan) -> Path:
        return self.folder / "datasets" / f"{plan.name}.hdf5"

    def _imagined(self, plan: DatasetPlan, seed: int) -> Path:
        return self.folder / "datasets" / "imagined" / f"{plan.name}-seed-{seed}.hdf5"

    def records(self, policy: str, seed: int) -> Path:
        """Records of this experiment's own: whoever evaluates a run by hand adds to the run's, not to these."""
        return self.folder / "records" / policy / f"seed-{seed}.jsonl"

    def _asked(self, policy: str, seed: int) -> Path:
        return self.folder / "asked" / policy / f"seed-{seed}.jsonl"


def _asks(entry: Entry) -> bool:
    """Whether achieved against asked return is shown: of models that are told a recorded return."""
    return entry.method.condition == "return"


def _acting_prefix(acting: ActingConfig | None) -> str:
    return "planning." if isinstance(acting, PlanningConfig) else "chunking."


def _extends(here: Any, there: Any) -> bool:
    """Whether `here` says what `there` says, and perhaps more: a method or a setting that is new since."""
    if isinstance(here, dict) and isinstance(there, dict):
        return all(name in here and _extends(here[name], there[name]) for name in there)
    if isinstance(here, list) and isinstance(there, list) and all(map(_is_named, [*here, *there])):
        named = {item["name"]: item for item in here}
        return all(item["name"] in named and _extends(named[item["name"]], item) for item in there)
    return here == there


def _is_named(item: Any) -> bool:
    return isinstance(item, dict) and isinstance(item.get("name"), str)
