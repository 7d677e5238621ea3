from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conformance.checks import notices
from foretell.core.errors import CheckpointError
from foretell.sequences.normalization import Normalization
from foretell.sequences.targets import Telling
from foretell.sequences.windows import WindowSampler
from foretell.values import asking, quantiles
from foretell.values.quantiles import StateQuantile, fit_state_quantile, pinball_loss, pinball_slopes
from reference.making import IDENTITY, make_dataset, scaled

TELLING = Telling(condition="return", scale=100.0)
UNITS = Normalization(observation_mean=(1.0,), observation_std=(0.5,), return_scale=100.0, action_range=None)
LENGTH = 20


def test_pinball_by_hand():
    differences = torch.tensor([2.0, -2.0, 0.0, 0.5])
    assert pinball_loss(differences, 0.75).tolist() == [1.5, 0.5, 0.0, 0.375]
    assert pinball_loss(differences, 0.5).tolist() == [1.0, 1.0, 0.0, 0.25]


@pytest.mark.parametrize("quantile", [0.25, 0.5, 0.75, 0.98])
def test_slopes_are_those_of_the_loss(quantile):
    differences = torch.tensor([3.0, -3.0, 0.0, 0.5, -1e-6], requires_grad=True)
    (expected,) = torch.autograd.grad(pinball_loss(differences, quantile).sum(), differences)
    torch.testing.assert_close(pinball_slopes(differences.detach(), quantile), expected)


@settings(deadline=None, max_examples=60)
@given(values=st.lists(st.integers(-20, 20), min_size=1, max_size=15), quantile=st.sampled_from([0.25, 0.5, 0.75, 0.9]))
def test_the_best_constant_is_the_empirical_quantile(values, quantile):
    values = np.array(values, np.float64)
    grid = np.arange(-21, 21.5, 0.5)
    differences = torch.from_numpy(values - grid[:, None])
    costs = pinball_loss(differences, quantile).mean(1).numpy()
    found = np.quantile(values, quantile, method="inverted_cdf")
    np.testing.assert_allclose(costs[grid == found], costs.min(), atol=1e-9)
    best = grid[costs < costs.min() + 1e-9]  # no other constant is: less of the data below it, or more above
    assert ((values < best[:, None]).mean(1) <= quantile + 1e-9).all()
    assert ((values <= best[:, None]).mean(1) >= quantile - 1e-9).all()


def _known(states, timesteps, level):
    """Quantile `level` of what the samples below are told, in reward units."""
    return 200 * states - 100 * timesteps / LENGTH + level * 100 * (1 + states)


