"""Predicted against real trajectories, and how the error of a prediction grows with its length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from foretell.reporting.figures import DrawnFigure
from foretell.reporting.style import INK, OURS, RANDOM_COLOR, REPORT_COLOR, SUPPORT_COLOR, set_title, write_figure

REAL = "recorded"
LOOKS: tuple[dict[str, Any], ...] = (
    {"color": OURS, "linestyle": "-"},
    {"color": REPORT_COLOR, "linestyle": (0, (4, 1.2))},
    {"color": SUPPORT_COLOR, "linestyle": (0, (1.2, 1.2))},
    {"color": RANDOM_COLOR, "linestyle": "--", "linewidth": 1.2},
)
"""Of the models in the order in which they are given: four at most."""
PANEL_WIDTH, ERRORS_HEIGHT, TRAJECTORY_HEIGHT = 4.2, 3.0, 1.35
"""Inches."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ErrorCurves:
    """Mean error of each model after 1, 2, ... predicted timesteps, in deviations of the data."""

    title: str
    errors: Mapping[str, Float[np.ndarray, " steps"]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Trajectories:
    """What was observed after one start, and what each model foretold; units of the environment."""

    title: str
    names: Sequence[str]
    """Of the observation's dimensions."""
    real: Float[np.ndarray, "steps dimensions"]
    predicted: Mapping[str, Float[np.ndarray, "steps dimensions"]]


def draw_rollout_errors(stem: Path, title: str, panels: Sequence[ErrorCurves], *, at: int, starts: int) -> DrawnFigure:
    """Draw error against the number of predicted timesteps, a panel for each set of curves; `at` is marked."""

    def paint(figure: Figure, axes: Axes) -> None:
        axes.remove()
        row = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for panel, curves in zip(row, panels, strict=True):
            for look, (name, errors) in zip(LOOKS, curves.errors.items()):
                panel.plot(np.arange(1, len(errors) + 1), errors, label=name, **look)
            panel.axvline(at, color=INK, linewidth=0.8, alpha=0.6)
            panel.set_title(curves.title, loc="left", fontsize=10.5, fontweight="bold")
            panel.set_xlabel("predicted timesteps")
            panel.set_xlim(left=0)
            panel.set_ylim(bottom=0)
        row[0].set_ylabel("mean error (deviations)")
        _finish(figure, row, title)

    caption = (
        f"Euclidean distance of the predicted observation to the recorded one, each number in deviations of the data, "
        f"mean over {starts} starts in held-out episodes. Recorded actions are given; every model goes on from its own "
        f"predictions. The line stands at {at} timesteps."
    )
    paths = write_figure(stem, (PANEL_WIDTH * len(panels), ERRORS_HEIGHT + 0.9), paint)
    return DrawnFigure(name=stem.name, title=title, caption=caption, paths=tuple(paths))


def draw_rollout_trajectories(stem: Path, title: str, panels: Sequence[Trajectories]) -> DrawnFigure:
    """Draw what was recorded and what was foretold: a column for each of `panels`, a row for each dimension."""
    rows = max(len(column.names) for column in panels)

    def paint(figure: Figure, axes: Axes) -> None:
        axes.remove()
        grid = figure.subplots(rows, len(panels), sharex=True, squeeze=False)
        for place, column in enumerate(panels):
            grid[0, place].set_title(column.title, loc="left", fontsize=10.5, fontweight="bold")
            for dimension, panel in enumerate(grid[:, place]):
                if dimension < len(column.names):
                    _paint_dimension(panel, column, dimension)
                else:
                    panel.set_visible(False)
            last = grid[len(column.names) - 1, place]
            last.set_xlabel("predicted timesteps")
            last.tick_params(labelbottom=True)
        _finish(figure, grid[0], title)

    caption = (
        "One start of a held-out episode. Recorded actions are given; every model goes on from its own predictions, "
        "and sees of the episode only what lies before."
    )
    paths = write_figure(stem, (PANEL_WIDTH * len(panels), TRAJECTORY_HEIGHT * rows + 1.3), paint)
    return DrawnFigure(name=stem.name, title=title, caption=caption, paths=tuple(paths))


def _paint_dimension(axes: Axes, column: Trajectories, dimension: int) -> None:
    timesteps = np.arange(1, len(column.real) + 1)
    axes.plot(timesteps, column.real[:, dimension], color=INK, linewidth=3, alpha=0.3, label=REAL)
    for look, (name, numbers) in zip(LOOKS, column.predicted.items()):
        axes.plot(timesteps, numbers[:, dimension], label=name, **look)
    axes.set_ylabel(column.names[dimension])
    axes.set_xlim(0, len(timesteps))


def _finish(figure: Figure, panels: Sequence[Axes], title: str) -> None:
    """Write one legend for all panels, and the title."""
    drawn = {label: handle for panel in panels for handle, label in zip(*panel.get_legend_handles_labels())}
    figure.legend(drawn.values(), drawn.keys(), loc="outside lower left", ncols=2, columnspacing=1.2)
    set_title(figure, title, width=int(PANEL_WIDTH * len(panels) / 0.098))
