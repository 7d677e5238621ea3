"""Why the report fell short: its choices switched on one at a time and together, each with its measured cost.

Reads the experiment of `foretell reproduce` in results/pendulum, keeps its runs there, so that a second start goes on,
and writes docs/why-the-report-fell-short.md. Its 1,000,000 updates take most of an hour of two cores.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.measuring import Options, Row
from benchmarks.sac_scores import ONE_THREAD
from foretell.core.files import read_json, read_json_lines, write_json_lines, write_text
from foretell.core.seeding import stream
from foretell.presets.experiment import PLAIN
from foretell.presets.league import SCHEDULES
from foretell.presets.pendulum import preset
from foretell.reporting.records import scores_by_policy
from foretell.reporting.statistics import estimate_difference, estimate_mean
from foretell.training.configs import TrainingConfig

FOLDER = Path("results/pendulum")
PAGE = Path(__file__).resolve().parent.parent / "docs" / "why-the-report-fell-short.md"
TEMPLATE = Path(__file__).with_name("shortfall_page.md")
LONG = 1_000_000
"""Updates that the report took."""
MEDIUM, REPLAY = "pendulum-medium", "pendulum-medium-replay"
BASE_SEEDS, SEEDS, LONG_SEEDS = range(5), (0, 1, 2), (0,)
SAMPLES = 10_000
CAP = "torque within ±1"
RATE = "learning rate 0.01, no warm-up"
TARGET = "one target for every start state"
UPDATES = "updates"
TRAINING = {MEDIUM: replace(SCHEDULES[MEDIUM], batch_size=320), REPLAY: SCHEDULES[REPLAY]}
"""The report's optimiser is AdamW, and so is this page's: its learning rate is one of the choices."""
AGENT, REPORTED_AGENT = "the SAC agent that made the data", "-138.44"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What is switched on, on which data; `reported` is the report's own number for these data, as printed."""

    label: str
    dataset: str
    on: tuple[str, ...]
    reported: str | None = None

    @property
    def folder(self) -> str:
        """Name of the folder of its runs."""
        return "-".join([self.dataset, *(name.split()[0] for name in self.on)])

    @property
    def seeds(self) -> Sequence[int]:
        """Training seeds."""
        return LONG_SEEDS if UPDATES in self.on else SEEDS if self is not OURS else BASE_SEEDS

    def training(self, long: int) -> TrainingConfig:
        """Return the settings of its training, with `long` updates where the report's are switched on."""
        config = TRAINING[self.dataset]
        if RATE in self.on:
            config = replace(config, learning_rate=1e-2, warmup_updates=0, schedule="constant")
        if UPDATES in self.on:
            config = replace(config, updates=long, evaluate_every=0, log_every=1_000)
        return config


OURS = Choice(label="our settings, by AdamW", dataset=MEDIUM, on=())
ALL = (CAP, RATE, TARGET)
CHOICES = (
    Choice(label=f"{CAP}: a tanh head that nobody scales", dataset=MEDIUM, on=(CAP,)),
    Choice(label=f"{RATE}, constant", dataset=MEDIUM, on=(RATE,)),
    Choice(label=f"{TARGET}: the 0.75 quantile of the data's returns", dataset=MEDIUM, on=(TARGET,)),
    Choice(label="{long} updates", dataset=MEDIUM, on=(UPDATES,)),
    Choice(label="the first three together", dataset=MEDIUM, on=ALL),
    Choice(label="all four together", dataset=MEDIUM, on=(*ALL, UPDATES), reported="-607.84"),
    Choice(label="1,000 replay steps in place of the agent's 200,000", dataset=REPLAY, on=()),
    Choice(label="1,000 replay steps and all four together", dataset=REPLAY, on=(*ALL, UPDATES), reported="-1025.76"),
)


def rows(options: Options) -> Iterator[Row]:
    """Train what is missing and evaluate it; yield what each choice earns and costs, and write the page of that."""
    os.environ.update(ONE_THREAD)  # the workers read it when they load their libraries
    long = 100 if options.quick else LONG
    choices = [one for one in CHOICES if UPDATES in one.on] if options.quick else [OURS, *CHOICES]
    jobs = [
        (choice, seed, long)
        for choice in sorted(choices, key=lambda choice: UPDATES not in choice.on)
        for seed in choice.seeds
    ]
    with ProcessPoolExecutor(os.cpu_count(), mp_context=multiprocessing.get_context("spawn")) as pool:
        for path in pool.map(measure, *zip(*jobs)):
            print(path, flush=True)
    found = [
        _row(choice, long, None if options.quick or choice is OURS else _returns(OURS, long)) for choice in choices
    ]
    found.append(_agent())
    yield from found
    if not options.quick:
        write_text(PAGE, page(found))


