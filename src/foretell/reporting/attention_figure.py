"""Attention weights as heat maps: a panel for every layer and head, axes named by the tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.figure import Figure, SubFigure

from foretell.reporting.figures import DrawnFigure
from foretell.reporting.style import OURS, SUPPORT_COLOR, letters_in, set_title, wrapped, write_figure

Token = tuple[str, int | None]
"""What a token is, and of which timestep: ("s2", 91) is the second number of observation 91."""

CELL = 0.115
"""Inches a token."""
LONGEST, WIDEST = 5.0, 20.0
"""Inches at most: a panel's longer side, and all panels beside each other."""
NAMED_CELL = 0.075
"""Inches a token from which on each one is named; where they are smaller, only timesteps are."""
SHORTEST = 0.9
"""Inches of a panel's side at least."""

UNSEEN = "#DCDCDC"
WEIGHTS = LinearSegmentedColormap.from_list("weights", ["#FFFFFF", SUPPORT_COLOR, OURS, "#06233B"]).with_extremes(
    under=UNSEEN
)


@dataclass(frozen=True, kw_only=True, eq=False)
class AttentionPanels:
    """One kind of attention: how much each query, a row, takes of each key, a column; 0 where it may not look."""

    name: str
    weights: Float[np.ndarray, "layers heads queries keys"]
    queries: Sequence[Token]
    keys: Sequence[Token]

    @property
    def cell(self) -> float:
        """Inches a token."""
        longest, beside = max(len(self.queries), len(self.keys)), self.weights.shape[1] * len(self.keys)
        return min(CELL, LONGEST / longest, WIDEST / beside)

    @property
    def panel_size(self) -> tuple[float, float]:
        """Width and height of a panel, inches."""
        return max(SHORTEST, self.cell * len(self.keys)), max(SHORTEST, self.cell * len(self.queries))


def draw_attention(stem: Path, title: str, groups: Sequence[AttentionPanels]) -> DrawnFigure:
    """Draw the weights of each group, layers below each other, heads side by side."""
    sizes = [_group_size(group) for group in groups]
    width = max(3.6, *(size[0] for size in sizes))
    letters = letters_in(title, 0.95 * width)
    heights = [size[1] for size in sizes]
    above = 0.25 + 0.2 * len(wrapped(title, letters))

    def paint(figure: Figure, axes: Axes) -> None:
        axes.remove()
        parts = figure.subfigures(len(groups), 1, height_ratios=heights, squeeze=False)[:, 0]
        for part, group in zip(parts, groups, strict=True):
            _paint_group(part, group, alone=len(groups) == 1)
        set_title(figure, title, width=letters)

    caption = (
        "Rows: the token that looks; columns: the token that is looked at. Each row adds up to 1; grey: may not be "
        "seen. The scale is that of the square root, so that small weights show."
    )
    paths = write_figure(stem, (width, sum(heights) + above), paint)
    return DrawnFigure(name=stem.name, title=title, caption=caption, paths=tuple(paths))


def _group_size(group: AttentionPanels) -> tuple[float, float]:
    """Width and height of a group, inches: panels, their titles, names beside them, scale."""
    layers, heads = group.weights.shape[:2]
    width, height = group.panel_size
    return 0.75 + heads * (width + 0.12) + 0.75, 0.45 + layers * (height + 0.32) + 0.6


def _paint_group(part: SubFigure, group: AttentionPanels, *, alone: bool) -> None:
    layers, heads = group.weights.shape[:2]
    panels = part.subplots(layers, heads, squeeze=False)
    norm = PowerNorm(0.5, vmin=0.0, vmax=1.0)
    for layer in range(layers):
        for head in range(heads):
            axes = panels[layer, head]
            weights = np.where(group.weights[layer, head] == 0, -1.0, group.weights[layer, head])
            axes.imshow(weights, cmap=WEIGHTS, norm=norm, aspect="auto", interpolation="nearest")
            axes.set_title(f"layer {layer + 1}, head {head + 1}", fontsize=8.5, pad=3)
            axes.grid(visible=False)
            _separate_timesteps(axes, group)
            _name(axes.yaxis, group.queries if head == 0 else (), group.cell, 0)
            _name(axes.xaxis, group.keys if layer + 1 == layers else (), group.cell, 90)
    if not alone:
        part.suptitle(group.name, x=0.01, ha="left", fontsize=10.5, fontweight="bold")
    bar = part.colorbar(
        ScalarMappable(norm, WEIGHTS), ax=panels, shrink=min(1.0, 1.6 / (layers * group.panel_size[1])), aspect=14,
        ticks=(0, 0.05, 0.2, 0.5, 1), pad=0.02,
    )  # fmt: skip
    bar.ax.tick_params(labelsize=8)
    bar.set_label("weight (grey: may not be seen)", fontsize=8)
    part.supylabel("token that looks", fontsize=8.5)
    part.supxlabel("token that is looked at", fontsize=8.5)


def _separate_timesteps(axes: Axes, group: AttentionPanels) -> None:
    """Draw a thin line wherever the next token is of another timestep."""
    rows, columns = len(group.queries) - 0.5, len(group.keys) - 0.5
    look = {"colors": "#9A9A9A", "linewidth": 0.4}
    axes.hlines(_boundaries(group.queries), -0.5, columns, **look)
    axes.vlines(_boundaries(group.keys), -0.5, rows, **look)


def _boundaries(tokens: Sequence[Token]) -> list[float]:
    return [place - 0.5 for place in range(1, len(tokens)) if tokens[place][1] != tokens[place - 1][1]]


def _name(axis: Axis, tokens: Sequence[Token], cell: float, rotation: int) -> None:
    """Name the tokens of an axis; none beside the inner panels, for which the outer ones speak."""
    each = cell >= NAMED_CELL
    axis.set_ticks(*token_names(tokens, each=each))
    size = min(6.2, 68 * cell) if each else 7.5
    axis.set_tick_params(length=0, pad=1.5, labelsize=size, labelrotation=rotation)


def token_names(tokens: Sequence[Token], *, each: bool) -> tuple[list[float], list[str]]:
    """Return where names stand on an axis, and the names: of each token, or of timesteps alone.

    >>> token_names([("R", 7), ("s2", 7), ("start", None)], each=True)
    ([0.0, 1.0, 2.0], ['R 7', 's2 7', 'start'])
    >>> token_names([("goal s", None), ("s", 7), ("a", 7)], each=False)
    ([0.0, 1.5], ['goal', 't = 7'])
    """
    if each:
        names = [kind if timestep is None else f"{kind} {timestep}" for kind, timestep in tokens]
        return [float(place) for place in range(len(tokens))], names
    places: dict[int | None, list[int]] = {}
    for place, (_, timestep) in enumerate(tokens):
        places.setdefault(timestep, []).append(place)
    middles = [(found[0] + found[-1]) / 2 for found in places.values()]
    return middles, ["goal" if timestep is None else f"t = {timestep}" for timestep in places]
