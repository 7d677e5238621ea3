from __future__ import annotations

import doctest

import numpy as np
import pytest
from scipy import stats

from foretell.core.errors import UsageError
from foretell.core.seeding import stream
from foretell.reporting import figures, page, statistics, style
from foretell.reporting.statistics import estimate_difference, estimate_mean, interquartile_mean, spearman


@pytest.mark.parametrize("module", [statistics, style, figures, page])
def test_examples_in_docstrings(module):
    failed, tried = doctest.testmod(module, extraglobs={"np": np})
    assert tried > 0
    assert failed == 0


def _draw(generator, seeds, starts, seed_sd=5.0, start_sd=80.0, noise_sd=10.0):
    seed_effect = generator.normal(0, seed_sd, (seeds, 1))
    start_effect = generator.normal(0, start_sd, (1, starts))
    return -150 + seed_effect + start_effect + generator.normal(0, noise_sd, (seeds, starts))


def test_interval_covers_the_true_mean_in_about_95_of_100_experiments():
    generator = np.random.default_rng(1)
    hits = 0
    for _ in range(400):
        estimate = estimate_mean(_draw(generator, 10, 60, seed_sd=10.0), samples=400, generator=generator)
        hits += estimate.low <= -150 <= estimate.high
    assert 0.91 <= hits / 400 <= 0.985


def test_interval_of_one_seed_is_the_ordinary_bootstrap_over_starts():
    returns = np.random.default_rng(2).normal(-150, 80, (1, 200))
    estimate = estimate_mean(returns, samples=4000, generator=np.random.default_rng(0))
    half_width = 1.96 * returns.std() / np.sqrt(200)
    assert estimate.value == pytest.approx(returns.mean())
    assert estimate.low == pytest.approx(returns.mean() - half_width, abs=0.08 * half_width)
    assert estimate.high == pytest.approx(returns.mean() + half_width, abs=0.08 * half_width)


def test_seeds_are_resampled_too():
    returns = np.repeat([[-160.0], [-150.0], [-140.0]], 500, axis=1)  # start states do not matter here, seeds alone do
    estimate = estimate_mean(returns, samples=4000, generator=np.random.default_rng(0))
    assert (estimate.low, estimate.value, estimate.high) == (-160.0, -150.0, -140.0)  # P(all alike) = 1/27 > 2.5%


def test_matrix_product_equals_the_slow_bootstrap_that_indexes():
    returns = np.random.default_rng(3).normal(size=(4, 7))
    generator = np.random.default_rng(0)
    seeds = statistics.resampled(4, 50, generator)
    starts = statistics.resampled(7, 50, generator)
    fast = statistics._weighted_means(returns, seeds, starts)
    slow = [returns[np.repeat(np.arange(4), u)][:, np.repeat(np.arange(7), v)].mean() for u, v in zip(seeds, starts)]
    np.testing.assert_allclose(fast, slow, atol=1e-12)


def test_pairing_removes_what_start_states_do_to_both():
    generator = np.random.default_rng(4)
    ease = generator.normal(0, 80, 200)
    ours, sac = -155 + np.tile(ease, (3, 1)), (-143 + ease)[None]
    paired = estimate_difference(ours, sac, samples=500, generator=generator)
    assert (paired.low, paired.value, paired.high) == pytest.approx((-12, -12, -12))
    alone = estimate_mean(ours, samples=500, generator=generator)
    assert alone.high - alone.low > 15


def test_the_reference_seeds_are_resampled_where_there_are_several():
    reference = np.repeat([[-10.0], [10.0]], 50, axis=1)
    estimate = estimate_difference(np.zeros((1, 50)), reference, samples=500, generator=np.random.default_rng(0))
    assert (estimate.low, estimate.value, estimate.high) == (-10, 0, 10)


def test_same_generator_same_interval():
    returns = _draw(np.random.default_rng(5), 3, 20)
    first, second = (estimate_mean(returns, samples=300, generator=np.random.default_rng(7)) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_value_that_is_not_finite_is_refused_with_its_place(bad):
    returns = np.zeros((2, 3))
    returns[1, 2] = bad
    with pytest.raises(UsageError, match=r"at \[1, 2\]"):
        estimate_mean(returns, samples=10, generator=np.random.default_rng(0))
    with pytest.raises(UsageError):
        interquartile_mean(returns[1])
    with pytest.raises(UsageError):
        spearman(returns[0], returns[1])


def test_wrong_shapes_are_refused():
    generator = np.random.default_rng(0)
    with pytest.raises(UsageError, match="at least one of each"):
        estimate_mean(np.zeros((0, 3)), samples=10, generator=generator)
    with pytest.raises(UsageError, match="3 start states, reference has 4"):
        estimate_difference(np.zeros((1, 3)), np.zeros((1, 4)), samples=10, generator=generator)
    with pytest.raises(UsageError, match="2 asked and 3 achieved"):
        spearman(np.zeros(2), np.zeros(3))


@pytest.mark.parametrize("count", [4, 8, 20])
def test_iqm_is_scipys_trimmed_mean_where_four_divides_the_count(count):
    values = np.random.default_rng(count).normal(size=count)
    assert interquartile_mean(values) == pytest.approx(stats.trim_mean(values, 0.25))


def test_iqm_of_few_values_by_hand():
    assert interquartile_mean(np.array([7.0])) == 7.0
    assert interquartile_mean(np.array([0.0, 10.0])) == 5.0
    assert interquartile_mean(np.array([0.0, 30.0, 90.0])) == 35.0  # weights 1/6, 4/6, 1/6
    assert interquartile_mean(np.array([-1000.0, 1.0, 2.0, 4.0, 1000.0])) == 0.3 * 1 + 0.4 * 2 + 0.3 * 4


def test_spearman_equals_scipys_with_ties():
    generator = np.random.default_rng(6)
    for _ in range(20):
        first, second = generator.integers(0, 5, 12).astype(float), generator.integers(0, 5, 12).astype(float)
        assert spearman(first, second) == pytest.approx(stats.spearmanr(first, second).statistic)


def test_spearman_is_undefined_for_one_point_and_for_constants():
    assert np.isnan(spearman(np.array([1.0]), np.array([2.0])))
    assert np.isnan(spearman(np.arange(3.0), np.ones(3)))


def test_a_difference_of_the_same_networks_leaves_their_own_differences_out():
    returns = np.array([[-60.0] * 5, [-40.0] * 5, [-20.0] * 5])
    together = estimate_difference(returns + 1, returns, samples=500, generator=stream(0, "x"), same_seeds=True)
    assert (together.low, together.high) == (1, 1)
    apart = estimate_difference(returns + 1, returns, samples=500, generator=stream(0, "x"))
    assert apart.low < -10
    with pytest.raises(UsageError, match="2 seeds, reference has 3"):
        estimate_difference(returns[:2], returns, samples=500, generator=stream(0, "x"), same_seeds=True)


@pytest.mark.parametrize("cells", [1, 40, 10**9])
def test_intervals_do_not_depend_on_how_many_resamples_lie_in_memory(cells, monkeypatch):
    returns = np.random.default_rng(0).normal(-150, 30, size=(2, 3, 20))
    expected = [
        estimate_mean(returns[0], samples=500, generator=np.random.default_rng(1)),
        estimate_difference(*returns, samples=500, generator=np.random.default_rng(1)),
    ]
    monkeypatch.setattr(statistics, "CELLS", cells)
    assert expected == [
        estimate_mean(returns[0], samples=500, generator=np.random.default_rng(1)),
        estimate_difference(*returns, samples=500, generator=np.random.default_rng(1)),
    ]
