"""One look for every figure, and the same bytes for the same numbers."""

from __future__ import annotations

import contextlib
import logging
import textwrap
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath
from matplotlib.ticker import MaxNLocator

from foretell.core.errors import UsageError
from foretell.core.files import atomic_path
from foretell.reporting.ticks import ReturnTicks, format_return

# Okabe and Ito's palette, which stays apart for every common kind of colour blindness. One colour, one meaning.
OURS = "#0072B2"
SAC_COLOR = "#007A5A"  # their bluish green, darkened so that text in it is readable on white
RANDOM_COLOR = "#6B6B6B"
REPORT_COLOR = "#C24E00"  # their vermilion, darkened likewise
SUPPORT_COLOR = "#56B4E9"
INK = "#222222"
METHOD_COLORS = (OURS, "#E69F00", "#B0508F", INK, SUPPORT_COLOR, "#8A5A00")
"""Of Okabe and Ito's palette what is not SAC's, random's or the report's, the paler ones darkened."""

_METHOD_DASHES = ("-", (0, (4, 1.2)), (0, (1.2, 1.2)), (0, (7, 1.4, 1.4, 1.4)), (0, (3, 1, 1, 1, 1, 1)))
_METHOD_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
"""As many as there are of neither colours nor dashes, so that it takes 210 lines until one looks like another."""

SAC_DASHES = "--"
RANDOM_DASHES = (0, (1, 2.2))
REPORT_DASHES = (0, (6, 1.6, 1.2, 1.6))
"""Dashed, dotted, and both: who sees no colours tells the levels apart by them."""

RETURN_LABEL = "return per episode (reward units)"

OTHER_LETTERS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK KR", "Source Han Sans SC", "WenQuanYi Micro Hei",
    "Microsoft YaHei", "SimHei", "Yu Gothic", "Malgun Gothic", "PingFang SC", "Hiragino Sans", "Apple SD Gothic Neo",
    "Arial Unicode MS",
)  # fmt: skip
"""Fonts for letters that matplotlib's own has not, in the names of datasets and runs; those of them that there are."""

STYLE = {
    "font.size": 11,
    "axes.labelsize": 11,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#9A9A9A",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "legend.title_fontsize": 10,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.fonttype": "path",
}

PNG_DPI = 150
BACKING = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 0.8}
"""Keeps a number readable where a line runs behind it."""

LABEL_GAP = 0.07
"""Least distance between two labels beside the axes, as a share of the axes' height: one line of text."""


LABEL_WIDTH = 28
"""Letters on a line of a label; two columns of them fit beside each other in a legend."""
LINE_HEIGHT = 0.17
"""Inches that a line of 10-point letters takes."""

FIGURES = "figures"
_ONE_AT_A_TIME = threading.Lock()


def write_figure(stem: Path, size: tuple[float, float], paint: Callable[[Figure, Axes], None]) -> list[Path]:
    """Let `paint` draw on fresh axes of `size` (inches); write `stem`.svg and `stem`.png, return both paths.

    No global state: the Agg and SVG writers are used directly, matplotlib's settings are put back (one figure is drawn
    at a time: they are the whole process's). Ids in the SVG come
    from the name, and no date or version is written, so that the same numbers give the same bytes.
    """
    if stem.parent.is_symlink() and stem.parent.name == FIGURES:  # of a folder that may be a stranger's
        raise UsageError(f"{stem.parent}: is a link; expected a folder of figures. Remove it, or choose another --out.")
    with _ONE_AT_A_TIME, matplotlib.rc_context(), _quiet(logging.getLogger(font_manager.__name__)):
        matplotlib.rcdefaults()  # a user's own matplotlibrc must not change the figures
        matplotlib.rcParams.update({**STYLE, "font.family": _fonts(), "svg.hashsalt": stem.name})
        figure = Figure(figsize=size, layout="constrained")
        paint(figure, figure.add_subplot())
        paths = []
        for suffix, metadata in ((".svg", {"Date": None, "Creator": None}), (".png", {"Software": None})):
            paths.append(stem.with_name(stem.name + suffix))
            with atomic_path(paths[-1]) as temporary:
                figure.savefig(temporary, format=suffix[1:], dpi=PNG_DPI, metadata=metadata)
    return paths


@contextlib.contextmanager
def _quiet(logger: logging.Logger) -> Generator[None]:
    """Say nothing of weights that a font lacks."""
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


@cache
def _fonts() -> list[str]:
    """Return the fonts that letters are looked for in, one after the other.

    First that which comes with matplotlib: what it has are the same letters on every machine.
    """
    there = set(font_manager.get_font_names())
    return ["DejaVu Sans", *(font for font in OTHER_LETTERS if font in there)]


def look_of(place: int) -> dict[str, Any]:
    """Return colour, dashes and marker of the line in this place: another colour each, and other dashes and marker."""
    return {
        "color": color_of(place),
        "linestyle": _METHOD_DASHES[place % len(_METHOD_DASHES)],
        "marker": _METHOD_MARKERS[place % len(_METHOD_MARKERS)],
    }


