"""Figures of runs beside each other: what each earns, and how each learned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from foretell.core.decimals import counted
from foretell.reporting.comparison import asked_phrase, name_of
from foretell.reporting.comparison_text import mean_decimals
from foretell.reporting.figures import CURVE_SIZE, DrawnFigure, curve_phrase, finish_curve, series
from foretell.reporting.run_results import RunResults
from foretell.reporting.style import (
    INK,
    LABEL_WIDTH,
    LINE_HEIGHT,
    RETURN_LABEL,
    color_of,
    draw_estimate,
    finish_rows,
    literal,
    look_of,
    set_title,
    wrapped,
    write_figure,
)
from foretell.reporting.ticks import format_return

ROW_HEIGHT = 0.14
"""Inches that are left free between two rows."""
PANEL_HEIGHT = 2.9
"""Inches of a second panel of curves."""
MARKERS = 8
"""On a curve about so many."""
NAMED = 12
"""Runs of which a figure's description gives the numbers."""


def draw_returns(stem: Path, table: Mapping[str, Any], places: Sequence[int]) -> DrawnFigure:
    """Draw each row's mean return with its 95% interval, the first one's mean as a line through all. `places` are those
    of the rows' runs in the report, by which they have their colours."""
    rows, name = table["rows"], table["protocol"]["environment"]
    labels = in_lines([row["label"] for row in rows], [_asked(row) for row in rows])
    title, digits = f"What each run earns on {name}", mean_decimals(rows)

    def paint(figure: Figure, axes: Axes) -> None:
        axes.axvline(rows[0]["mean_return"], color=INK, linestyle="--", linewidth=1.2, zorder=1.5)
        for height, (row, place) in enumerate(zip(rows, places, strict=True)):
            draw_estimate(axes, height, row, color_of(place))
            mean = format_return(row["mean_return"], digits, *row["ci95"])
            axes.text(1.02, height, mean, va="center", fontsize=10, transform=axes.get_yaxis_transform())
        finish_rows(axes, labels)
        axes.set_xlabel("mean " + RETURN_LABEL)
        set_title(figure, title, width=60)

    caption = (
        f"Mean over {counted(table['protocol']['evaluation_starts'], 'start state')} and all training seeds, with its "
        f"95% interval; dashed: the mean of {table['protocol']['against']}."
    )
    means = [
        f"{name_of(row['label'], row['target_return'])} {format_return(row['mean_return'], digits, *row['ci95'])}"
        for row in rows
    ]
    lines = sum(label.count("\n") + 1 for label in labels)
    paths = write_figure(stem, (6.4, 1.3 + lines * LINE_HEIGHT + len(rows) * ROW_HEIGHT), paint)
    return DrawnFigure(
        name=stem.name, title=title, caption=caption, paths=tuple(paths), shows=f"Mean returns: {_listed(means)}."
    )


def _listed(said: Sequence[str]) -> str:
    more = len(said) - NAMED
    return "; ".join(said[:NAMED]) + (f"; and {more} more in the table" if more > 0 else "")


def _asked(row: Mapping[str, Any]) -> str:
    return "" if row["target_return"] is None else f", asked {asked_phrase(row['target_return'])}"


def in_lines(names: Sequence[str], behind: Sequence[str]) -> list[str]:
    """Return names, with what stands behind each, on two lines each; longer ones lose their middle, unless it is what
    tells them apart."""
    whole = [" ".join(name.split()) + rest for name, rest in zip(names, behind, strict=True)]
    lines = [_two_lines(label) for label in whole]
    alike = Counter(map(tuple, lines))
    return [
        literal("\n".join(short if alike[tuple(short)] == 1 else wrapped(label, LABEL_WIDTH)))
        for label, short in zip(whole, lines, strict=True)
    ]


def _two_lines(label: str) -> list[str]:
    lines = wrapped(label, LABEL_WIDTH) or [label]
    return lines if len(lines) <= 2 else [lines[0], "…" + label[1 - LABEL_WIDTH :]]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Curve:
    """How one run learned."""

    run: str
    label: str
    look: Mapping[str, Any]
    axis: str
    """What it counts in."""
    places: np.ndarray
    means: np.ndarray
    """(seeds, places)"""