def _sampled(steps=2_400, seed=0):
    """States in [0, 2], and told what lies evenly from `_known(..., 0)` to `_known(..., 1)`."""
    rng = np.random.default_rng(seed)
    states, timesteps = rng.uniform(0, 2, steps).astype(np.float32), np.arange(steps) % LENGTH
    data = make_dataset([LENGTH] * (steps // LENGTH), observations=states[:, None])
    told = _known(states, timesteps, rng.uniform(size=steps))
    sampler = WindowSampler(data, UNITS, context_length=1, seed=seed, told=TELLING.units(told))
    return sampler, states, timesteps, told


def _predicted(found, states, timesteps):
    """Reward units, anywhere in an episode; states in environment units."""
    inputs = torch.from_numpy(UNITS.observations(np.asarray(states, np.float32)[:, None]))
    return found(inputs, torch.as_tensor(timesteps).float()).numpy() * TELLING.scale


def check_known_quantile(level=0.75):
    """Learned is what is known, at every state and timestep, and as much of the data as it says lies below it."""
    sampler, states, timesteps, told = _sampled()
    found = fit_state_quantile(sampler, TELLING, level, max_timesteps=LENGTH, seed=0)
    at, when = (values.ravel() for values in np.meshgrid(np.linspace(0.1, 1.9, 7), [0, 7, 13, 19]))
    np.testing.assert_allclose(_predicted(found, at, when), _known(at, when, level), atol=25)  # told: -100 to 700
    np.testing.assert_allclose(found.at_start(at[:7, None].astype(np.float32)), _known(at[:7], 0, level), atol=25)
    below = told < _predicted(found, states, timesteps)
    for part in (states < 1, states >= 1, timesteps < 10, timesteps >= 10):
        assert below[part].mean() == pytest.approx(level, abs=0.05)


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(quantiles, "UPDATES", 5)


def test_a_quantile_that_depends_on_state_and_timestep_is_learned():
    check_known_quantile()


def test_another_quantile_and_a_blindness_to_time_are_noticed(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(quantiles, "pinball_slopes", lambda differences, _: pinball_slopes(differences, 0.5))
        notices(check_known_quantile)
    plain = StateQuantile.forward
    monkeypatch.setattr(
        StateQuantile, "forward", lambda self, observations, timesteps: plain(self, observations, 0 * timesteps)
    )
    notices(check_known_quantile)


def test_at_start_is_the_network_at_timestep_0_in_environment_and_reward_units():
    found = StateQuantile(UNITS, TELLING, observation_dim=2, max_timesteps=LENGTH, seed=3).requires_grad_(False)
    raw = np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32)
    hidden = np.concatenate([(raw - 1.0) / 0.5, np.zeros((4, 1))], axis=1)
    layers = list(zip(found.network.weights, found.network.biases))
    for number, (weight, bias) in enumerate(layers):
        hidden = hidden @ weight[0].numpy() + bias[0].numpy()
        hidden = hidden if number == len(layers) - 1 else np.maximum(hidden, 0)
    np.testing.assert_allclose(found.at_start(raw), 100 * hidden[:, 0], rtol=1e-4)
    assert found.at_start(raw).dtype == np.float64
    later = found(torch.from_numpy(UNITS.observations(raw)), torch.full((4,), 10.0)).numpy()
    doubled = StateQuantile(UNITS, TELLING, observation_dim=2, max_timesteps=2 * LENGTH, seed=3)
    doubled = doubled(torch.from_numpy(UNITS.observations(raw)), torch.full((4,), 20.0)).detach().numpy()
    np.testing.assert_allclose(later, doubled, rtol=1e-6)  # time is read as a share of the horizon
    assert np.abs(later * 100 - found.at_start(raw)).min() > 1e-3


def test_the_data_and_the_seed_and_nothing_else_decide(quick):
    def fitted(seed=0, data_seed=0, level=0.75):
        torch.manual_seed(len(weights))
        weights.append(
            fit_state_quantile(_sampled(40, data_seed)[0], TELLING, level, max_timesteps=LENGTH, seed=seed).state_dict()
        )
        return torch.cat([value.flatten() for value in weights[-1].values()])

    weights = []
    one, same, other_seed, other_data, other_level = (
        fitted(), fitted(), fitted(seed=1), fitted(data_seed=1), fitted(level=0.5)
    )  # fmt: skip
    assert torch.equal(one, same)
    for other in (other_seed, other_data, other_level):
        assert not torch.equal(one, other)


@pytest.mark.parametrize(("steps", "expected"), [(20, 55), (60, 65)])
def test_few_timesteps_are_not_learned_by_heart(steps, expected, monkeypatch):
    drawn, plain = [], WindowSampler.draw

    def counted(self, update, batch_size):
        drawn.append((update, batch_size))
        return plain(self, update, batch_size)

    monkeypatch.setattr(WindowSampler, "draw", counted)
    fit_state_quantile(_sampled(steps)[0], TELLING, 0.75, max_timesteps=LENGTH, seed=0)
    assert drawn == [(update, 256) for update in range(expected)]


def test_it_comes_back_from_its_tensors(quick):
    found = fit_state_quantile(_sampled(40)[0], TELLING, 0.75, max_timesteps=LENGTH, seed=0)
    tensors = {name: value.clone() for name, value in found.state_dict().items()}
    again = StateQuantile.restore(UNITS, TELLING, LENGTH, tensors)
    observations, timesteps = np.linspace(-1, 3, 9, dtype=np.float32)[:, None], np.arange(9)
    np.testing.assert_array_equal(again.at_start(observations), found.at_start(observations))
    np.testing.assert_array_equal(
        _predicted(again, observations[:, 0], timesteps), _predicted(found, observations[:, 0], timesteps)
    )
    assert not any(parameter.requires_grad for network in (found, again) for parameter in network.parameters())


def _tensors():
    return StateQuantile(IDENTITY, TELLING, observation_dim=2, max_timesteps=4).state_dict()


@pytest.mark.parametrize("damaged", [
    {}, {"network.weights.0": torch.zeros(1, 3, 64)}, {**_tensors(), "network.weights.0": torch.zeros(3)},
    {**_tensors(), "network.weights.1": torch.zeros(1, 64, 63)}, {**_tensors(), "other": torch.zeros(1)},
    {name: value for name, value in _tensors().items() if name != "network.biases.2"},
])  # fmt: skip
def test_damaged_tensors_are_refused(damaged):
    with pytest.raises(CheckpointError, match="tensors do not make a target rule"):
        StateQuantile.restore(IDENTITY, TELLING, 4, damaged)


def test_returns_summed_once_give_the_same_rule(monkeypatch):
    data = make_dataset([5, 9, 1, 12] * 6, seed=3)
    told = asking.told_of("return", data, scaled())

    def rule():
        found = asking.asking_of(told, data, scaled(), "auto", max_timesteps=12, seed=0)
        return [parameter.clone() for parameter in found.target.parameters()]

    once = rule()
    monkeypatch.setattr(asking, "SUMMED_ROWS", 0)
    assert all(torch.equal(one, other) for one, other in zip(once, rule(), strict=True))
