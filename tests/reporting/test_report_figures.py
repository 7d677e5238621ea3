from __future__ import annotations

import threading
import time
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from foretell.core.errors import CheckpointError
from foretell.reporting import asked, figures
from foretell.reporting.asked import Support, asked_achieved, draw_asked
from foretell.reporting.figures import draw_headline, draw_learning_curve, series
from foretell.reporting.inputs import support_of
from foretell.reporting.style import set_title, spread_labels, write_figure
from foretell.reporting.ticks import ReturnTicks


def _asked(target, seed, start, value):
    keys = {"policy": "p", "algorithm": "decision-transformer", "dataset": "p", "seed": seed, "start": start}
    return {**keys, "target": target, "return": value, "length": 200}


@pytest.fixture
def painted(monkeypatch):
    """The figures that are drawn, kept instead of written."""
    kept = []

    def keep(stem, size, paint):
        figure = Figure(figsize=size, layout="constrained")
        paint(figure, figure.add_subplot())
        kept.append(figure)
        return []

    monkeypatch.setattr(figures, "write_figure", keep)
    monkeypatch.setattr(asked, "write_figure", keep)
    return kept


def _table(random, sac):
    """Return what the headline is drawn from, with two levels that are measured."""
    facts = {"ci95": [-320.0, -280.0], "report": None, "training_seeds": [0]}
    row = {"name": "data", "dataset": "data", "mean_return": -300.0, **facts}
    levels = [{"name": name, "dataset": None, "mean_return": mean} for name, mean in (("random", random), ("sac", sac))]
    return {
        "protocol": {"environment": "Pendulum-v1", "quick": False, "evaluation_starts": 1},
        "rows": [*levels, row],
    }


@pytest.mark.parametrize(("random", "sac"), [(-1200.0, -150.0), (-152.0, -150.0), (-150.0, -152.0), (-150.0, -150.0)])
def test_names_of_levels_that_lie_close_are_beside_each_other(painted, tmp_path, random, sac):
    drawn = draw_headline(tmp_path / "headline", _table(random, sac))
    painted[0].draw_without_rendering()
    names = [text for text in painted[0].axes[0].texts if text.get_text().startswith(("random", "SAC"))]
    first, second = (text.get_window_extent() for text in names)
    assert not first.overlaps(second)
    assert "1 start state and up to 1 training seed," in drawn.caption
    assert "SAC −15" in drawn.shows


def test_levels_are_told_apart_without_colours(painted, tmp_path):
    draw_headline(tmp_path / "headline", _table(-1200.0, -150.0))
    random, sac = painted[0].axes[0].lines[:2]
    assert random._unscaled_dash_pattern != sac._unscaled_dash_pattern


def test_a_curve_of_one_evaluation_is_a_point(painted, tmp_path):
    runs = [[{"event": "evaluation", "update": 10, "mean_return": -200.0}]]
    drawn = draw_learning_curve(tmp_path / "c", "T", runs, random_level=-1200.0, sac_level=-140.0, report=None)
    assert {line.get_marker() for line in painted[0].axes[0].lines[:2]} == {"o"}
    assert drawn.shows == "−200.0 at update 10; SAC earns −140.0, random −1,200.0."
    assert "each of 1 training seed," in drawn.caption


@pytest.mark.parametrize("name", ["W" * 60, "a-name-without-a-gap-" * 6, "a$x$" * 20])
def test_no_title_is_cut_off(name):
    figure = Figure(figsize=(4, 3))
    set_title(figure, f"{name}: what it earned", width=60)
    assert figure._suptitle.get_window_extent().x1 <= figure.bbox.x1


def test_an_asked_return_far_away_does_not_flatten_the_others(painted, tmp_path):
    records = [_asked(t, 0, n, -300.0 + n) for t in (-400.0, -300.0, -200.0, 1e6) for n in range(3)]
    points = asked_achieved(records, "p", samples=50, root_seed=0)
    assert points is not None
    drawn = draw_asked(
        tmp_path / "a", "p", points, support=Support(low=-500, high=-100, share=1.0), default_target=None
    )
    (axes,) = painted[0].axes
    low, high = axes.get_xlim()
    assert high - low < 2_000
    marker = next(line for line in axes.lines if line.get_marker() == ">")
    assert -200 < marker.get_xdata()[0] < high
    assert [text.get_text() for text in axes.texts] == ["asked 1,000,000"]
    assert "asked returns beyond it, 1,000,000." in drawn.caption
    assert drawn.shows == "p earned −299.0 to −299.0 whatever it was asked for (−400 to 1,000,000)."


def test_series_is_ascending_and_keeps_the_later_of_two():
    events = [
        {"event": "evaluation", "update": 20, "mean_return": -3.0},
        {"event": "training", "update": 10, "loss": 1.0},
        {"event": "evaluation", "update": 10, "mean_return": -2.0},
        {"event": "evaluation", "update": 20, "mean_return": -1.0},
    ]
    updates, means = series(events, "evaluation", "update", "mean_return")
    assert updates.tolist() == [10, 20]
    assert means.tolist() == [-2, -1]