def draw_curves(stem: Path, results: Sequence[RunResults], environment: str) -> DrawnFigure | None:
    """Draw the validation return of every run against its updates, of SAC in a panel of its own against environment
    steps: of several seeds the mean and the range; None where no run was evaluated while it learned. Where that was in
    another environment than this, the legend says so."""
    curves = _curves(results, environment)
    if not curves:
        return None
    axes_drawn = sorted({curve.axis for curve in curves}, reverse=True)
    title = "Return while learning"

    def paint(figure: Figure, axes: Axes) -> None:
        panels = [axes]
        if len(axes_drawn) > 1:
            axes.remove()
            panels = list(figure.subplots(len(axes_drawn), 1, squeeze=False)[:, 0])
        for axis, panel in zip(axes_drawn, panels, strict=True):
            for curve in curves:
                if curve.axis == axis:
                    _paint_curve(panel, curve)
            finish_curve(panel, axis)
        figure.legend(loc="outside lower left", handlelength=3)
        set_title(figure, title, width=48)

    without = [one.label for one in results if one.label not in {curve.run for curve in curves}]
    caption = (
        "Mean return on the validation start states, which are not those of the table; of several seeds their mean, "
        "and a band from the lowest to the highest."
        + (f" Without a curve, since not evaluated while learning: {', '.join(without)}." if without else "")
    )
    said = [
        f"{curve.run} {curve_phrase(curve.places, curve.means.mean(axis=0), curve.axis.removesuffix('s'))}"
        for curve in curves
    ]
    extra = 0.06 + sum(0.06 + LINE_HEIGHT * (curve.label.count("\n") + 1) for curve in curves)
    height = CURVE_SIZE[1] + PANEL_HEIGHT * (len(axes_drawn) - 1) + extra
    paths = write_figure(stem, (CURVE_SIZE[0], height), paint)
    return DrawnFigure(
        name=stem.name, title=title, caption=caption, paths=tuple(paths), shows=f"Returns: {_listed(said)}."
    )


def _curves(results: Sequence[RunResults], environment: str) -> list[_Curve]:
    """Return the curves there are; each has its look by the place of its run in the report."""
    drawn = [(place, one, found) for place, one in enumerate(results) if (found := _places_and_means(one)) is not None]
    labels = in_lines([one.label for _, one, _ in drawn], [_elsewhere(one, environment) for _, one, _ in drawn])
    return [
        _Curve(run=one.label, label=label, look=look_of(place), axis=AXES[_place_key(one)], places=places, means=means)
        for label, (place, one, (places, means)) in zip(labels, drawn, strict=True)
    ]


def _paint_curve(axes: Axes, curve: _Curve) -> None:
    low, high, mean = (of(curve.means, axis=0) for of in (np.min, np.max, np.mean))
    axes.fill_between(curve.places, low, high, color=curve.look["color"], alpha=0.15, linewidth=0)
    line = "\n".join(f" {part}" for part in curve.label.split("\n"))  # of a label that begins with _ there is none
    every = max(1, round(len(mean) / MARKERS))
    axes.plot(curve.places, mean, label=line, markersize=5, markevery=every, **curve.look)


def _elsewhere(results: RunResults, environment: str) -> str:
    """Say where a run was evaluated while it learned, where that is not this environment."""
    own = ((results.config or {}).get("environment") or {}).get("name")
    return "" if own in (None, environment) else f", on {own}"


AXES = {"update": "updates", "step": "environment steps"}
"""What runs count in, and what that is called beside an axis."""


def _place_key(results: RunResults) -> str:
    return "step" if (results.config or {}).get("kind") == "sac" else "update"


def _places_and_means(results: RunResults) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the places that all seeds were evaluated at, ascending, and the means there, (seeds, places)."""
    at = _place_key(results)
    curves = [dict(zip(*series(events, "evaluation", at, "mean_return"))) for events in results.events]
    shared = sorted(set.intersection(*map(set, curves))) if curves else []
    if not shared:
        return None
    return np.array(shared), np.array([[curve[place] for place in shared] for curve in curves])
