"""The Trajectory Transformer: against a slow reference, what sees what, ends of episodes, bins of the data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from conformance.checks import notices
from foretell.models.trajectory_transformer import TrajectoryTransformer
from foretell.sequences.normalization import Normalization
from foretell.sequences.scaling import ActionRange
from foretell.sequences.windows import WindowSampler
from reference.making import SHAPES, VECTOR, make_dataset, random_batch, scaled, small_model
from reference.trajectory import (
    FRONTS,
    WEIGHTS,
    encode_slowly,
    ended,
    front_of,
    goal_of,
    logits_slowly,
    loss_slowly,
    probabilities,
    timesteps_of,
    toward,
    trajectory_model,
)

kinds = pytest.mark.parametrize("kind", SHAPES)
# The loss.


@kinds
@pytest.mark.parametrize("front", FRONTS, ids=" ".join)
@pytest.mark.parametrize("smoothing", [{}, {"smoothing": 0.7}, {"table_smoothing": 0.9}], ids=" ".join)
@torch.no_grad()
def test_the_loss_is_that_of_the_slow_reference(kind, front, smoothing):
    """Padding, terminations at the end of full and of padded windows, weights, fronts; a row at a time and together."""
    model = trajectory_model(kind, **front, **smoothing)
    batch = ended(random_batch(SHAPES[kind], real=(4, 4, 2, 1), padding_seed=4), 1, 2)
    batch = toward(batch) if "goals" in front else batch
    assert float(model.loss(batch)) == pytest.approx(loss_slowly(model, batch), rel=1e-5)


@torch.no_grad()
def test_the_loss_of_one_dimension_by_hand():
    """Every logit 0 but that of symbol 0 of the rewards, log 3: weights 5, 2, 0.5, 1 over log 10, log 4, log 10, ..."""
    shape = replace(VECTOR, observation_shape=(1,), action_dim=1)
    model = small_model("trajectory-transformer", shape, **WEIGHTS)
    model.norm.weight.zero_()
    model.norm.bias.copy_(torch.eye(16)[0])
    model.heads.zero_()
    model.heads[2, 0, 0] = np.log(3.0)
    batch = replace(random_batch(shape, real=(2,), time=2), rewards=torch.tensor([[-5.0, 5.0]]))
    ten, rewards = np.log(10), 2 * (np.log(4) + np.log(12))  # ten symbols: nine bins and the end
    expected = (5 * ten + 0.5 * ten + ten + 5 * ten + 0.5 * ten + rewards) / (5 + 2 + 0.5 + 1 + 5 + 2 + 0.5)
    assert float(model.loss(batch)) == pytest.approx(expected, rel=1e-6)


@torch.no_grad()
def check_terminations():
    """A window that ends for good makes room for a timestep of `stop`, a truncated one does not."""
    model = trajectory_model()
    batch = random_batch(real=(4, 3))
    assert timesteps_of(model, ended(batch, 0, 1), 0)[3] == [model.stop] * model.slots
    assert len(timesteps_of(model, ended(batch, 0, 1), 1)) == 4  # one timestep less of padding
    assert float(model.loss(ended(batch, 0, 1))) == pytest.approx(loss_slowly(model, ended(batch, 0, 1)), rel=1e-5)
    first = replace(batch, observations=batch.observations.clone())
    first.observations[0, 0] += 3.0
    np.testing.assert_allclose(float(model.loss(ended(first, 0))), float(model.loss(ended(batch, 0))), rtol=1e-6)
    assert abs(float(model.loss(first)) - float(model.loss(batch))) > 1e-3


def test_terminations_move_the_window_and_are_learned():
    check_terminations()


def test_ends_that_are_not_learned_or_not_moved_are_noticed(monkeypatch):
    monkeypatch.setattr(TrajectoryTransformer, "_with_ends", lambda self, symbols, batch: (symbols, batch))
    notices(check_terminations)

    def overwritten(self, symbols, batch):
        gone = batch.terminations[:, -1:] & (torch.arange(batch.mask.shape[1]) == batch.mask.shape[1] - 1)
        return torch.where(gone[..., None], self.stop, symbols), batch

    monkeypatch.setattr(TrajectoryTransformer, "_with_ends", overwritten)
    notices(check_terminations)


@torch.no_grad()
def test_the_end_is_learned_from_terminations_alone():
    """Trained on windows that end for good, the end is what comes; the same cut by a time limit does not say so."""
    likely = []
    for terminal in (True, False):
        model = trajectory_model(seed=1, spread=0.0)
        batch = random_batch(real=(3, 4, 4, 2), seed=2)
        batch = ended(batch, 0, 1, 2, 3) if terminal else batch
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        for _ in range(40):
            with torch.enable_grad():
                optimizer.zero_grad()
                model.loss(batch).backward()
            optimizer.step()
        symbols = model.symbols(batch)[1:2, 1:]
        after = model.logits(symbols, torch.ones(1, 3, dtype=torch.bool))[0, -1]
        likely.append(float(after.softmax(-1)[model.stop]))
    assert likely[0] > 0.9
    assert likely[1] < 0.1


@kinds
@torch.no_grad()
def test_smoothed_targets_are_spread_over_numbers_alone(kind):
    """The choices of a discrete action are no numbers: none is near another, and none is spread to where none is."""
    model, plain = trajectory_model(kind, smoothing=0.7), trajectory_model(kind)
    assert all(torch.equal(value, plain.state_dict()[name]) for name, value in model.state_dict().items())
    batch = random_batch(SHAPES[kind])
    assert float(model.loss(batch)) == pytest.approx(loss_slowly(model, batch), rel=1e-5)
    assert abs(float(model.loss(batch)) - float(plain.loss(batch))) > 1e-3
    few = small_model("trajectory-transformer", SHAPES[kind], bins=3, smoothing=0.7)  # fewer numbers than choices
    assert float(few.loss(batch)) == pytest.approx(loss_slowly(few, batch), rel=1e-5)
    actions = {"bins": 3, "action_weight": 1e6, "smoothing": 2.0}  # nothing but the action counts
    model = small_model("trajectory-transformer", SHAPES[kind], **actions)
    same = small_model("trajectory-transformer", SHAPES[kind], **{**actions, "smoothing": 0.0})
    equal = float(model.loss(batch)) == pytest.approx(float(same.loss(batch)), rel=1e-4)
    assert equal == SHAPES[kind].discrete


# Logits: what sees what.


@kinds
@pytest.mark.parametrize("front", FRONTS, ids=" ".join)
@torch.no_grad()
def test_logits_are_those_of_the_slow_reference(kind, front):
    """Positions count from the window's first real timestep, wherever padding puts it."""
    model = trajectory_model(kind, **front)
    batch = random_batch(SHAPES[kind], real=(4, 3, 1), padding_seed=4)
    batch = toward(batch) if "goals" in front else batch
    symbols = model.symbols(batch)
    before = model.front(batch)
    found = model.logits(symbols, batch.mask, front=before).numpy()
    for row, count in enumerate((4, 3, 1)):
        tokens = [symbol for timestep in timesteps_of(model, batch, row) for symbol in timestep]
        assert tokens == symbols[row, 4 - count :].flatten().tolist()
        expected = logits_slowly(model, tokens, front_of(model, batch, row))
        np.testing.assert_allclose(found[row, -len(tokens) :], expected, atol=1e-5, rtol=1e-5)
        only = model.logits(symbols, batch.mask, front=before, only=4 * model.slots - 3).numpy()[row, 0]
        np.testing.assert_allclose(only, expected[-3], atol=1e-5, rtol=1e-5)


