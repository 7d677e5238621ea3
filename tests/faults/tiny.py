"""The smallest experiment that `foretell reproduce` can do, offered as a preset; it has every stage of the real one."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any
from unittest import mock

from foretell.models.configs import DecisionTransformerConfig
from foretell.presets.experiment import PLAIN, Experiment, Lesson
from foretell.presets.pendulum import PRESETS, pendulum, quick
from foretell.training.configs import TrainingConfig

TINY_PRESET = "tiny"


def tiny_experiment() -> Experiment:
    """Return two datasets and a Decision Transformer on each."""
    default = quick(pendulum())
    datasets = tuple(
        replace(plan, steps=400) for plan in default.datasets if plan.name in ("pendulum-random", "pendulum-medium")
    )
    lesson = Lesson(
        model=DecisionTransformerConfig(context_length=2, width=8, layers=1),
        training=TrainingConfig(
            updates=6, batch_size=4, warmup_updates=1, log_every=1, checkpoint_every=2, evaluate_every=3
        ),
        shown=True,
    )
    return replace(
        default,
        name=TINY_PRESET,
        sac=replace(
            default.sac, total_steps=600, learning_starts=580, hidden_sizes=(8,), batch_size=8, checkpoint_every=200,
            evaluate_every=300,
        ),
        datasets=datasets,
        methods=(replace(default.method(PLAIN), lessons={plan.name: lesson for plan in datasets}),),
        evaluation_episodes=3,
        validation_episodes=2,
        asked_returns=(-900.0,),
        asked_episodes=2,
        bootstrap_samples=100,
    )  # fmt: skip


@contextlib.contextmanager
def tiny_preset() -> Generator[None]:
    """Offer it."""
    with mock.patch.dict(PRESETS, {TINY_PRESET: tiny_experiment}):
        yield


@contextlib.contextmanager
def in_one_process() -> Generator[None]:
    """Run the jobs of an experiment one behind the other in this process: nothing has to be loaded again."""
    from foretell.cli import experiment_run, main

    def run_jobs(jobs: Sequence[Any], workers: int, *, quiet: bool) -> None:
        for job in jobs:
            main.run_verb(job.arguments)

    with mock.patch.object(experiment_run, "run_jobs", run_jobs):
        yield


@contextlib.contextmanager
def without_figures() -> Generator[None]:
    """Leave out of the report what is drawn, which takes as long as all the rest: the tables stay."""
    from foretell.reporting import experiment

    with (
        mock.patch.object(experiment, "draw_headline", return_value=mock.Mock(paths=[])),
        mock.patch.object(experiment, "draw_figures", return_value=([], [])),
        mock.patch.object(experiment, "render_page", return_value=""),
    ):
        yield
