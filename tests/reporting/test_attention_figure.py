"""The figure of attention shows the weights as they are, every layer and head, under the tokens' names."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from foretell.reporting import attention_figure
from foretell.reporting.attention_figure import AttentionPanels, draw_attention, token_names

TOKENS = (("R", 7), ("s", 7), ("a", 7), ("R", 8))


def causal(layers, heads, tokens=TOKENS, name="self-attention"):
    """Weights that differ everywhere, 0 above the diagonal."""
    count = len(tokens)
    weights = np.arange(1.0, layers * heads * count * count + 1).reshape(layers, heads, count, count)
    weights = np.tril(weights)
    return AttentionPanels(name=name, weights=weights / weights.sum(-1, keepdims=True), queries=tokens, keys=tokens)


@pytest.fixture
def drawn(monkeypatch):
    """What is painted, and how large, kept instead of written."""
    figures = []

    def keep(stem, size, paint):
        figure = Figure(figsize=size, layout="constrained")
        paint(figure, figure.add_subplot())
        figures.append((figure, size))
        return []

    monkeypatch.setattr(attention_figure, "write_figure", keep)
    return figures


def labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def test_a_panel_for_every_layer_and_head_with_its_weights(drawn, tmp_path):
    panels = causal(2, 3)
    draw_attention(tmp_path / "attention", "Title", [panels])
    axes = [found for found in drawn[0][0].findobj(match=lambda item: hasattr(item, "images")) if found.images]
    assert [found.get_title() for found in axes] == [f"layer {i}, head {j}" for i in (1, 2) for j in (1, 2, 3)]
    for number, found in enumerate(axes):
        shown, given = np.asarray(found.images[0].get_array()), panels.weights[number // 3, number % 3]
        assert np.array_equal(shown[given > 0], given[given > 0])
        assert (shown[given == 0] < 0).all()  # below the scale: grey
        assert found.images[0].norm.vmax == 1.0


def test_outer_panels_name_the_tokens_and_timesteps_are_told_apart(drawn, tmp_path):
    draw_attention(tmp_path / "attention", "Title", [causal(2, 2)])
    axes = [found for found in drawn[0][0].findobj(match=lambda item: hasattr(item, "images")) if found.images]
    names = ["R 7", "s 7", "a 7", "R 8"]
    assert [labels(found.yaxis) for found in axes] == [names, [], names, []]
    assert [labels(found.xaxis) for found in axes] == [[], [], names, names]
    rows, columns = axes[0].collections
    assert [segment[:, 1].tolist() for segment in rows.get_segments()] == [[2.5, 2.5]]
    assert [segment[:, 0].tolist() for segment in columns.get_segments()] == [[2.5, 2.5]]


def test_what_may_not_be_seen_is_grey_and_the_rest_is_not():
    colors = attention_figure.WEIGHTS(np.array([-1.0, 0.0, 1.0]))
    assert np.allclose(colors[0, :3], 0xDC / 255, atol=1e-6)
    assert np.allclose(colors[1, :3], 1.0)
    assert colors[2, :3].max() < 0.3


def test_several_kinds_stand_below_each_other_by_name(drawn, tmp_path):
    short = AttentionPanels(name="second", weights=np.full((1, 2, 1, 4), 0.25), queries=(("start", None),), keys=TOKENS)
    draw_attention(tmp_path / "attention", "Title", [causal(1, 2, name="first"), short])
    parts = drawn[0][0].subfigs
    assert [part.get_suptitle() for part in parts] == ["first", "second"]
    images = [found for found in parts[1].axes if found.images]
    assert [labels(found.yaxis) for found in images] == [["start"], []]


def test_many_tokens_are_named_by_timestep_and_the_figure_stays_bounded(drawn, tmp_path):
    tokens = tuple((f"s{place}", timestep) for timestep in range(10) for place in range(30))
    draw_attention(tmp_path / "attention", "Title", [causal(1, 4, tokens)])
    figure, (width, height) = drawn[0]
    assert (width, height) < (23, 8)
    axes = [found for found in figure.findobj(match=lambda item: hasattr(item, "images")) if found.images]
    assert labels(axes[0].yaxis) == [f"t = {timestep}" for timestep in range(10)]
    assert token_names(tokens, each=False)[0][:2] == [14.5, 44.5]


@pytest.mark.parametrize(("heads", "tokens"), [(1, TOKENS), (2, TOKENS * 6)])
@pytest.mark.parametrize("dataset", ["pendulum-medium-replay", "minari:mujoco/mmmmmmmm/MEDIUM-WWWWWWWW-v0"])
def test_the_title_is_inside_the_figure(drawn, tmp_path, heads, tokens, dataset):
    title = f"trajectory-transformer of {dataset}: attention in timesteps 97–100"
    draw_attention(tmp_path / "attention", title, [causal(1, heads, tokens)])
    figure = drawn[0][0]
    figure.draw_without_rendering()
    (written,) = [text for text in figure.texts if text.get_text() == figure.get_suptitle()]
    assert written.get_text().replace("\n", "").replace(" ", "") == title.replace(" ", "")
    place, whole = written.get_window_extent(), figure.bbox
    assert 0 <= place.x0 < place.x1 <= whole.x1
    assert place.y1 <= whole.y1
    panels = [found.get_window_extent() for found in figure.findobj(Axes) if found.get_title()]
    assert len(panels) == heads
    assert max(panel.y1 for panel in panels) < place.y0


def test_the_same_weights_give_the_same_bytes(tmp_path):
    first = draw_attention(tmp_path / "a" / "attention", "Title", [causal(1, 1)])
    again = draw_attention(tmp_path / "b" / "attention", "Title", [causal(1, 1)])
    assert [path.suffix for path in first.paths] == [".svg", ".png"]
    for one, other in zip(first.paths, again.paths, strict=True):
        assert one.read_bytes() == other.read_bytes()
