from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from foretell.values import behaviour as module
from foretell.values.behaviour import Behaviour, advantage_quantiles, fit_behaviour, quantile_among
from foretell.values.configs import IQLConfig
from foretell.values.functions import ValueFunctions
from reference.learning_by_graph import behaviour_loss
from reference.making import CHOICES, IDENTITY, SequenceShape, make_dataset, scaled

SINGLE = SequenceShape(observation_shape=(3,), action_dim=1, discrete=False, max_timesteps=30)
PAIR = SequenceShape(observation_shape=(3,), action_dim=2, discrete=False, max_timesteps=30)
MIDDLES = (np.arange(9) + 0.5) / 9


class Known(nn.Module):
    """Stands for a network: answers with a function of its inputs, in float64."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, *inputs):
        return self.answer(*(value.double() for value in inputs))


def _functions(shape, q=None):
    """Value functions whose Q is the smaller of `q` and something else, in [-1, 1] or one-hot actions."""
    normalization = IDENTITY if shape.discrete else scaled(shape.action_dim)
    functions = ValueFunctions(IQLConfig(hidden_sizes=(4,)), normalization, 3, shape.action_dim, torch.Generator())
    if q is not None:
        above = Known(
            lambda states, actions: torch.stack([q(states, actions) + (actions[:, 0] > 0), q(states, actions)])
        )
        functions.q = above
    return functions


def _behaviour(shape, answer):
    found = Behaviour(3, shape.action_dim, discrete=shape.discrete, generator=torch.Generator())
    found.network = Known(lambda states: answer(states)[None])
    return found


def _gaussian(mean, deviation):
    def answer(states):
        means = mean(states)
        return torch.cat([means, torch.full_like(means, np.log(deviation))], dim=1)

    return answer


# Where a value stands among others.


@pytest.mark.parametrize(("value", "expected"), [
    (0.0, 0.25 / 3), (1.0, 0.5 / 3), (1.5, 1 / 3), (2.0, 0.5), (2.25, 7 / 12), (3.0, 2.5 / 3), (9.0, 1 - 0.25 / 3),
])  # fmt: skip
@pytest.mark.parametrize("others", [[1.0, 2.0, 3.0], [3.0, 1.0, 2.0]])
def test_quantiles_by_hand(value, others, expected):
    assert quantile_among(torch.tensor([value]), torch.tensor([others])).item() == pytest.approx(expected, abs=1e-6)


def test_among_equals_a_value_stands_between_the_first_and_the_last_of_them():
    others = torch.tensor([[1.0, 2.0, 2.0, 3.0], [7.0, 7.0, 7.0, 7.0]])
    equal = quantile_among(torch.tensor([2.0, 7.0]), others).tolist()
    assert 1.5 / 4 <= equal[0] <= 2.5 / 4
    assert 0.5 / 4 <= equal[1] <= 3.5 / 4
    assert quantile_among(torch.tensor([1.9, 6.0]), others).tolist() == pytest.approx([0.35, 0.25 / 4])
    assert quantile_among(torch.tensor([2.1, 8.0]), others).tolist() == pytest.approx([0.65, 1 - 0.25 / 4])


def _place(value, others):
    """One value: linear between the middles of equal shares; outside, the middle of the half share that is left."""
    count, ordered = len(others), np.sort(others)
    if value < ordered[0]:
        return 0.25 / count
    return 1 - 0.25 / count if value > ordered[-1] else np.interp(value, ordered, (np.arange(count) + 0.5) / count)


@settings(deadline=None, max_examples=60)
@given(values=st.lists(st.integers(-12, 12), min_size=2, max_size=8),
       others=st.lists(st.integers(-10, 10), min_size=1, max_size=9, unique=True))  # fmt: skip
def test_quantiles_rise_with_the_value_and_equal_the_reference(values, others):
    values = np.sort(np.array(values, np.float32)) + 0.25 * (np.arange(len(values)) % 2).astype(np.float32)
    among = torch.tensor(others, dtype=torch.float32).expand(len(values), -1)
    found = quantile_among(torch.from_numpy(values), among).numpy()
    np.testing.assert_allclose(found, [_place(value, np.array(others)) for value in values], atol=1e-5)
    assert (np.diff(found[values.argsort(kind="stable")]) >= 0).all()
    assert (found > 0).all()
    assert (found < 1).all()


# How good the recorded action is among those that the data take.


def _candidates(mean, deviation):
    return np.clip(mean + deviation * np.array([NormalDist().inv_cdf(share) for share in MIDDLES]), -1, 1)


Q_FUNCTIONS = {
    "linear": lambda s, a: 2 * a[:, 0] + s[:, 1],
    "peak": lambda s, a: -((a[:, 0] - s[:, 0]) ** 2),
    "valley": lambda s, a: (a[:, 0] - s[:, 2]) ** 2 * (1 + s[:, 0] ** 2),
}


@pytest.mark.parametrize("name", Q_FUNCTIONS)
@pytest.mark.parametrize("block", [7, 8_192])
def test_one_component_equals_the_slow_reference(name, block, monkeypatch):
    """The mean leaves [-1, 1] in some states: candidates are clipped there, as actions are."""
    monkeypatch.setattr(module, "BLOCK_ROWS", block)
    rng, q = np.random.default_rng(3), Q_FUNCTIONS[name]
    data = make_dataset([20, 30], shape=SINGLE, actions=rng.uniform(-1.9, 1.9, (50, 1)).astype(np.float32))
    behaviour = _behaviour(SINGLE, _gaussian(lambda s: 0.8 * s[:, :1], 0.3))
    told = []
    found = advantage_quantiles(
        _functions(SINGLE, q), behaviour, data, progress=lambda done, total: told.append((done, total))
    )
    states, clipped = torch.from_numpy((data.observations.astype(np.float64) - 1) / 2), 0
    for row, action in enumerate(data.actions[:, 0] / 2):  # torque in [-2, 2]
        candidates = _candidates(0.8 * float(states[row, 0]), 0.3)
        clipped += np.abs(candidates).max() == 1
        values = q(states[row].expand(10, 3), torch.from_numpy(np.append(candidates, action))[:, None]).numpy()
        assert found[row] == pytest.approx(_place(values[-1], values[:-1]), abs=1e-5), row
    assert 5 < clipped < 45
    assert found.dtype == np.float32
    assert told == [(min(end, 50), 50) for end in range(block, 50 + block, block)]


@pytest.mark.parametrize("shape", [SINGLE, PAIR], ids=["one", "two"])
def test_the_best_action_is_near_1_and_the_worst_near_0(shape):
    rng = np.random.default_rng(0)
    observations = rng.normal(size=(60, 3)).astype(np.float32)
    best = np.tile(np.clip(0.4 * (observations[:, :1] - 1) / 2, -0.5, 0.5), shape.action_dim)  # normalised: 1 and 2
    actions = 2 * np.where(np.arange(60)[:, None] % 2, best, -np.sign(best)).astype(np.float32)
    data = make_dataset([60], shape=shape, observations=observations, actions=actions)
    functions = _functions(shape, lambda s, a: -((a - (0.4 * s[:, :1]).clamp(-0.5, 0.5)) ** 2).sum(1))
    behaviour = _behaviour(shape, _gaussian(lambda s: 0 * s[:, : shape.action_dim], 0.4))
    found = advantage_quantiles(functions, behaviour, data)
    np.testing.assert_array_equal(found, advantage_quantiles(functions, behaviour, data))
    np.testing.assert_allclose(found[1::2], 1 - 0.25 / 9, atol=0.06)
    np.testing.assert_allclose(found[::2], 0.25 / 9, atol=1e-6)


def test_actions_of_the_behaviour_have_every_quantile_equally_often():
    rng, count = np.random.default_rng(1), 20_000
    observations = rng.normal(size=(count, 3)).astype(np.float32)
    states = (observations.astype(np.float64) - 1) / 2
    actions = 0.1 * states[:, :1] + 0.15 * rng.normal(size=(count, 1))
    assert np.abs(actions).max() < 1
    data = make_dataset([count], shape=SINGLE, observations=observations, actions=(2 * actions).astype(np.float32))
    behaviour = _behaviour(SINGLE, _gaussian(lambda s: 0.1 * s[:, :1], 0.15))
    found = advantage_quantiles(_functions(SINGLE, Q_FUNCTIONS["linear"]), behaviour, data)
    below = (found[:, None] <= MIDDLES).mean(0)
    assert (np.abs(below - MIDDLES) < 4 * np.sqrt(MIDDLES * (1 - MIDDLES) / count)).all(), below


def test_choices_count_the_probability_of_worse_ones_and_a_drawn_share_of_equal_ones():
    data = make_dataset([4000], shape=CHOICES, actions=np.arange(4000) % 4)
    worth = torch.tensor([1.0, 2.0, 2.0, 0.0], dtype=torch.float64)
    functions = _functions(CHOICES, lambda s, a: a @ worth)
    likely = torch.tensor([0.5, 0.125, 0.25, 0.125], dtype=torch.float64)
    behaviour = _behaviour(CHOICES, lambda s: likely.log().expand(len(s), 4) + s[:, :1])  # a shift changes nothing
    found = advantage_quantiles(functions, behaviour, data)
    for choice, (least, most) in enumerate([(0.125, 0.625), (0.625, 1.0), (0.625, 1.0), (0.0, 0.125)]):
        mine, middle = np.sort(found[choice::4]), (least + most) / 2
        assert least <= mine[0] < least + 0.05 * (most - least)
        assert most - 0.05 * (most - least) < mine[-1] <= most
        assert mine.mean() == pytest.approx(middle, abs=0.05 * (most - least))
    assert not np.array_equal(found, advantage_quantiles(functions, behaviour, data, seed=1))


@pytest.mark.parametrize("likely", [[0.5, 0.5], [0.02, 0.98], [0.97, 0.03]])
def test_what_is_asked_for_is_told_the_better_choice_however_often_it_is_taken(likely):
    """98 in 100 timesteps are told less, and 2 are told more: the better choice's, as long as it is taken at all."""
    shape = SequenceShape(observation_shape=(3,), action_dim=2, discrete=True, max_timesteps=30)
    taken = (np.random.default_rng(0).random(20_000) < likely[1]).astype(np.int64)
    data = make_dataset([20_000], shape=shape, actions=taken)
    functions = _functions(shape, lambda s, a: a @ torch.tensor([1.0, 0.0], dtype=torch.float64))
    logits = torch.tensor(likely, dtype=torch.float64).log()
    found = advantage_quantiles(functions, _behaviour(shape, lambda s: logits.expand(len(s), 2)), data)
    assert np.quantile(found, [0.1, 0.5, 0.9]).tolist() == pytest.approx([0.1, 0.5, 0.9], abs=0.02)
    assert (found >= 0.975).sum() > 200
    assert set(taken[found >= 0.982]) == {0}


