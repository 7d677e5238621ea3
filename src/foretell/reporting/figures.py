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

from foretell.core.decimals import counted
from foretell.reporting.style import (
    BACKING,
    OURS,
    RANDOM_COLOR,
    RANDOM_DASHES,
    REPORT_COLOR,
    REPORT_DASHES,
    RETURN_LABEL,
    SAC_COLOR,
    SAC_DASHES,
    Level,
    draw_levels,
    set_title,
    write_figure,
)
from foretell.reporting.tables import RANDOM, SAC, quick_title
from foretell.reporting.ticks import ReturnTicks, format_return, format_tick

CURVE_SIZE = (5.4, 3.9)
"""Inches. Small with 11-point letters: still readable at a phone's width."""

RUNNING_EPISODES = 10

Events = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class DrawnFigure:
    """A figure on disk: its name, how it is to be read in one or two sentences, the SVG's and the PNG's paths."""

    name: str
    title: str
    caption: str
    paths: tuple[Path, ...]
    shows: str = ""
    """What is to be seen in it, for who cannot see it."""


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
        draw_levels(axes, [Level(name="random", value=random_level, color=RANDOM_COLOR, dashes=RANDOM_DASHES)])
        finish_curve(axes, "environment steps")
        figure.legend(loc="outside lower left", ncols=2)
        set_title(figure, title, width=48)

    caption = (
        "Each dot is one training episode, acted with noise; the line is the running mean; diamonds are deterministic "
        "evaluations on validation start states; the dotted line is the random policy's mean."
    )
    steps, returns = series(runs[0], "episode", "step", "return")
    smooth = running_mean(returns, RUNNING_EPISODES)[[min(RUNNING_EPISODES, len(returns)) - 1, -1]]
    shows = (
        f"The mean of {RUNNING_EPISODES} training episodes went from {format_return(smooth[0])} to "
        f"{format_return(smooth[1])} in {format_tick(steps[-1])} environment steps; random earns "
        f"{format_return(random_level)}."
    )
    paths = write_figure(stem, CURVE_SIZE, paint)
    return DrawnFigure(name=stem.name, title=title, caption=caption, paths=tuple(paths), shows=shows)


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
            axes.plot(places, means, color=OURS, alpha=0.45, linewidth=0.8, marker=point_marker(len(places)))
        levels = [
            Level(name="SAC", value=sac_level, color=SAC_COLOR, dashes=SAC_DASHES),
            Level(name="random", value=random_level, color=RANDOM_COLOR, dashes=RANDOM_DASHES),
        ]
        if updates:
            axes.fill_between(updates, shared.min(axis=0), shared.max(axis=0), color=OURS, alpha=0.15, linewidth=0)
            axes.plot(updates, shared.mean(axis=0), color=OURS, linewidth=2.4, marker=point_marker(len(updates)))
            levels.append(Level(name="ours", value=float(shared[:, -1].mean()), color=OURS, line=False))
        if report is not None:
            levels.append(Level(name="report", value=report, color=REPORT_COLOR, dashes=REPORT_DASHES))
        draw_levels(axes, levels)
        finish_curve(axes, "updates")
        set_title(figure, title, width=48)

    caption = (
        f"Mean return on the validation start states; thin: each of {counted(len(runs), 'training seed')}, thick: "
        "their mean, band: from the lowest seed to the highest. Dashed: SAC, dotted: the random policy, both from the "
        "same start states" + ("" if report is None else "; dashed and dotted: the report's final value") + "."
    )
    beside = f"SAC earns {format_return(sac_level)}, random {format_return(random_level)}" + (
        "" if report is None else f", the report's policy {format_return(report)}"
    )
    shows = f"{curve_phrase(updates, shared.mean(axis=0), 'update')}; {beside}." if updates else f"{beside}."
    paths = write_figure(stem, CURVE_SIZE, paint)
    return DrawnFigure(name=stem.name, title=title, caption=caption, paths=tuple(paths), shows=shows)


def point_marker(places: int) -> str:
    """Return the marker of a curve: one that is a single point is seen by it alone."""
    return "o" if places == 1 else "none"


def curve_phrase(places: Sequence[float] | np.ndarray, means: Sequence[float] | np.ndarray, place: str) -> str:
    """Return where a curve begins and ends.

    >>> curve_phrase([250.0, 4000.0], [-900.0, -150.0], "update")
    'from −900.0 at update 250 to −150.0 at update 4,000'
    """
    ends = [f"{format_return(means[end])} at {place} {format_tick(places[end])}" for end in (0, -1)]
    return ends[0] if len(places) == 1 else f"from {ends[0]} to {ends[1]}"


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
    title = quick_title(title, quick=table["protocol"]["quick"])

    def paint(figure: Figure, axes: Axes) -> None:
        axes.axvline(level[RANDOM], color=RANDOM_COLOR, linestyle=RANDOM_DASHES, linewidth=1.4)
        axes.axvline(level[SAC], color=SAC_COLOR, linestyle=SAC_DASHES, linewidth=1.4)
        for height, row in enumerate(reversed(rows)):
            _headline_row(axes, height, row, first=height == len(rows) - 1)
        axes.set_yticks(range(len(rows)), list(map(_headline_label, reversed(rows))), fontsize=11, color="#222222")
        axes.set_ylim(-0.55, len(rows) - 0.5)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.margins(x=0.08)
        _name_levels(axes, level, len(rows) - 0.45)
        axes.xaxis.set_major_formatter(ReturnTicks())
        axes.set_xlabel("mean " + RETURN_LABEL + ", higher is better")
        figure.legend(loc="outside lower right", ncols=2)
        set_title(figure, title, width=64)

    seeds = max((len(row["training_seeds"]) for row in rows), default=0)
    caption = (
        f"Mean over {counted(table['protocol']['evaluation_starts'], 'start state')} and up to "
        f"{counted(seeds, 'training seed')}, with the 95% interval; diamonds: the report's values; dashed: the "
        "measured level of SAC, dotted: that of the random policy."
    )
    means = [f"{_headline_label(row)} {format_return(row['mean_return'])}".replace("\n", ", ") for row in rows]
    means += [f"SAC {format_return(level[SAC])}", f"random {format_return(level[RANDOM])}"]
    paths = write_figure(stem, (7.4, 1.9 + 0.48 * len(rows)), paint)
    shows = "Mean returns: " + "; ".join(means) + "."
    return DrawnFigure(name=stem.name, title=title, caption=caption, paths=tuple(paths), shows=shows)


NAME_SHARE = 0.16
"""Of the axes' width: where two levels are closer, their names stand to the left and to the right of them."""


def _name_levels(axes: Axes, level: Mapping[str, float], height: float) -> None:
    """Write the names of both levels above them, one beside the other where they lie close."""
    left, right = axes.get_xlim()
    close = abs(level[SAC] - level[RANDOM]) < NAME_SHARE * (right - left)
    lower = SAC if level[SAC] < level[RANDOM] else RANDOM
    for name, text, color in ((RANDOM, "random", RANDOM_COLOR), (SAC, "SAC", SAC_COLOR)):
        place, points = (("right", -3) if name == lower else ("left", 3)) if close else ("center", 0)
        axes.annotate(
            f"{text}\n{format_return(level[name])}", (level[name], height), xytext=(points, 0),
            textcoords="offset points", color=color, ha=place, va="bottom", fontsize=10.5, annotation_clip=False,
        )  # fmt: skip


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
