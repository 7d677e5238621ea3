from __future__ import annotations

import threading
import time
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest

from foretell.core.errors import CheckpointError
from foretell.reporting.asked import Support, asked_achieved, draw_asked
from foretell.reporting.figures import draw_learning_curve, series
from foretell.reporting.inputs import support_of
from foretell.reporting.style import ReturnTicks, spread_labels, write_figure


def _asked(target, seed, start, value):
    keys = {"policy": "p", "algorithm": "decision-transformer", "dataset": "p", "seed": seed, "start": start}
    return {**keys, "target": target, "return": value, "length": 200}


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
    ([0.0, 2.5, 5.0, 10.0], ["0", "2.5", "5", "10"]), ([0.1, 0.2], ["0.1", "0.2"]), ([300.0], ["300"]), ([], []),
    ([-84.0, -83.5, -83.0], ["−84.0", "−83.5", "−83.0"]), ([-152.25, -152.0], ["−152.25", "−152.00"]),
    ([9.98, 10.0, 10.02], ["9.98", "10.00", "10.02"]),
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