@kinds
@torch.no_grad()
def test_answers_are_means_after_the_likeliest_symbols(kind):
    """Of every timestep, by the reference: the mean number of each dimension; or the logits of the choices."""
    model = trajectory_model(kind)
    batch = random_batch(SHAPES[kind], real=(4, 2), padding_seed=4)
    found, last = model(batch), model(batch, last_only=True)
    torch.testing.assert_close(last[:, 0], found[:, -1], atol=1e-6, rtol=0)
    for row, count in enumerate((4, 2)):
        timesteps = timesteps_of(model, batch, row)
        for t in range(count):
            tokens = [symbol for timestep in timesteps[:t] for symbol in timestep] + timesteps[t][:3]
            expected = []
            for slot in range(3, 3 + model.action_slots):
                logits = logits_slowly(model, tokens)[-1]
                expected.append(probabilities(logits[:9]) @ model.discretizer.centers[slot].double().numpy())
                tokens.append(int(logits[:9].argmax()))
            expected = logits_slowly(model, tokens[:-1])[-1][:4] if SHAPES[kind].discrete else expected
            np.testing.assert_allclose(found[row, 4 - count + t].numpy(), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_every_slot_has_a_head_of_its_own():
    model = trajectory_model()
    symbols, mask = model.symbols(random_batch(real=(4, 4))), torch.ones(2, 4, dtype=torch.bool)
    before = model.logits(symbols, mask)
    model.heads[[1, 4]] = model.heads[[4, 1]]
    distance = (model.logits(symbols, mask) - before).abs().amax((0, 2))
    predicts = (torch.arange(4 * model.slots) + 1) % model.slots
    swapped = (predicts == 1) | (predicts == 4)
    assert float(distance[~swapped].max()) == 0.0
    assert float(distance[swapped].min()) > 1e-2


@torch.no_grad()
def test_goals_are_seen_by_every_token():
    model = trajectory_model(goals=True)
    batch = toward(random_batch(real=(4, 2), padding_seed=1))
    symbols = model.symbols(batch)
    front, others = model.front(batch), model.front(toward(batch, seed=4))
    assert model.goal_symbols(batch.goals).tolist() == [goal_of(model, batch, row) for row in (0, 1)]
    found = model.logits(symbols, batch.mask, front=front)
    distance = (model.logits(symbols, batch.mask, front=others) - found).abs().amax(-1)
    assert float(distance[0].min()) > 1e-3
    assert float(distance[1, 2 * model.slots :].min()) > 1e-3
    assert float((model.loss(toward(batch, seed=4)) - model.loss(batch)).abs()) > 1e-3
    assert float((model(toward(batch, seed=4)) - model(batch))[batch.mask].abs().max()) > 1e-3
    untold = trajectory_model()
    assert float(untold.loss(batch)) == float(untold.loss(replace(batch, goals=None)))


# Data.


def test_bins_are_those_of_the_data():
    """Columns as the networks read them: observations, actions, rewards, what is told."""
    data = make_dataset([30, 20, 50])
    told = np.random.default_rng(1).normal(size=100).astype(np.float32)
    model = small_model("trajectory-transformer")
    model.prepare(WindowSampler(data, scaled(), context_length=4, seed=0, told=told))
    columns = np.hstack([(data.observations - 1) / 2, data.actions / 2, data.rewards[:, None], told[:, None]])
    np.testing.assert_allclose(
        model.discretizer.edges, np.quantile(columns, np.linspace(0, 1, 10), axis=0).T, atol=1e-5
    )
    evenly = small_model("trajectory-transformer", binning="uniform")
    evenly.prepare(WindowSampler(data, scaled(), context_length=4, seed=0, told=told))
    expected = np.linspace(columns.min(0), columns.max(0), 10).T
    np.testing.assert_allclose(evenly.discretizer.edges, expected, atol=1e-5)
    assert "discretizer.edges" in model.state_dict()
    batch = WindowSampler(data, scaled(), context_length=1, seed=0, told=told).windows(np.array([7]))
    assert model.symbols(batch)[0, 0].tolist() == [
        encode_slowly(edges, value) for edges, value in zip(model.discretizer.edges.numpy(), np.float32(columns[7]))
    ]


def test_real_episodes_are_likelier_than_shuffled_ones(pendulum_random):
    """Trained on eight episodes of random actions; of two others, nine windows in ten, and by half a nat a symbol."""
    shape = replace(VECTOR, action_dim=1, max_timesteps=200)
    model = small_model(
        "trajectory-transformer", shape, spread=0.0, context_length=5, width=32, bins=24, return_weight=0.0
    )
    limits = ActionRange(low=(-2.0,), high=(2.0,))
    normalization = Normalization.fit(pendulum_random, limits)
    sampler = WindowSampler(pendulum_random, normalization, context_length=5, seed=0, eligible=np.arange(1600))
    model.prepare(sampler)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for update in range(150):
        optimizer.zero_grad()
        model.loss(sampler.batch(update, 32)).backward()
        optimizer.step()
    rng = np.random.default_rng(0)
    order = np.concatenate([start + rng.permutation(200) for start in (1600, 1800)]) - 1600
    columns = {
        name: np.concatenate(
            [
                np.asarray(getattr(pendulum_random, name))[:1600],
                np.asarray(getattr(pendulum_random, name))[1600:][order],
            ]
        )
        for name in ("observations", "actions", "rewards")
    }
    shuffled = WindowSampler(
        replace(pendulum_random, **columns, next_observations=None), normalization, context_length=5, seed=0
    )
    rows = np.concatenate([np.arange(1604, 1800, 5), np.arange(1804, 2000, 5)])
    with torch.no_grad():
        real, other = (
            np.array([float(model.loss(found.windows(np.array([row])))) for row in rows])
            for found in (sampler, shuffled)
        )
    assert (real < other).mean() > 0.9
    assert other.mean() - real.mean() > 0.5