@settings(deadline=None, max_examples=30)
@given(worth=st.lists(st.integers(-2, 2), min_size=4, max_size=4), seed=st.integers(0, 99))
def test_the_mean_quantile_of_the_behaviours_choices_is_one_half(worth, seed):
    logits = torch.from_numpy(np.random.default_rng(seed).normal(size=4))
    functions = _functions(CHOICES, lambda s, a: a @ torch.tensor(worth, dtype=torch.float64))
    data = make_dataset([8000], shape=CHOICES, actions=np.arange(8000) % 4)
    found = advantage_quantiles(functions, _behaviour(CHOICES, lambda s: logits.expand(len(s), 4)), data)
    means = torch.from_numpy(found.reshape(-1, 4)).double().mean(0)
    assert float(logits.softmax(0) @ means) == pytest.approx(0.5, abs=0.02)


# What the data do.


def test_the_loss_is_the_likelihood_of_a_gaussian_or_of_choices():
    states = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    actions = torch.rand(5, 2, generator=torch.Generator().manual_seed(1)) * 2 - 1
    logs = torch.tensor([-9.0, 3.0], dtype=torch.float64)  # clamped to -4 and 1
    gaussian = _behaviour(PAIR, lambda s: torch.cat([s[:, :2], logs.expand(len(s), 2)], dim=1))
    away = (actions.double() - states[:, :2].double()).numpy()
    expected = (0.5 * (away / np.exp([-4, 1])) ** 2 + [-4, 1]).sum(1).mean()
    assert behaviour_loss(gaussian, gaussian.network(states), actions).item() == pytest.approx(expected, rel=1e-6)
    chosen = [0, 3, 1, 1, 2]
    logits = torch.randn(5, 4, generator=torch.Generator().manual_seed(2)).double()
    likely = np.exp(logits.numpy()) / np.exp(logits.numpy()).sum(1, keepdims=True)
    choosing = _behaviour(CHOICES, lambda s: logits)
    found = behaviour_loss(choosing, choosing.network(states), torch.eye(4)[chosen])
    assert found.item() == pytest.approx(-np.log(likely[np.arange(5), chosen]).mean(), rel=1e-6)