def measure(choice: Choice, seed: int, long: int) -> Path:
    """Train one run with the choice switched on, and evaluate it from the 200 starts; return its records' path."""
    import torch

    from foretell import facade
    from foretell.datasets.registry import open_dataset
    from foretell.sequences.scaling import ActionRange

    torch.set_num_threads(1)
    path = records_of(choice, seed, long)
    if path.exists():
        return path
    data = open_dataset(FOLDER / "datasets" / f"{choice.dataset}.hdf5")
    lesson = preset("pendulum").method(PLAIN).lessons[choice.dataset]
    run = facade.train(
        data, path.with_suffix(""), model=lesson.model, training=choice.training(long), seed=seed,
        action_range=ActionRange(low=(-1.0,), high=(1.0,)) if CAP in choice.on else None,
    )  # fmt: skip
    target = [float(np.quantile(data.episode_returns(), 0.75))] if TARGET in choice.on else None
    write_json_lines(path, facade.evaluate(run, target_returns=target, name=choice.folder))
    return path


def records_of(choice: Choice, seed: int, long: int) -> Path:
    """Return where the records of a choice and seed lie."""
    name = choice.folder + (f"-{long}" if UPDATES in choice.on else "")
    return FOLDER / "shortfall" / name / f"seed-{seed}.jsonl"


def page(found: Sequence[Row]) -> str:
    """Return the page: a table of the rows, and what each choice does."""
    head = "| switched on | trained on | mean return [95% interval] | cost against ours [95%] | report | seeds |"
    table = "\n".join([head, "|:--|:--|--:|--:|--:|--:|", *map(line, found)])
    versions = ", ".join(f"{name} {value}" for name, value in read_json(FOLDER / "experiment.json")["versions"].items())
    return TEMPLATE.read_text(encoding="utf-8").format(table=table, versions=versions)


def line(row: Row) -> str:
    """Return the table's line of a row."""
    extra = row.extra
    cells = [
        row.name, row.setting["dataset"] or "—", "{:.1f} [{:.1f}, {:.1f}]".format(*extra["mean_return"]),
        "{:+.1f} [{:+.1f}, {:+.1f}]".format(*extra["cost"]) if extra["cost"] else "—",
        extra["reported"] or "—", str(row.setting["seeds"]),
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def _row(choice: Choice, long: int, baseline: np.ndarray | None) -> Row:
    """Return a choice's row; `extra` has the mean return and its cost, each with the ends of its interval."""
    returns = _returns(choice, long)
    mean = estimate_mean(returns, samples=SAMPLES, generator=stream(0, f"shortfall/mean/{choice.folder}"))
    cost = None
    if baseline is not None:
        generator = stream(0, f"shortfall/{choice.folder}")
        cost = [*asdict(estimate_difference(returns, baseline, samples=SAMPLES, generator=generator)).values()]
    return Row(
        benchmark="shortfall", name=choice.label.format(long=f"{long:,}"), unit="mean return", ours=mean.value,
        peer=None if baseline is None else float(baseline.mean()),
        peer_name=None if baseline is None else OURS.label,
        setting={"dataset": choice.dataset, "seeds": len(choice.seeds), "on": list(choice.on),
                 "episodes": returns.shape[1], "training": asdict(choice.training(long))},
        extra={"mean_return": [*asdict(mean).values()], "cost": cost, "reported": choice.reported},
    )  # fmt: skip


def _agent() -> Row:
    returns = scores_by_policy(read_json_lines(FOLDER / "evaluations.jsonl"))["sac"].returns
    mean = estimate_mean(returns, samples=SAMPLES, generator=stream(0, "shortfall/mean/sac"))
    return Row(
        benchmark="shortfall", name=AGENT, unit="mean return", ours=mean.value,
        setting={"dataset": None, "seeds": 1, "episodes": returns.shape[1]},
        extra={"mean_return": [*asdict(mean).values()], "cost": None, "reported": REPORTED_AGENT},
    )  # fmt: skip


def _returns(choice: Choice, long: int) -> np.ndarray:
    parts = [read_json_lines(records_of(choice, seed, long)) for seed in choice.seeds]
    (scores,) = scores_by_policy([record for part in parts for record in part]).values()
    return scores.returns
