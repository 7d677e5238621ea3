"""The league's figures: what each method earns on each dataset, and how its regret is spread over start states."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from foretell.core.decimals import counted
from foretell.reporting.figures import DrawnFigure
from foretell.reporting.league_plan import OPTIMUM, REFERENCES
from foretell.reporting.league_table import DATA, NOTHING, League, Row
from foretell.reporting.style import (
    INK,
    LABEL_WIDTH,
    LINE_HEIGHT,
    RANDOM_COLOR,
    RANDOM_DASHES,
    RETURN_LABEL,
    SAC_COLOR,
    SAC_DASHES,
    SUPPORT_COLOR,
    draw_estimate,
    finish_rows,
    look_of,
    set_title,
    write_figure,
)
from foretell.reporting.tables import RANDOM, SAC, quick_title
from foretell.reporting.ticks import ReturnTicks, format_return

WIDTH = 5.4
"""Inches. Small with 10-point letters: still readable at a phone's width."""

LEVELS: dict[str, dict[str, Any]] = {
    RANDOM: {"color": RANDOM_COLOR, "linestyle": RANDOM_DASHES},
    SAC: {"color": SAC_COLOR, "linestyle": SAC_DASHES},
    OPTIMUM: {"color": INK, "linestyle": (0, (7, 1.4, 1.4, 1.4))},
}

LINEAR_REGRET = 1.0
"""Nearer to zero than this, in reward units, the scale is linear: an optimum on a grid can be beaten a little."""


def draw_league(stem: Path, league: League) -> DrawnFigure:
    """Draw the mean return of every method with its 95% interval, a panel for each dataset, beside the levels.

    The levels are those of random, SAC and the optimum, and in each panel the mean of the data's own episodes.
    """
    labels = [*_wrapped(method.label for method in league.plan.methods), DATA]
    row_height = max(0.27, 0.02 + LINE_HEIGHT * max(label.count("\n") + 1 for label in labels))
    height = len(league.plan.datasets) * (0.35 + row_height * len(labels)) + 2 * LINE_HEIGHT

    def paint(axes: Axes, dataset: str) -> None:
        _paint_levels(axes, league)
        _paint_methods(axes, league, dataset)
        finish_rows(axes, labels)

    title = _title(league, f"What each method earns on {league.protocol['environment']}, by the data it learned from")
    paths = _draw_panels(stem, league, title, paint, xlabel="mean " + RETURN_LABEL, height=height)
    caption = (
        f"Mean over {counted(league.protocol['evaluation_starts'], 'start state')} and all training seeds, with its "
        "95% interval; the best mean on each dataset is bold. "
        f"{DATA.capitalize()}: mean return of the dataset's episodes. "
        "Lines: the measured levels of the random policy, SAC and the optimum."
    )
    return DrawnFigure(name=stem.name, title=title, caption=caption, paths=paths)


def _title(league: League, title: str) -> str:
    return quick_title(title, quick=league.protocol["quick"])


def _wrapped(labels: Iterable[str]) -> list[str]:
    return [textwrap.fill(label, LABEL_WIDTH) for label in labels]


def _draw_panels(
    stem: Path,
    league: League,
    title: str,
    paint: Callable[[Axes, str], None],
    *,
    xlabel: str,
    height: float,
) -> tuple[Path, ...]:
    """Let `paint` draw a panel for each dataset, one below the other over one x-axis, with one legend for all.

    `height`, in inches, is that of panels and legend; title and x-axis come on top of it.
    """
    datasets = league.plan.datasets

    def paint_all(figure: Figure, axes: Axes) -> None:
        axes.remove()
        panels = figure.subplots(len(datasets), 1, sharex=True, squeeze=False)[:, 0]
        for panel, dataset in zip(panels, datasets):
            paint(panel, dataset)
            panel.set_title(dataset, loc="left", fontsize=10.5, fontweight="bold")
        panels[-1].set_xlabel(xlabel)
        drawn = {label: handle for panel in panels for handle, label in zip(*panel.get_legend_handles_labels())}
        look = {"ncols": 2, "columnspacing": 1.2, "handlelength": 1.8}
        figure.legend(drawn.values(), _wrapped(drawn), loc="outside lower left", **look)
        set_title(figure, title, width=48)

    return tuple(write_figure(stem, (WIDTH, 1.25 + height), paint_all))


