"""Learning curves (the report's Figures 5 to 8) and the README's figure. Painters take values, never folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from foretell.reporting.style import (
    BACKING,
    OURS,
    RANDOM_COLOR,
    REPORT_COLOR,
    RETURN_LABEL,
    SAC_COLOR,
    Level,
    ReturnTicks,
    draw_levels,
    format_return,
    set_title,
    write_figure,
)
from foretell.reporting.tables import RANDOM, SAC

CURVE_SIZE = (5.4, 3.9)
"""Inches. Small with 11-point letters: still readable at a phone's width."""

RUNNING_EPISODES = 10

Events = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class DrawnFigure:
    """A figure on disk: its name, what is to be seen in one or two sentences, the SVG's and the PNG's paths."""

    name: str
    title: str
    caption: str
    paths: tuple[Path, ...]


def series(events: Events, kind: str, at: str, value: str) -> tuple[np.ndarray, np.ndarray]:
    """Return `(at, value)` of all events of `kind`, ascending; of one written twice (a resumed run) the last."""
    found = {event[at]: event[value] for event in events if event.get("event") == kind and at in event}
    places = np.array(sorted(found), np.float64)
    return places, np.array([found[place] for place in sorted(found)], np.float64)


def running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Mean of the last `window` values up to each one (of fewer at the start).

    >>> running_mean(np.array([1.0, 3.0, 5.0]), 2)
    array([1., 2., 4.])
    """
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(0, ends - window)
    return (sums[ends] - sums[starts]) / (ends - starts)


def draw_sac_learning(stem: Path, title: str, runs: Sequence[Events], *, random_level: float) -> DrawnFigure:
    """Figure 6 of the report: returns of SAC's training episodes against environment steps, one or more runs."""

    def paint(figure: Figure, axes: Axes) -> None:
        for number, events in enumerate(runs):
            steps, returns = series(events, "episode", "step", "return")
            tested, means = series(events, "evaluation", "step", "mean_return")
            names = ("training episode", f"mean of the last {RUNNING_EPISODES}", "evaluation, deterministic")
            labels = names if number == 0 else (None,) * 3
            axes.plot(steps, returns, "o", color=SAC_COLOR, alpha=0.35, markersize=3.5, mew=0, label=labels[0])
            axes.plot(steps, running_mean(returns, RUNNING_EPISODES), color=SAC_COLOR, label=labels[1])
            if len(tested):
                axes.plot(tested, means, "D", color=OURS, markersize=5, mec="white", mew=0.7, label=labels[2], zorder=3)
        draw_levels(axes, [Level(name="random", value=random_level, color=RANDOM_COLOR)])
        finish_curve(axes, "environment steps")
        figure.legend(loc="outside lower left", ncols=2)
        set_title(figure, title, width=48)

    caption = (
        "Each dot is one training episode, acted with noise; the line is the running mean; diamonds are deterministic "
        "evaluations on validation start states; the dashed line is the random policy's mean."
    )
    paths = write_figure(stem, CURVE_SIZE, paint)
    return DrawnFigure(name=stem.name, title=title, caption=caption, paths=tuple(paths))


def draw_learning_curve(
    stem: Path, title: str, runs: Sequence[Events], *, random_level: float, sac_level: float, report: float | None
) -> DrawnFigure:
    """Validation return of one dataset's model against updates: each training seed thin, their mean thick.

    The mean and its band are drawn at the updates that every run has evaluated.
    """
    curves = [series(events, "evaluation", "update", "mean_return") for events in runs]
    updates = sorted(set.intersection(*({*places} for places, _ in curves)))
    shared = np.array([[dict(zip(*curve))[update] for update in updates] for curve in curves])

    def paint(figure: Figure, axes: Axes) -> None:
        for places, means in curves:
            axes.plot(places, means, color=OURS, alpha=0.45, linewidth=0.8)
        levels = [
            Level(name="SAC", value=sac_level, color=SAC_COLOR),
            Level(name="random", value=random_level, color=RANDOM_COLOR),
        ]
        if updates:
            axes.fill_between(updates, shared.min(axis=0), shared.max(axis=0), color=OURS, alpha=0.15, linewidth=0)
            axes.plot(updates, shared.mean(axis=0), color=OURS, linewidth=2.4)
            levels.append(Level(name="ours", value=float(shared[:, -1].mean()), color=OURS, line=False))
        if report is not None:
            levels.append(Level(name="report", value=report, color=REPORT_COLOR, dashes=(0, (1, 1.6))))
        draw_levels(axes, levels)
        finish_curve(axes, "updates")
        set_title(figure, title, width=48)

    caption = (
        f"Mean return on the validation start states; thin: each of {len(runs)} training seeds, thick: their mean, "
        "band: from the lowest seed to the highest. Dashed: SAC and the random policy from the same start states"
        + ("" if report is None else "; dotted: the report's final value")
        + "."
    )
    paths = write_figure(stem, CURVE_SIZE, paint)
    return DrawnFigure(name=stem.name, title=title, caption=caption, paths=tuple(paths))