def test_a_gaussian_that_depends_on_the_state_is_learned(monkeypatch):
    monkeypatch.setattr(module, "UPDATES", 400)
    rng, count = np.random.default_rng(0), 4_000
    states = rng.normal(size=(count, 3))
    actions = 0.5 * np.tanh(states[:, :1]) + np.where(states[:, 1:2] > 0, 0.3, 0.1) * rng.normal(size=(count, 1))
    data = make_dataset([count], shape=SINGLE, observations=(2 * states + 1).astype(np.float32),
                        actions=(2 * actions).astype(np.float32))  # fmt: skip
    found = fit_behaviour(_functions(SINGLE), data, 0)
    for side, deviation in ((1.5, 0.3), (-1.5, 0.1)):
        probe = torch.tensor([[x, side, 0.0] for x in (-1.0, 0.0, 1.0)])
        mean, log_std = found.gaussian(probe)
        np.testing.assert_allclose(mean[:, 0], 0.5 * np.tanh([-1, 0, 1]), atol=0.08)
        np.testing.assert_allclose(log_std.exp()[:, 0], deviation, rtol=0.25)


def test_choices_are_learned_as_often_as_the_data_take_them(monkeypatch):
    monkeypatch.setattr(module, "UPDATES", 200)
    rng, count = np.random.default_rng(0), 3_000
    observations = rng.normal(size=(count, 3)).astype(np.float32)
    usual = np.where(observations[:, 0] > 0, 1, 3)
    actions = np.where(rng.uniform(size=count) < 0.7, usual, rng.integers(4, size=count))
    found = fit_behaviour(_functions(CHOICES), make_dataset([count], shape=CHOICES, observations=observations,
                                                            actions=actions), 0)  # fmt: skip
    likely = found.network(torch.tensor([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]]))[0].softmax(1).numpy()
    np.testing.assert_allclose(likely, [[0.075, 0.775, 0.075, 0.075], [0.075, 0.075, 0.075, 0.775]], atol=0.06)