def _paint_levels(axes: Axes, league: League) -> None:
    for name, look in LEVELS.items():
        value = league.reference(name)["mean_return"]
        axes.axvline(value, linewidth=1.4, label=f"{REFERENCES[name]} {format_return(value)}", **look)


def _paint_methods(axes: Axes, league: League, dataset: str) -> None:
    best = league.best(dataset)
    for height, method in enumerate(league.plan.methods):
        row = league.row(method.name, dataset)
        _write_value(axes, height, None if row is None else row["mean_return"], bold=row is not None and row is best)
        if row is not None:
            draw_estimate(axes, height, row)
    height, mean = len(league.plan.methods), league.data_means.get(dataset)
    _write_value(axes, height, mean, bold=False)
    if mean is not None:
        axes.axvline(mean, color=SUPPORT_COLOR, linewidth=1.4, zorder=1.4)
        axes.plot(mean, height, "D", color=SUPPORT_COLOR, markersize=6.5, mec="white", mew=0.8, zorder=3)


def _write_value(axes: Axes, height: int, value: float | None, *, bold: bool) -> None:
    """Write a mean to the right of the axes, beside its row."""
    text, weight = NOTHING if value is None else format_return(value), "bold" if bold else "normal"
    place = axes.get_yaxis_transform()
    axes.text(1.02, height, text, va="center", fontsize=10, fontweight=weight, transform=place)


def draw_regret(stem: Path, league: League) -> DrawnFigure:
    """Draw, for each dataset, the share of start states with at most each regret: a line a method.

    The empirical distribution function of `regret_by_start`, beside those of SAC and of the random policy.
    """

    def paint(axes: Axes, dataset: str) -> None:
        for name in (RANDOM, SAC):
            _paint_regret(axes, league.reference(name), REFERENCES[name], linewidth=3, alpha=0.5, **LEVELS[name])
        for number, method in enumerate(league.plan.methods):
            row = league.row(method.name, dataset)
            if row is not None:
                _paint_regret(axes, row, method.label, linewidth=1.5, markersize=4.5, **look_of(number))
        axes.set_xscale("symlog", linthresh=LINEAR_REGRET)
        axes.xaxis.set_major_formatter(ReturnTicks())
        axes.set_ylim(0, 1.03)
        axes.set_yticks((0, 0.5, 1), ("0%", "50%", "100%"))
        axes.set_ylabel("share of starts")

    title = _title(league, f"Regret from each start state of {league.protocol['environment']}, by method and data")
    names = _wrapped((REFERENCES[RANDOM], REFERENCES[SAC], *(method.label for method in league.plan.methods)))
    columns = names[: (len(names) + 1) // 2], names[(len(names) + 1) // 2 :]
    legend = max(sum(0.06 + LINE_HEIGHT * (name.count("\n") + 1) for name in column) for column in columns)
    height = 1.8 * len(league.plan.datasets) + legend
    paths = _draw_panels(stem, league, title, paint, xlabel="regret per episode (reward units)", height=height)
    caption = (
        "Share of the start states whose regret, the optimum's return minus the policy's own (mean over its training "
        "seeds), is at most so much. Further to the left is better; a line ends at its worst start state."
    )
    return DrawnFigure(name=stem.name, title=title, caption=caption, paths=paths)


def _paint_regret(axes: Axes, row: Row, label: str, **look: Any) -> None:
    regrets = np.sort(row["regret_by_start"])
    shares = np.arange(len(regrets) + 1) / len(regrets)
    axes.plot([regrets[0], *regrets], shares, drawstyle="steps-post", label=label, markevery=0.12, **look)