def finish_curve(axes: Axes, label: str) -> None:
    """Name the axes of a learning curve, and write numbers beside them as people do."""
    axes.set_xlabel(label)
    axes.set_ylabel(RETURN_LABEL)
    axes.set_xlim(left=0)
    axes.grid(visible=False, axis="x")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axes.xaxis.set_major_formatter(ReturnTicks())
    axes.yaxis.set_major_formatter(ReturnTicks())


def draw_headline(stem: Path, table: Mapping[str, Any]) -> DrawnFigure:
    """The README's figure: each dataset's policy with its 95% interval, the report's value, SAC and random levels."""
    rows = [row for row in table["rows"] if row["dataset"] is not None]
    level = {row["name"]: row["mean_return"] for row in table["rows"] if row["name"] in (RANDOM, SAC)}
    title = f"What a Decision Transformer earns on {table['protocol']['environment']}, by the data it was trained on"
    if table["protocol"]["quick"]:
        title = "SMOKE RUN, numbers mean nothing: " + title

    def paint(figure: Figure, axes: Axes) -> None:
        axes.axvline(level[RANDOM], color=RANDOM_COLOR, linestyle="--", linewidth=1.4)
        axes.axvline(level[SAC], color=SAC_COLOR, linestyle="--", linewidth=1.4)
        for height, row in enumerate(reversed(rows)):
            _headline_row(axes, height, row, first=height == len(rows) - 1)
        names = [(RANDOM, "random", RANDOM_COLOR), (SAC, "SAC", SAC_COLOR)]
        for name, text, color in names:
            label = f"{text}\n{format_return(level[name])}"
            axes.text(level[name], len(rows) - 0.45, label, color=color, ha="center", va="bottom", fontsize=10.5)
        axes.set_yticks(range(len(rows)), list(map(_headline_label, reversed(rows))), fontsize=11, color="#222222")
        axes.set_ylim(-0.55, len(rows) - 0.5)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.margins(x=0.08)
        axes.xaxis.set_major_formatter(ReturnTicks())
        axes.set_xlabel("mean " + RETURN_LABEL + ", higher is better")
        figure.legend(loc="outside lower right", ncols=2)
        set_title(figure, title, width=64)

    seeds = max((len(row["training_seeds"]) for row in rows), default=0)
    caption = (
        f"Mean over {table['protocol']['evaluation_starts']} start states and up to {seeds} training seeds, with the "
        "95% interval; diamonds: the report's values; dashed: measured levels of SAC and of the random policy."
    )
    paths = write_figure(stem, (7.4, 1.9 + 0.48 * len(rows)), paint)
    return DrawnFigure(name=stem.name, title=title, caption=caption, paths=tuple(paths))


def _headline_label(row: Mapping[str, Any]) -> str:
    """Return the dataset, and below it the method where the row's name is not the dataset's alone."""
    if row["name"] == row["dataset"]:
        return row["name"]
    return f"{row['dataset']}\n{str(row.get('label') or row['name']).removeprefix('Decision Transformer ')}"


def _headline_row(axes: Axes, height: int, row: Mapping[str, Any], *, first: bool) -> None:
    low, high = row["ci95"]
    axes.plot([low, high], [height, height], color=OURS, linewidth=3, solid_capstyle="butt")
    label = "Foretell, 95% interval" if first else None
    axes.plot(row["mean_return"], height, "o", color=OURS, markersize=7.5, mec="white", mew=0.8, label=label, zorder=3)
    _write_value(axes, row["mean_return"], height, OURS, above=True)
    if row["report"] is not None:
        label = "report (2021)" if first else None
        axes.plot(
            row["report"], height, "D", color="white", mec=REPORT_COLOR, mew=1.8, markersize=7, label=label, zorder=3
        )
        _write_value(axes, row["report"], height, REPORT_COLOR, above=False)


def _write_value(axes: Axes, value: float, height: float, color: str, *, above: bool) -> None:
    axes.annotate(
        format_return(value),
        (value, height),
        xytext=(0, 7 if above else -7),
        textcoords="offset points",
        color=color,
        ha="center",
        va="bottom" if above else "top",
        fontsize=10.5 if above else 9.5,
        fontweight="bold" if above else "normal",
        bbox=BACKING,
        zorder=4,
    )