def test_labels_are_kept_apart_and_in_order():
    heights = spread_labels([0.0, 0.01, 0.02, 0.5, 0.9], 0.07)
    assert np.diff(heights).min() >= 0.07 - 1e-9
    assert heights[3:] == [0.5, 0.9]
    assert np.mean(heights[:3]) == pytest.approx(0.01)


def test_achieved_for_each_asked_return():
    records = [_asked(t, s, n, t + 10 * s + n) for t in (-200.0, -400.0) for s in (0, 1) for n in (1, 2, 3)]
    points = asked_achieved(records, "p", samples=200, root_seed=0)
    assert points is not None
    assert points.asked.tolist() == [-400, -200]
    assert [estimate.value for estimate in points.achieved] == [-393, -193]
    assert points.episodes == 6
    assert points.correlation(None) == (1.0, 2)
    inside, count = points.correlation(Support(low=-250, high=-100, share=0.9))
    assert np.isnan(inside)
    assert count == 1
    assert asked_achieved(records, "other", samples=200, root_seed=0) is None
    with pytest.raises(CheckpointError, match=r"target -200: policy 'p', seed 1 has no record for start 3"):
        asked_achieved([line for line in records if line != _asked(-200.0, 1, 3, -187.0)], "p", samples=9, root_seed=0)


@pytest.mark.parametrize(
    ("targets", "said"), [(2, "none (2 targets)"), (3, "none (3 targets)"), (4, "1.00 (4 targets)")]
)
def test_of_few_asked_returns_no_correlation_is_printed(targets, said, tmp_path):
    records = [_asked(-100.0 * t, s, n, -100.0 * t + s) for t in range(targets) for s in (0, 1) for n in (1, 2)]
    points = asked_achieved(records, "p", samples=50, root_seed=0)
    assert points is not None
    figure = draw_asked(tmp_path / "asked", "p", points, support=None, default_target=None)
    assert f"Spearman's correlation over all targets: {said}." in figure.caption
    assert ("would say nothing" in figure.caption) == (targets < 4)


def test_support_is_between_the_outermost_quantiles():
    card = {"returns": {"quantiles": {"0.5": -300.0, "0.05": -900.0, "0.95": -100.0}}}
    support = support_of(card)
    assert support is not None
    assert (support.low, support.high, support.share) == (-900, -100, pytest.approx(0.9))
    assert support_of(None) is None
    assert support_of({"returns": {}}) is None


def test_runs_of_different_lengths_share_the_updates_that_all_have(tmp_path):
    runs = [
        [{"event": "evaluation", "update": u, "mean_return": -200.0 + u} for u in range(0, last, 10)]
        for last in (30, 50)
    ]
    drawn = draw_learning_curve(
        tmp_path / "curve", "A title", runs, random_level=-1200.0, sac_level=-140.0, report=-600.0
    )
    assert [path.name for path in drawn.paths] == ["curve.svg", "curve.png"]
    assert ElementTree.parse(drawn.paths[0]).getroot().tag == "{http://www.w3.org/2000/svg}svg"
    assert drawn.paths[1].read_bytes().startswith(b"\x89PNG")
    assert "each of 2 training seeds" in drawn.caption


@pytest.mark.parametrize(("ticks", "labels"), [
    ([-1500.0, -1000.0, -500.0, 0.0], ["−1,500", "−1,000", "−500", "0"]),
    ([0.0, 2.5, 5.0, 10.0], ["0.0", "2.5", "5.0", "10.0"]), ([0.1, 0.2], ["0.1", "0.2"]), ([300.0], ["300"]), ([], []),
    ([-84.0, -83.5, -83.0], ["−84.0", "−83.5", "−83.0"]), ([-152.25, -152.0], ["−152.25", "−152.00"]),
    ([9.98, 10.0, 10.02], ["9.98", "10.00", "10.02"]), ([-1e12, 0.0, 5e11], ["−1.0e12", "0", "0.5e12"]),
    ([1.2e8, 1.2e8 + 200, 1.2e8 + 400], ["1.200000e8", "1.200002e8", "1.200004e8"]),
])  # fmt: skip
def test_ticks_have_the_digits_that_tell_them_apart(ticks, labels):
    assert ReturnTicks().format_ticks(np.asarray(ticks)) == labels


def test_figures_of_two_threads_leave_the_settings_of_figures_as_they_were(tmp_path):
    before = dict(matplotlib.rcParams)

    def paint(figure, axes):
        time.sleep(0.02)
        axes.plot([1, 2])

    threads = [threading.Thread(target=write_figure, args=(tmp_path / f"f{i}", (2, 1), paint)) for i in range(4)]
    for thread in threads:
        thread.start()
        time.sleep(0.01)
    for thread in threads:
        thread.join()
    assert dict(matplotlib.rcParams) == before
    assert len(list(tmp_path.glob("*.png"))) == 4
