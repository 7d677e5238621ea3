from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from conformance.checks import notices
from foretell.core.errors import DivergedError
from foretell.values.gaussian_process import TOGETHER, GaussianProcess, PosteriorDraws


def _process(inputs=2, targets=2, degree=2, seed=0, noise=-1.5):
    process, generator = GaussianProcess(inputs, targets, degree), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in process.parameters():
            parameter.add_(0.5 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
        process.noise.fill_(noise)
    return process.requires_grad_(False)


def _numbers(rows, columns, seed=1):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(rows, columns)))


def _plain_kernel(process, one, other, target):
    """The formula of the class, one pair after the other; degree 2."""
    weights = np.exp(2 * process.coefficients[target].numpy())
    lengths, bell = np.exp(process.lengths[target, 0].numpy()), math.exp(2 * float(process.bell[target]))

    def terms(x):
        return np.array([1.0, *x, *[x[i] * x[j] for i in range(len(x)) for j in range(i, len(x))]])

    return np.array(
        [[(weights * terms(a) * terms(b)).sum() + bell * math.exp(-0.5 * (((a - b) / lengths) ** 2).sum())
          for b in other.numpy()] for a in one.numpy()]
    )  # fmt: skip


def test_products_by_hand():
    process = GaussianProcess(2, 1, 3)
    point = torch.tensor([[2.0, 3.0]], dtype=torch.float64)
    assert process.features(point)[0].tolist() == [1, 2, 3, 4, 6, 9, 8, 12, 18, 27]
    process.scale_features(torch.tensor([[1.0, 3.0], [7.0, 3.0]], dtype=torch.float64))  # root mean square of 1, 7: 5
    assert process.features(point)[0, :3].tolist() == [1.0, 2 / 5, 1.0]


def test_the_kernel_is_the_formula():
    process, one, other = _process(), _numbers(4, 2), _numbers(3, 2, seed=2)
    for target in (0, 1):
        np.testing.assert_allclose(process.kernel(one, other)[target], _plain_kernel(process, one, other, target))
    np.testing.assert_array_equal(process.kernel(one, other, slice(1, 2))[0], process.kernel(one, other)[1])


def test_the_kernel_is_the_same_whether_settings_are_learned_or_not():
    process, one, other = _process(targets=3), _numbers(4, 2), 9 * _numbers(3, 2, seed=2)
    process.lengths.fill_(-2.0)
    frozen, factor = process.kernel(one, other), process.factor(one)
    assert float(frozen.min()) < 1e-12
    process.requires_grad_(True)
    np.testing.assert_allclose(process.kernel(one, other).detach(), frozen, rtol=1e-12, atol=1e-300)
    np.testing.assert_allclose(process.factor(one).detach(), factor, rtol=1e-12)


def test_the_evidence_is_the_normal_density():
    process, x, y = _process(), _numbers(7, 2), _numbers(7, 2, seed=3)
    found, _ = process.evidence_and_slopes(x, y)
    for target in (0, 1):
        covariance = _plain_kernel(process, x, x, target) + math.exp(-3.0) * np.eye(7)
        expected = -multivariate_normal(np.zeros(7), covariance).logpdf(y[:, target].numpy())
        assert float(found[target]) == pytest.approx(expected, rel=1e-6)


def _by_graph(process, x, y):
    """The evidence from its definition alone, for PyTorch to differentiate."""
    covariance = process.kernel(x, x) + (2 * process.noise).exp() * torch.eye(len(x), dtype=x.dtype)
    density = torch.distributions.MultivariateNormal(torch.zeros(len(x), dtype=x.dtype), covariance)
    return -density.log_prob(y.T)


def check_slopes():
    process, x, y = _process(inputs=3, targets=2, degree=3).requires_grad_(), _numbers(9, 3), _numbers(9, 2, seed=3)
    density, found = process.evidence_and_slopes(x, y)
    graph = _by_graph(process, x, y)
    torch.testing.assert_close(density, graph.detach())
    expected = torch.autograd.grad(graph.sum(), list(process.parameters()))
    for one, two in zip(found, expected, strict=True):
        assert one.shape == two.shape
        torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-8)


def test_slopes_of_the_evidence_are_those_of_a_graph():
    check_slopes()


@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_a_wrong_slope_is_noticed(place, monkeypatch):
    right = GaussianProcess.evidence_and_slopes

    def wrong(*given):
        found, slopes = right(*given)
        slopes[place] = slopes[place] * 1.001
        return found, slopes

    monkeypatch.setattr(GaussianProcess, "evidence_and_slopes", wrong)
    notices(check_slopes)


