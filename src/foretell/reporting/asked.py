"""Achieved against asked: does a policy that is told a return earn it, and how far beyond its data?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from foretell.core.decimals import counted
from foretell.core.seeding import stream
from foretell.reporting.figures import DrawnFigure
from foretell.reporting.records import scores_by_policy
from foretell.reporting.statistics import Estimate, estimate_mean, spearman
from foretell.reporting.style import (
    BACKING,
    OURS,
    RANDOM_COLOR,
    REPORT_COLOR,
    SUPPORT_COLOR,
    set_title,
    write_figure,
)
from foretell.reporting.tables import quick_title
from foretell.reporting.ticks import ReturnTicks, format_return, format_tick

FAR = 10
"""Asked returns this many times as far from all else as all else is wide are marked at the figure's edge."""
ENOUGH = 4
"""Asked returns of which a correlation is printed: by chance three are in order one time in 6, four one in 24."""


@dataclass(frozen=True, kw_only=True)
class Support:
    """The central returns of a dataset's episodes, in reward units, and the share of episodes between them."""

    low: float
    high: float
    share: float


@dataclass(frozen=True, kw_only=True, eq=False)
class AskedAchieved:
    """Mean achieved return, with its interval, for each asked return (ascending), both in reward units."""

    asked: Float[np.ndarray, " targets"]
    achieved: Sequence[Estimate]
    episodes: int
    """Episodes behind each point, all training seeds together."""

    def correlation(self, support: Support | None) -> tuple[float, int]:
        """Return Spearman's correlation over the asked returns within `support` (all without one), and their number."""
        inside = np.full(len(self.asked), True)
        if support is not None:
            inside = (self.asked >= support.low) & (self.asked <= support.high)
        means = np.array([estimate.value for estimate in self.achieved])
        return spearman(self.asked[inside], means[inside]), int(inside.sum())


def asked_achieved(
    records: Sequence[Mapping[str, Any]], policy: str, *, samples: int, root_seed: int
) -> AskedAchieved | None:
    """Collect one policy's records by asked return; None where it has none.

    Raises `CheckpointError` where a start state is missing or doubled for one target and seed.
    """
    by_target: dict[float, list[Mapping[str, Any]]] = {}
    for record in records:
        if record.get("policy") == policy and record.get("target") is not None:
            by_target.setdefault(float(record["target"]), []).append(record)
    if not by_target:
        return None
    asked = sorted(by_target)
    achieved, episodes = [], 0
    for target in asked:
        returns = scores_by_policy(by_target[target], f"asked.jsonl, target {target:g}")[policy].returns
        generator = stream(root_seed, f"asked/{policy}/{target!r}")
        achieved.append(estimate_mean(returns, samples=samples, generator=generator))
        episodes = max(episodes, returns.size)
    return AskedAchieved(asked=np.array(asked), achieved=achieved, episodes=episodes)


def draw_asked(
    stem: Path,
    policy: str,
    points: AskedAchieved,
    *,
    support: Support | None,
    default_target: float | None,
    color: str = OURS,
    quick: bool = False,
) -> DrawnFigure:
    """Draw achieved against asked return with the diagonal, the data's support and the default target."""
    correlation, count = points.correlation(support)
    title = quick_title(f"{policy}: the return it was asked for, and what it earned", quick=quick)
    within = "within the data's returns" if support is not None else "over all targets"
    told = np.isfinite(correlation) and count >= ENOUGH
    number = f"{correlation:.2f}".replace("-", "−") if told else "none"
    note = f"Spearman's correlation {within}: {number} ({counted(count, 'target')})"
    ends = _ends(points, support, default_target)
    beyond = [float(asked) for asked in points.asked if not ends[0] <= asked <= ends[1]]

    def paint(figure: Figure, axes: Axes) -> None:
        margin = 0.04 * (ends[1] - ends[0]) or 1.0
        limits = ends[0] - margin, ends[1] + margin
        _paint_points(axes, points, ends, color)
        axes.plot(
            limits, limits, color=RANDOM_COLOR, linewidth=1.2, linestyle="--", label="achieved = asked", zorder=1.5
        )
        if support is not None:
            label = "returns in the data" + (f" (central {support.share:.0%})" if support.share < 1 else "")
            axes.axvspan(support.low, support.high, color=SUPPORT_COLOR, alpha=0.22, linewidth=0, label=label)
        if default_target is not None:
            label = f"default target {format_tick(default_target)}"
            axes.axvline(default_target, color=REPORT_COLOR, linewidth=1.4, linestyle=(0, (1, 1.6)), label=label)
        axes.set(xlim=limits, ylim=limits, aspect="equal")
        axes.set_xlabel("asked return per episode (reward units)")
        axes.set_ylabel("achieved return per episode (reward units)")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(nbins=5))
            axis.set_major_formatter(ReturnTicks())
        figure.legend(
            loc="outside lower left", ncols=2, columnspacing=1.2, handlelength=1.6, title=note, alignment="left"
        )
        set_title(figure, title, width=44)

    caption = (
        f"Each point: mean achieved return of {counted(points.episodes, 'episode')} with its 95% interval, for one "
        "asked return. On the dashed diagonal the policy earns exactly what it was asked for. " + note + "."
        + (f" At the edge: asked returns beyond it, {', '.join(map(format_tick, beyond))}." if beyond else "")
        + (" Of fewer than four targets it would say nothing." if count < ENOUGH else "")
    )  # fmt: skip
    paths = write_figure(stem, (5.0, 5.7), paint)
    return DrawnFigure(name=stem.name, title=title, caption=caption, paths=tuple(paths), shows=_shows(policy, points))


