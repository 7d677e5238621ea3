from __future__ import annotations

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch
from torch.distributions import Normal, TransformedDistribution
from torch.distributions.transforms import TanhTransform

from foretell.agents.networks import GaussianPolicy
from foretell.agents.policy import SACPolicy
from foretell.agents.squashed_gaussian import sample_squashed
from foretell.sequences.scaling import ActionRange


def _policy(observations=3, actions=2, seed=0):
    return GaussianPolicy(observations, actions, (8,), torch.Generator().manual_seed(seed))


def test_equal_to_torchs_transformed_distribution():
    generator = torch.Generator().manual_seed(0)
    mean, log_std, noise = (torch.randn(500, 3, generator=generator, dtype=torch.float64) for _ in range(3))
    actions, log_probs = sample_squashed(mean, log_std, noise)
    theirs = TransformedDistribution(Normal(mean, log_std.exp()), TanhTransform(cache_size=1))
    inside = (actions.abs() < 1 - 1e-9).all(-1)
    assert int(inside.sum()) > 400
    torch.testing.assert_close(log_probs[inside], theirs.log_prob(actions).sum(-1)[inside], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (1.5, 0.3), (-0.7, 2.0)])
def test_density_integrates_to_one_and_matches_the_change_of_variables(mean, std):
    def density(action):
        noise = (np.arctanh(action) - mean) / std
        tensors = (torch.tensor([[value]], dtype=torch.float64) for value in (mean, np.log(std), noise))
        found, log_prob = sample_squashed(*tensors)
        assert float(found) == pytest.approx(action, abs=1e-12)
        return float(log_prob.exp())

    for action in (-0.9, 0.1, 0.99):
        by_hand = scipy.stats.norm(mean, std).pdf(np.arctanh(action)) / (1 - action**2)
        assert density(action) == pytest.approx(by_hand, rel=1e-9)
    area, _ = scipy.integrate.quad(density, -1 + 1e-12, 1 - 1e-12, limit=200, points=[np.tanh(mean)])
    assert area == pytest.approx(1.0, abs=1e-3)


def test_exact_where_the_action_rounds_to_one():
    mean = torch.tensor([[20.0]], requires_grad=True)
    actions, log_probs = sample_squashed(mean, torch.zeros(1, 1), torch.zeros(1, 1))
    assert float(actions.detach()) == 1.0
    assert float(log_probs.detach()) == pytest.approx(-0.9189385 + 2 * 20 - 2 * np.log(2), rel=1e-6)
    log_probs.sum().backward()
    assert torch.isfinite(mean.grad).all()


def test_policys_log_probs_are_densities_in_the_environments_units():
    network, action_range = _policy(), ActionRange(low=(-2.0, 0.0), high=(2.0, 10.0))
    policy = SACPolicy(network, action_range)
    observations = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    actions, log_probs = policy.act(observations, np.random.default_rng(1))
    assert (actions >= [-2, 0]).all()
    assert (actions <= [2, 10]).all()
    assert actions.dtype == log_probs.dtype == np.float32
    mean, log_std = (value.detach().double().numpy() for value in network(torch.from_numpy(observations)))
    unit = action_range.to_unit(actions).astype(np.float64)
    gaussian = scipy.stats.norm(mean, np.exp(log_std)).logpdf(np.arctanh(unit)).sum(1)
    per_unit = gaussian - np.log(1 - unit**2).sum(1)
    np.testing.assert_allclose(log_probs, per_unit - np.log(2.0) - np.log(5.0), atol=2e-3)


def test_best_is_the_squashed_mean_and_sampling_follows_the_generator():
    policy = SACPolicy(_policy(actions=1), ActionRange(low=(-2.0,), high=(2.0,)))
    observations = np.ones((4000, 3), np.float32)
    mean, log_std = policy.network(torch.from_numpy(observations[:1]))
    assert policy.best(observations)[0, 0] == pytest.approx(2 * np.tanh(mean.item()), rel=1e-5)
    actions, _ = policy.act(observations, np.random.default_rng(0))
    unsquashed = np.arctanh(np.clip(actions[:, 0] / 2, -1 + 1e-7, 1 - 1e-7).astype(np.float64))
    assert scipy.stats.kstest(unsquashed, scipy.stats.norm(mean.item(), log_std.exp().item()).cdf).pvalue > 1e-3
    np.testing.assert_array_equal(policy.act(observations, np.random.default_rng(0))[0], actions)
    assert not np.array_equal(policy.act(observations, np.random.default_rng(1))[0], actions)
