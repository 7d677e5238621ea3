"""Figures of runs beside each other: what each earns, and how each learned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from foretell.reporting.comparison import asked_phrase
from foretell.reporting.figures import CURVE_SIZE, DrawnFigure, finish_curve, series
from foretell.reporting.run_results import RunResults
from foretell.reporting.style import (
    INK,
    METHOD_COLORS,
    METHOD_DASHES,
    RETURN_LABEL,
    draw_estimate,
    finish_rows,
    format_return,
    literal,
    set_title,
    wrapped,
    write_figure,
)

LABEL_WIDTH = 28
"""Letters on a line of a run's label."""
LINE_INCHES, ROW_INCHES = 0.17, 0.14
"""What a line of a label takes, and what is left free between two rows."""


def draw_returns(stem: Path, table: Mapping[str, Any]) -> DrawnFigure:
    """Draw each row's mean return with its 95% interval, the first one's mean as a line through all."""
    rows, name = table["rows"], table["protocol"]["environment"]
    labels = _in_lines([row["label"] for row in rows], [_asked(row) for row in rows])
    title = f"What each run earns on {name}"

    def paint(figure: Figure, axes: Axes) -> None:
        axes.axvline(rows[0]["mean_return"], color=INK, linestyle="--", linewidth=1.2, zorder=1.5)
        for height, row in enumerate(rows):
            draw_estimate(axes, height, row)
            place = axes.get_yaxis_transform()
            axes.text(1.02, height, format_return(row["mean_return"]), va="center", fontsize=10, transform=place)
        finish_rows(axes, labels)
        axes.set_xlabel("mean " + RETURN_LABEL)
        set_title(figure, title, width=60)

    caption = (
        f"Mean over {table['protocol']['evaluation_starts']} start states and all training seeds, with its 95% "
        f"interval; dashed: the mean of {table['protocol']['against']}."
    )
    lines = sum(label.count("\n") + 1 for label in labels)
    paths = write_figure(stem, (6.4, 1.3 + lines * LINE_INCHES + len(rows) * ROW_INCHES), paint)
    return DrawnFigure(name=stem.name, title=title, caption=caption, paths=tuple(paths))


def _asked(row: Mapping[str, Any]) -> str:
    return "" if row["target_return"] is None else f", asked {asked_phrase(row['target_return'])}"


def _in_lines(names: Sequence[str], behind: Sequence[str]) -> list[str]:
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


def draw_curves(stem: Path, results: Sequence[RunResults], environment: str) -> DrawnFigure | None:
    """Draw the validation return of every run against its updates: of several seeds the mean and the range; None
    where no run was evaluated while it learned. Where that was in another environment than this, the legend says so."""
    drawn = [(one, curve) for one in results if (curve := _curve(one)) is not None]
    if not drawn:
        return None
    labels = _in_lines([one.label for one, _ in drawn], [_elsewhere(one, environment) for one, _ in drawn])
    curves = [(label, curve) for label, (_, curve) in zip(labels, drawn, strict=True)]
    title = "Return while learning"

    def paint(figure: Figure, axes: Axes) -> None:
        for number, (label, (places, means)) in enumerate(curves):
            color = METHOD_COLORS[number % len(METHOD_COLORS)]
            dashes = METHOD_DASHES[number // len(METHOD_COLORS) % len(METHOD_DASHES)]
            axes.fill_between(places, means.min(axis=0), means.max(axis=0), color=color, alpha=0.15, linewidth=0)
            line = f" {label}"  # of a label that begins with _ matplotlib makes none
            axes.plot(places, means.mean(axis=0), color=color, linestyle=dashes, marker=".", label=line)
        finish_curve(axes, "updates" + (", of SAC environment steps" if _has_sac(results) else ""))
        figure.legend(loc="outside lower left")
        set_title(figure, title, width=48)

    caption = (
        "Mean return on the validation start states, which are not those of the table; of several seeds their mean, "
        "and a band from the lowest to the highest."
    )
    extra = 0.06 + sum(0.06 + LINE_INCHES * (label.count("\n") + 1) for label, _ in curves)
    paths = write_figure(stem, (CURVE_SIZE[0], CURVE_SIZE[1] + extra), paint)
    return DrawnFigure(name=stem.name, title=title, caption=caption, paths=tuple(paths))


def _elsewhere(results: RunResults, environment: str) -> str:
    """Say where a run was evaluated while it learned, where that is not this environment."""
    own = ((results.config or {}).get("environment") or {}).get("name")
    return "" if own in (None, environment) else f", on {own}"


def _has_sac(results: Sequence[RunResults]) -> bool:
    return any((one.config or {}).get("kind") == "sac" for one in results)


def _curve(results: RunResults) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the places that all seeds were evaluated at, ascending, and the means there, (seeds, places)."""
    at = "step" if (results.config or {}).get("kind") == "sac" else "update"
    curves = [dict(zip(*series(events, "evaluation", at, "mean_return"))) for events in results.events]
    shared = sorted(set.intersection(*map(set, curves))) if curves else []
    if not shared:
        return None
    return np.array(shared), np.array([[curve[place] for place in shared] for curve in curves])