def color_of(place: int) -> str:
    """Return the colour of the run or method in this place of a report."""
    return METHOD_COLORS[place % len(METHOD_COLORS)]


def draw_estimate(axes: Axes, height: float, row: Mapping[str, Any], color: str = OURS) -> None:
    """Draw a table row's mean return as a point, and its 95% interval as a bar."""
    axes.plot(row["ci95"], [height, height], color=color, linewidth=3, solid_capstyle="butt")
    axes.plot(row["mean_return"], height, "o", color=color, markersize=6.5, mec="white", mew=0.8, zorder=3)


def finish_rows(axes: Axes, labels: Sequence[str]) -> None:
    """Name the rows of a table that was drawn from the top down, at heights 0, 1, 2, ..."""
    axes.set_yticks(range(len(labels)), labels, fontsize=10, color=INK)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=4))
    axes.xaxis.set_major_formatter(ReturnTicks())


def set_title(figure: Figure, title: str, *, width: int) -> None:
    """Write the title from the figure's left edge, wrapped at `width` letters, or where the figure ends."""
    letters = min(width, letters_in(title, 0.95 * figure.get_size_inches()[0]))
    figure.suptitle(literal("\n".join(wrapped(title, letters))), x=0.01, ha="left", fontsize=12, fontweight="bold")


def letters_in(title: str, inches: float) -> int:
    """Return after how many letters the title has to be wrapped for every line of it to be within so many inches."""
    whole = _inches(title) if title.strip() else 0.0
    if whole <= inches:
        return max(1, len(title))
    letters = max(1, min(len(title), int(1.5 * len(title) * inches / whole)))  # more than fit, unless all are narrow
    while letters > 1 and max(map(_inches, wrapped(title, letters))) > inches:
        letters -= 1
    return letters


def _inches(line: str) -> float:
    font = FontProperties(family=_fonts(), weight="bold", size=12)
    return TextPath((0, 0), literal(line), prop=font).get_extents().x1 / 72


def literal(text: str) -> str:
    """Return a name of somebody's own so that matplotlib writes it as it is: no formula between dollar signs."""
    return text.replace("$", r"\$")


def wrapped(title: str, width: int) -> list[str]:
    """Return the lines of a title of at most `width` letters; what is longer than a line is broken, hyphens are not."""
    return textwrap.wrap(title, width, break_on_hyphens=False)


@dataclass(frozen=True, kw_only=True)
class Level:
    """A return (reward units) drawn as a line across the axes and named beside it."""

    name: str
    value: float
    color: str
    dashes: str | tuple[float, tuple[float, ...]] = "--"
    line: bool = True
    """False for the end of a curve that is drawn already: then only the name is written."""


def draw_levels(axes: Axes, levels: Sequence[Level]) -> None:
    """Draw each level and write its name and value to the right of the axes, in its colour, without overlaps.

    Sets the limits of the y-axis so that every level and all that was drawn before is inside.
    """
    bottom, top = axes.get_ylim()
    bottom, top = min(bottom, *(level.value for level in levels)), max(top, *(level.value for level in levels))
    margin = 0.04 * (top - bottom)
    axes.set_ylim(bottom - margin, top + margin)
    bottom, top = axes.get_ylim()
    ordered = sorted(levels, key=lambda level: level.value)
    heights = spread_labels([(level.value - bottom) / (top - bottom) for level in ordered], LABEL_GAP)
    for level, height in zip(ordered, heights):
        if level.line:
            axes.axhline(level.value, color=level.color, linestyle=level.dashes, linewidth=1.4, zorder=1.5)
        text = f"{level.name} {format_return(level.value)}"
        axes.text(1.02, height, text, color=level.color, fontsize=10, va="center", transform=axes.transAxes)


def spread_labels(heights: Sequence[float], gap: float) -> list[float]:
    """Move ascending heights apart to at least `gap`, each cluster staying centred on the mean of its own heights.

    >>> spread_labels([0.1, 0.5, 0.5], 0.1)
    [0.1, 0.45, 0.55]
    """
    clusters: list[list[float]] = []
    for height in heights:
        clusters.append([height])
        while len(clusters) > 1 and _top(clusters[-2], gap) + gap > _bottom(clusters[-1], gap) + 1e-12:
            last = clusters.pop()
            clusters[-1] += last
    return [round(_bottom(cluster, gap) + i * gap, 9) for cluster in clusters for i in range(len(cluster))]


def _bottom(cluster: Sequence[float], gap: float) -> float:
    return float(np.mean(cluster)) - gap * (len(cluster) - 1) / 2


def _top(cluster: Sequence[float], gap: float) -> float:
    return float(np.mean(cluster)) + gap * (len(cluster) - 1) / 2
