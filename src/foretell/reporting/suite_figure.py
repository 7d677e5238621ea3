"""The figure of a table over several environments: every method's score on every task."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from foretell.core.decimals import written
from foretell.reporting.comparison_figures import in_lines
from foretell.reporting.figures import DrawnFigure
from foretell.reporting.style import (
    INK,
    LABEL_WIDTH,
    LINE_HEIGHT,
    color_of,
    finish_rows,
    literal,
    look_of,
    set_title,
    wrapped,
    write_figure,
)
from foretell.reporting.suite_text import methods_of

BAR_HEIGHT = 0.13
"""Inches from one method to the next in a row."""
SPREAD = 0.7
"""Part of a row's height that the methods take."""


def draw_scores(stem: Path, table: Mapping[str, Any]) -> DrawnFigure:
    """Draw the normalised score of each method on each task with its 95% interval, and the mean over tasks below."""
    tasks, methods = table["protocol"]["tasks"], methods_of(table)
    names = [environment.replace(",", ", ") for environment, _ in tasks]  # keywords begin lines, and are not broken
    labels = in_lines(names, ["" if dataset is None else f", {dataset}" for _, dataset in tasks])
    points = [
        (tasks.index([row["environment"], row["dataset"]]), row["method"], score, row["normalized_ci95"])
        for row in table["rows"]
        if (score := row["normalized_score"]) is not None
    ]
    points += [(len(tasks), row["method"], row["mean_score"], row["mean_ci95"]) for row in table["methods"]]
    if table["methods"]:
        labels.append(f"mean of {len(table['protocol']['shared_tasks'])}")
    title = "What each method scores on each task"

    def paint(figure: Figure, axes: Axes) -> None:
        for score in (0, 100):
            axes.axvline(score, color=INK, linestyle="--", linewidth=1.0, zorder=1.5)
        for number, method in enumerate(methods):
            shift = SPREAD * ((number + 0.5) / len(methods) - 0.5)
            own = [(height + shift, value, ends) for height, name, value, ends in points if name == method]
            for height, _, ends in own:
                axes.plot(ends, [height, height], color=color_of(number), linewidth=2, solid_capstyle="butt")
            axes.plot(
                [value for _, value, _ in own], [height for height, *_ in own], look_of(number)["marker"],
                color=color_of(number), markersize=5.5, mec="white", mew=0.6, zorder=3,
                label="\n".join(f" {literal(line)}" for line in wrapped(method, LABEL_WIDTH)),
            )  # fmt: skip
        if table["methods"]:
            axes.axhline(len(tasks) - 0.5, color=INK, linewidth=0.8)
        finish_rows(axes, labels)
        axes.set_xlabel("normalised score (random 0, expert 100)")
        figure.legend(loc="outside lower left", ncols=2)
        set_title(figure, title, width=60)

    most = max(2, *(label.count("\n") + 1 for label in labels))
    per_row = max(most * LINE_HEIGHT, BAR_HEIGHT * len(methods) / SPREAD)
    legend = sum(0.06 + LINE_HEIGHT * len(wrapped(method, LABEL_WIDTH)) for method in methods[::2])
    paths = write_figure(stem, (6.4, 1.4 + len(labels) * per_row + legend), paint)
    means = [f"{row['method']} {written(1, row['mean_score'])}" for row in table["methods"]]
    return DrawnFigure(
        name=stem.name, title=title, paths=tuple(paths),
        caption="Normalised score with its 95% interval; dashed: random acting, 0, and the expert, 100.",
        shows=f"Mean scores: {'; '.join(means)}." if means else "",
    )  # fmt: skip