def test_the_data_and_the_seed_and_nothing_else_decide(monkeypatch):
    monkeypatch.setattr(module, "UPDATES", 4)
    found = []
    for number, (seed, data_seed) in enumerate([(0, 0), (0, 0), (1, 0), (0, 1)]):
        torch.manual_seed(number)
        fitted = fit_behaviour(_functions(SINGLE), make_dataset([30], shape=SINGLE, seed=data_seed), seed)
        assert not any(parameter.requires_grad for parameter in fitted.parameters())
        found.append(torch.cat([value.flatten() for value in fitted.state_dict().values()]))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[3])
    monkeypatch.setattr(module, "derive_seed", lambda *_: 0)  # the same start: the rows that are drawn differ as well
    one, other = (
        fit_behaviour(_functions(SINGLE), make_dataset([30], shape=SINGLE), seed).state_dict() for seed in (0, 1)
    )
    assert not torch.equal(one["network.weights.0"], other["network.weights.0"])
    assert not torch.equal(found[0], found[2])


@pytest.mark.parametrize("mean", [1.0, 1.3])
def test_actions_at_the_bound_have_the_mean_quantile_of_one_half(mean):
    rng, count = np.random.default_rng(1), 4_000
    actions = np.clip(mean + 0.25 * rng.normal(size=(count, 1)), -1, 1)
    data = make_dataset([count], shape=SINGLE, actions=(2 * actions).astype(np.float32))
    behaviour = _behaviour(SINGLE, _gaussian(lambda s: 0 * s[:, :1] + mean, 0.25))
    found = advantage_quantiles(_functions(SINGLE, Q_FUNCTIONS["linear"]), behaviour, data)
    assert found.mean() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("shape", [SINGLE, PAIR, CHOICES], ids=["one", "two", "choices"])
def test_slopes_are_those_of_the_loss(shape):
    count, generator = 40, torch.Generator().manual_seed(0)
    behaviour = Behaviour(3, shape.action_dim, discrete=shape.discrete, generator=generator)
    outputs = 4 * torch.randn(1, count, shape.action_dim * (1 if shape.discrete else 2), generator=generator)
    actions = 2 * torch.rand(count, shape.action_dim, generator=generator) - 1
    if shape.discrete:
        actions = nn.functional.one_hot(actions.argmax(1), shape.action_dim).float()
    else:  # inside, on and outside of the range of deviations
        outputs[0, :5, -1] = torch.tensor([-4.0, 1.0, -9.0, 3.0, 0.0])
    leaf = outputs.clone().requires_grad_()
    (expected,) = torch.autograd.grad(behaviour_loss(behaviour, leaf, actions), leaf)
    torch.testing.assert_close(behaviour.slopes_of(outputs, actions), expected, rtol=1e-5, atol=1e-7)
