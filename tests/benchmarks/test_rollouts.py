"""Rollouts: both models go on from their own predictions, under the recorded actions, where nobody has trained."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from benchmarks.measuring import Options
from benchmarks.rollout_figure import ErrorCurves, Trajectories
from matplotlib.figure import Figure

from benchmarks import rollout_figure, rollouts
from foretell.sequences.discretization import Discretizer
from reference.making import VECTOR, make_dataset, random_batch, small_model

ONE_TORQUE = replace(VECTOR, action_dim=1)


def test_the_error_is_the_mean_distance_after_each_timestep():
    real = torch.zeros(2, 2, 2)
    predicted = torch.tensor([[[3.0, 4.0], [0.0, 0.0]], [[0.0, 1.0], [0.0, 2.0]]])
    assert rollouts.rollout_errors(predicted, real).tolist() == [3.0, 1.0]


def test_starts_lie_in_episodes_that_are_not_trained_on():
    data = make_dataset([30] * 20, shape=ONE_TORQUE)
    sampler, held_out = rollouts.split(data, 2, 4, 5)
    assert sampler.num_steps == 18 * 30
    normalized = sampler.normalization.observations(data.observations[:, :2])
    assert held_out.past.observations.shape == (2, 4, 2)
    for start in range(2):
        newest = held_out.past.observations[start, -1].numpy()
        (row,) = np.flatnonzero((np.abs(normalized - newest) < 1e-6).all(1))
        assert row % 30 >= 9
        assert row >= 18 * 30
        assert np.allclose(held_out.real[start], normalized[row + 1 : row + 6], atol=1e-6)
        assert np.allclose(held_out.actions[start] * 2, data.actions[row : row + 5], atol=1e-6)
        assert row // 30 == (row + 5) // 30
    assert bool(held_out.past.mask.all())
    assert float(held_out.past.rewards.abs().max()) == 0.0


def test_an_episode_without_room_is_left_out():
    _, held_out = rollouts.split(make_dataset([30] * 18 + [15, 30], shape=ONE_TORQUE), 3, 4, 5)
    assert len(held_out.real) == 1


def test_the_single_step_model_goes_on_from_its_own_predictions(monkeypatch):
    single = rollouts.SingleStep(ONE_TORQUE, torch.Generator().manual_seed(0))
    single.scale.copy_(torch.tensor([1.0, 2.0, 1.0]))
    monkeypatch.setattr(single, "forward", lambda observations, actions: (observations * 0 + actions, None))
    past, actions = random_batch(ONE_TORQUE, real=(3,), time=3), torch.tensor([[[0.5], [-1.0], [2.0]]])
    last, found = past.observations[:, -1], single.foretell(past, actions)
    for step, moved in enumerate((0.5, -0.5, 1.5)):
        assert torch.allclose(found[:, step], last + moved * single.scale, atol=1e-6)
    bins = Discretizer(6, 8)  # from -1 to 1: a quarter each
    rounded = single.foretell(past, actions, bins)
    expected = bins.centers[0][bins.encode(torch.cat([last + 0.5 * single.scale, torch.zeros(1, 3)], 1))[:, :3]]
    assert torch.allclose(rounded[:, 0], expected)


def test_the_single_step_model_learns_by_its_likelihood():
    single = rollouts.SingleStep(ONE_TORQUE, torch.Generator().manual_seed(0))
    batch = random_batch(ONE_TORQUE, real=(4, 2), time=4)
    mean, log_variance = single(batch.observations, batch.actions)
    errors = []
    for row, first in ((0, 0), (1, 2)):
        for step in range(first, 3):
            change = batch.observations[row, step + 1] - batch.observations[row, step]
            normal = torch.distributions.Normal(mean[row, step], (0.5 * log_variance[row, step]).exp())
            errors.append(-normal.log_prob(change).mean() - 0.5 * np.log(2 * np.pi))
    assert float(single.loss(batch).detach()) == pytest.approx(float(torch.stack(errors).detach().mean()), rel=1e-5)


def test_symbols_are_foretold_one_by_one_and_the_window_slides():
    """As a slow version has it, which reads the whole window anew for every symbol."""
    model = small_model("trajectory-transformer", ONE_TORQUE, context_length=3, bins=7)
    past = random_batch(ONE_TORQUE, real=(3, 3), time=3)
    actions = torch.rand(2, 5, 1, generator=torch.Generator().manual_seed(1)) * 2 - 1
    symbols, expected = model.symbols(past), []
    with torch.inference_mode():
        for step in range(5):
            columns = torch.zeros(2, 6)
            columns[:, 3] = actions[:, step, 0]
            symbols[:, -1, 3] = model.discretizer.encode(columns)[:, 3]
            symbols = torch.cat([symbols[:, -2:], torch.zeros(2, 1, 6, dtype=torch.long)], 1)
            for timestep, slot in ((1, 4), (1, 5), (2, 0), (2, 1), (2, 2)):
                mask = torch.ones(2, 3, dtype=torch.bool)
                logits = model.logits(symbols, mask)[:, timestep * 6 + slot - 1, : model.config.bins]
                symbols[:, timestep, slot] = logits.argmax(-1)
            expected.append(model.numbers(symbols[:, -1, :3], 0))
    assert torch.allclose(rollouts.foretell(model, past, actions), torch.stack(expected, 1))


def test_rows_compare_and_figures_are_drawn(tmp_path):
    found = list(rollouts.rows(Options(quick=True), figures=tmp_path))
    assert [row.name for row in found] == ["whole observation", "without the velocity"]
    for row in found:
        assert row.holds == (row.ours <= 0.5 * row.peer)
        assert row.ratio == pytest.approx(row.peer / row.ours)
        assert row.ours == row.extra["errors"][rollouts.TRANSFORMER]["20"]
        assert row.peer == row.extra["errors"][rollouts.SINGLE]["20"]
        assert set(row.extra["errors"][rollouts.CONSTANT]) == {"1", "5", "10", "20"}
    names = ("rollout-errors", "rollout-trajectories")
    assert {path.name for path in tmp_path.iterdir()} == {name + end for name in names for end in (".png", ".svg")}


@pytest.fixture
def drawn(monkeypatch):
    figures = []

    def keep(stem, size, paint):
        figure = Figure(figsize=size, layout="constrained")
        paint(figure, figure.add_subplot())
        figures.append(figure)
        return []

    monkeypatch.setattr(rollout_figure, "write_figure", keep)
    return figures


def test_the_figure_of_errors_has_a_line_for_every_model(drawn, tmp_path):
    curves = ErrorCurves(title="whole", errors={"ours": np.array([0.1, 0.4]), "theirs": np.array([0.2, 0.3])})
    found = rollout_figure.draw_rollout_errors(tmp_path / "e", "Errors", [curves, curves], at=2, starts=7)
    left, right = drawn[0].axes
    lines = {line.get_label(): line for line in right.lines}
    assert lines["theirs"].get_xydata().tolist() == [[1, 0.2], [2, 0.3]]
    assert [line.get_xdata()[0] for line in left.lines][-1] == 2
    assert [text.get_text() for text in drawn[0].legends[0].get_texts()] == ["ours", "theirs"]
    assert "7 starts" in found.caption


def test_the_figure_of_trajectories_has_a_row_for_every_number(drawn, tmp_path):
    whole = Trajectories(
        title="whole", names=("x", "v"), real=np.array([[1.0, 2.0], [3.0, 4.0]]),
        predicted={"ours": np.array([[1.5, 2.5], [3.5, 4.5]])},
    )  # fmt: skip
    part = Trajectories(title="part", names=("x",), real=np.zeros((2, 1)), predicted={"ours": np.ones((2, 1))})
    rollout_figure.draw_rollout_trajectories(tmp_path / "t", "Trajectories", [whole, part])
    x, hidden, v, nothing = drawn[0].axes
    assert [panel.get_ylabel() for panel in (x, hidden, v)] == ["x", "x", "v"]
    assert (nothing.get_visible(), hidden.get_xlabel()) == (False, "predicted timesteps")
    assert [line.get_ydata().tolist() for line in v.lines] == [[2.0, 4.0], [2.5, 4.5]]