def test_draws_have_the_posterior_mean_and_covariance():
    """Rasmussen and Williams 2006, Eqs 2.23 and 2.24, against 3,000 draws."""
    process, x, y, new = _process(targets=1), _numbers(5, 2), _numbers(5, 1, seed=3), 1.5 * _numbers(3, 2, seed=4)
    process.bell.fill_(0.3)
    process.lengths.fill_(0.0)
    draws = PosteriorDraws(
        process, x, y, members=3_000, cosines=1_500, generator=torch.Generator().manual_seed(0)
    )(new)[0].numpy()  # fmt: skip
    prior = _plain_kernel(process, x, x, 0) + math.exp(-3.0) * np.eye(5)
    across = _plain_kernel(process, new, x, 0)
    mean = across @ np.linalg.solve(prior, y.numpy())[:, 0]
    covariance = _plain_kernel(process, new, new, 0) - across @ np.linalg.solve(prior, across.T)
    deviation = np.sqrt(covariance.diagonal())
    np.testing.assert_allclose(draws.mean(1), mean, atol=4 * deviation.max() / math.sqrt(3_000))
    np.testing.assert_allclose(np.cov(draws), covariance, atol=0.12 * covariance.diagonal().max())


def test_draws_pass_exact_data():
    process, x, y = _process(noise=-9.0), _numbers(12, 2), _numbers(12, 2, seed=3)
    process.lengths.fill_(-1.0)
    draws = PosteriorDraws(process, x, y, members=4, cosines=50, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(draws(x), y.T[:, :, None].expand(2, 12, 4), atol=0.01)
    elsewhere = draws(3 * _numbers(12, 2, seed=5))
    assert float(elsewhere.std(-1).mean()) > 0.1


def test_answers_do_not_depend_on_how_many_are_asked_for():
    process, x, y = _process(), _numbers(12, 2), _numbers(12, 2, seed=3)
    draws = PosteriorDraws(process, x, y, members=4, cosines=50, generator=torch.Generator().manual_seed(0))
    asked = 3 * _numbers(2 * TOGETHER + 5, 2, seed=5)
    one_by_one = torch.cat([draws(row) for row in asked.split(1)], 1)
    np.testing.assert_allclose(draws(asked), one_by_one, rtol=1e-9, atol=1e-12)


def test_evidence_prefers_few_terms_and_so_goes_on_beyond_the_data():
    x = _numbers(80, 2)
    y = (1.5 * x[:, :1] * x[:, 1:]) / 1.5
    process = GaussianProcess(2, 1, 3)
    process.scale_features(x)
    optimizer = torch.optim.Adam(process.parameters(), lr=0.1)
    for _ in range(150):
        for setting, slope in zip(process.parameters(), process.evidence_and_slopes(x, y)[1], strict=True):
            setting.grad = slope
        optimizer.step()
        process.keep_in_bounds()
    kept = process.coefficients[0].detach().exp().numpy()
    assert kept.argmax() == 4  # 1, a, b, aa, ab
    assert np.sort(kept)[-2] < 0.1 * kept.max()
    process.requires_grad_(False)
    draws = PosteriorDraws(process, x, y, members=3, cosines=50, generator=torch.Generator().manual_seed(0))
    far = torch.tensor([[8.0, -6.0]], dtype=torch.float64)
    np.testing.assert_allclose(draws(far)[0, 0], [-48.0] * 3, atol=0.5)


def test_settings_stay_in_bounds():
    process = GaussianProcess(1, 1, 1)
    with torch.no_grad():
        process.lengths.fill_(9.0)
        process.coefficients.fill_(-30.0)
        process.noise.fill_(-30.0)
    process.keep_in_bounds()
    process.requires_grad_(False)
    assert (float(process.lengths[0, 0, 0]), float(process.coefficients[0, 0])) == (6.0, -12.0)
    assert float(process.noise[0, 0, 0]) == -10.0


def test_repeated_timesteps_can_be_factored_and_broken_numbers_not():
    process, x = _process(noise=-10.0), _numbers(5, 2)
    factor = process.factor(torch.cat([x] * 20))
    assert bool(torch.isfinite(factor).all())
    with pytest.raises(DivergedError, match="covariance of 5 timesteps"):
        process.factor(x / 0)