FLAT = 0.1
"""What is earned is called the same where it moves by less than this share of what is asked."""


def _shows(policy: str, points: AskedAchieved) -> str:
    means = [estimate.value for estimate in points.achieved]
    low, high = points.asked[[0, -1]]
    if low == high:
        return f"{policy} earned {format_return(means[0])}, asked for {format_tick(low)}."
    if max(means) - min(means) < FLAT * (high - low):
        earned = f"{format_return(min(means))} to {format_return(max(means))} whatever it was asked for"
        return f"{policy} earned {earned} ({format_tick(low)} to {format_tick(high)})."
    ends = f"{format_return(means[0])} asked for {format_tick(low)}, {format_return(means[-1])} asked for"
    return f"{policy} earned {ends} {format_tick(high)}; at most {format_return(max(means))}."


def _paint_points(axes: Axes, points: AskedAchieved, ends: tuple[float, float], color: str) -> None:
    means = np.array([estimate.value for estimate in points.achieved])
    below = means - [estimate.low for estimate in points.achieved]
    above = [estimate.high for estimate in points.achieved] - means
    inside = (points.asked >= ends[0]) & (points.asked <= ends[1])
    axes.errorbar(
        points.asked[inside],
        means[inside],
        # A percentile interval may, for a few skewed episodes, leave its own mean out; a bar cannot be negative.
        yerr=np.maximum([below[inside], above[inside]], 0),
        fmt="o-",
        color=color,
        linewidth=1.0,
        elinewidth=1.8,
        markersize=6,
        markeredgecolor="white",
        label="achieved, 95% interval",
        zorder=3,
    )
    for low, edge in ((True, ends[0]), (False, ends[1])):
        beyond = points.asked < ends[0] if low else points.asked > ends[1]
        if not beyond.any():
            continue
        marker = "<" if low else ">"
        axes.plot([edge] * int(beyond.sum()), means[beyond], marker, color=color, ms=8, mec="white", zorder=3)
        axes.annotate(
            "asked " + ", ".join(map(format_tick, points.asked[beyond])), (edge, means[beyond].max()), xytext=(0, 8),
            textcoords="offset points", ha="left" if low else "right", fontsize=9, color=color, bbox=BACKING, zorder=4,
        )  # fmt: skip


def _ends(points: AskedAchieved, support: Support | None, default_target: float | None) -> tuple[float, float]:
    """Return one range for both axes, so that the diagonal is one: of all points, but for asked returns so far from
    everything else that they would make it a line."""
    ends = [*(estimate.low for estimate in points.achieved), *(e.high for e in points.achieved)]
    ends += np.quantile(points.asked, (0.25, 0.75)).tolist() if support is None else [support.low, support.high]
    if default_target is not None:
        ends.append(default_target)
    low, high = min(ends), max(ends)
    reach = FAR * (high - low)
    near = [float(asked) for asked in points.asked if low - reach <= asked <= high + reach]
    if len(near) == len(points.asked):
        return min([low, *near]), max([high, *near])
    room = 0.1 * (max([high, *near]) - min([low, *near]))  # for the points at an edge to lie beyond the others
    lowest, highest = min([low, *near]) - room, max([high, *near]) + room
    return min(low - (high - low), lowest), max(high + (high - low), highest)
