"""How the cost of an update grows with context length and width, and that of acting with the number of episodes.

Unless --quick is given, also draws what was measured: `benchmarks/results/growth.png`.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from benchmarks.evaluation import NORMALIZATION, TARGET
from benchmarks.making import REFERENCE, in_words, random_model, random_sampler
from benchmarks.measuring import ROOT, Options, Row, rate, seconds
from benchmarks.training import CONFIG
from foretell.evaluation.conditioned import ConditionedPolicy
from foretell.evaluation.protocol import evaluate, evaluation_starts
from foretell.models.configs import DecisionTransformerConfig
from foretell.presets.league import MODEL
from foretell.reporting.style import OURS, PNG_DPI, STYLE
from foretell.training.sequence import SequenceTraining

FIGURE = ROOT / "benchmarks/results/growth.png"
CONTEXT_LENGTHS, WIDTHS, EPISODES = (5, 10, 20, 40, 80), (16, 32, 64, 128, 256), (1, 10, 50, 200, 1000)
REPETITIONS = 3


def rows(options: Options) -> Iterator[Row]:
    """Yield milliseconds an update, the others of the reference settings, and milliseconds of 200 steps an episode."""
    small = replace(REFERENCE, width=64)
    shortened = slice(2) if options.quick else slice(None)
    repetitions = 1 if options.quick else REPETITIONS
    by_context = [_update(replace(small, context_length=length), repetitions) for length in CONTEXT_LENGTHS[shortened]]
    yield from by_context
    by_width = [_update(replace(REFERENCE, width=width), repetitions) for width in WIDTHS[shortened]]
    yield from by_width
    by_episodes = [_acting(count, repetitions) for count in EPISODES[shortened]]
    yield from by_episodes
    if not options.quick:
        _draw(by_context, by_width, by_episodes)


def _update(config: DecisionTransformerConfig, repetitions: int) -> Row:
    with tempfile.TemporaryDirectory() as folder:
        sampler = random_sampler(Path(folder), config.context_length)
        training = SequenceTraining(random_model(config), sampler, CONFIG, seed=0)
        rate(training.update, 3)
        found = [1000 / rate(training.update, 20) for _ in range(repetitions)]
    return Row(
        benchmark="growth", name=f"update, context {config.context_length}, width {config.width}", unit="ms",
        setting={**in_words(config), "batch_size": CONFIG.batch_size, "threads": torch.get_num_threads()},
        ours=statistics.median(found), repetitions=repetitions,
    )  # fmt: skip


def _acting(count: int, repetitions: int) -> Row:
    policy, starts = ConditionedPolicy(random_model(MODEL), NORMALIZATION, TARGET), evaluation_starts(0, count)
    evaluate(policy, "Pendulum-v1", starts[:1])
    found = [1000 * seconds(lambda: evaluate(policy, "Pendulum-v1", starts)) / count for _ in range(repetitions)]
    return Row(
        benchmark="growth", name=f"an episode of 200 steps, {count:,} at once", unit="ms",
        setting={**in_words(MODEL), "episodes": count, "threads": torch.get_num_threads()},
        ours=statistics.median(found), repetitions=repetitions,
    )  # fmt: skip


def _draw(by_context: Sequence[Row], by_width: Sequence[Row], by_episodes: Sequence[Row]) -> None:
    panels = (
        (by_context, "context_length", "context length (timesteps)", "time of an update (ms), width 64"),
        (by_width, "width", "width", "time of an update (ms), context 20"),
        (by_episodes, "episodes", "episodes at once", "time an episode (ms)"),
    )
    with plt.rc_context(STYLE):
        figure, all_axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
        for axes, (found, key, xlabel, ylabel) in zip(all_axes, panels, strict=True):
            places = [row.setting[key] for row in found]
            axes.plot(places, [row.ours for row in found], "o-", color=OURS)
            axes.set(xscale="log", yscale="log", xlabel=xlabel, ylabel=ylabel)
            axes.set_xticks(places, [f"{place:,}" for place in places])
            axes.xaxis.set_minor_locator(NullLocator())
            axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axes.yaxis.set_minor_locator(NullLocator())
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.3g}"))
        figure.savefig(FIGURE, dpi=PNG_DPI, metadata={"Software": None})
        plt.close(figure)
