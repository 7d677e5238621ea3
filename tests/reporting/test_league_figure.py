from __future__ import annotations

import pytest
from league_helpers import (
    CARDS,
    MEDIUM_DATA,
    RANDOM_DATA,
    RETURNS,
    make_experiment,
    make_plan,
    make_records,
    without_medium_bc,
)
from matplotlib.figure import Figure
from matplotlib.text import Text

from foretell.reporting import league_figure
from foretell.reporting.league_table import build_league


@pytest.fixture
def drawn(monkeypatch):
    """What the painters draw, kept instead of written."""
    figures = []

    def keep(stem, size, paint):
        figure = Figure(figsize=size, layout="constrained")
        paint(figure, figure.add_subplot())
        figures.append(figure)
        return []

    monkeypatch.setattr(league_figure, "write_figure", keep)
    return figures


def test_figure_of_returns_shows_every_method_and_level(drawn, tmp_path):
    records, experiment = without_medium_bc()
    league_figure.draw_league(tmp_path / "league", build_league(records, experiment, CARDS))
    random, medium = drawn[0].axes
    assert [panel.get_title("left") for panel in (random, medium)] == [RANDOM_DATA, MEDIUM_DATA]
    assert [label.get_text() for label in medium.get_yticklabels()] == [
        "Decision Transformer", "Cloning | all", "the data themselves",
    ]  # fmt: skip
    assert [(text.get_text(), text.get_fontweight()) for text in random.texts] == [
        ("−1,100.0", "bold"), ("−1,250.0", "normal"), ("—", "normal"),
    ]  # fmt: skip
    assert [text.get_text() for text in medium.texts] == ["−220.0", "—", "−250.0"]
    points = [line.get_xdata()[0] for line in medium.lines if line.get_marker() in ("o", "D")]
    assert points == [-220.0, -250.0]
    legend = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert legend == ["random policy −1,100.0", "SAC agent −200.0", "optimum −180.0"]


def test_figure_of_regrets_is_their_distribution(drawn, tmp_path):
    league_figure.draw_regret(tmp_path / "league-regret", build_league(make_records(), make_experiment(), CARDS))
    lines = {line.get_label(): line for line in drawn[0].axes[1].lines}
    assert list(lines) == ["random policy", "SAC agent", "Decision Transformer", "Cloning | all"]
    assert lines["Decision Transformer"].get_xdata().tolist() == [30.0, 30.0, 40.0, 50.0]
    assert lines["Decision Transformer"].get_ydata().tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert lines["Cloning | all"].get_xdata().tolist() == [-0.5, -0.5, 0.0, 0.5]
    assert lines["SAC agent"].get_xdata().tolist() == [10.0, 10.0, 20.0, 30.0]


@pytest.mark.parametrize("draw", [league_figure.draw_league, league_figure.draw_regret])
def test_no_label_is_cut_off_or_written_over_another(drawn, tmp_path, draw):
    plan, returns = make_plan(), dict(RETURNS)
    for number in range(8):  # as many methods as it takes for colours to come again
        name, label = f"m{number}", f"Implicit Q-learning number {number}, a name of two lines"
        plan["methods"].append({"name": name, "label": label, "algorithm": "iql", "condition": None})
        plan["entries"].append({"policy": name, "method": name, "dataset": MEDIUM_DATA})
        returns |= {(name, seed): [value - number for value in RETURNS["sac", 0]] for seed in (0, 1)}
    draw(tmp_path / "figure", build_league(make_records(returns), make_experiment(plan=plan), CARDS))
    figure = drawn[0]
    figure.draw_without_rendering()
    texts = [*figure.texts, *figure.legends[0].get_texts()]
    for panel in figure.axes:
        texts += [child for child in panel.get_children() if isinstance(child, Text)]  # titles and what was written
        texts += [panel.xaxis.label, panel.yaxis.label, *panel.get_yticklabels()]
    boxes = [text.get_window_extent() for text in texts if text.get_text()]
    assert len(boxes) > 20
    for box in boxes:
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.bbox.y1
    assert [box for n, box in enumerate(boxes) if box.count_overlaps(boxes[:n])] == []
    looks = [(line.get_color(), line.get_linestyle(), line.get_marker()) for line in figure.axes[1].lines]
    if draw is league_figure.draw_regret:
        assert len(set(looks)) == len(looks) == 12
