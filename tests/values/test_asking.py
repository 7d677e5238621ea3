from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from conformance.checks import notices
from foretell.core.errors import CheckpointError
from foretell.sequences.normalization import Normalization
from foretell.sequences.scaling import ActionRange
from foretell.sequences.targets import Telling
from foretell.values import asking as module
from foretell.values import behaviour, quantiles
from foretell.values.asking import Asking, asking_of, best_among_alike, timesteps_of, told_of
from foretell.values.behaviour import advantage_quantiles, fit_behaviour
from foretell.values.configs import IQLConfig
from foretell.values.quantiles import StateQuantile
from foretell.values.training import train_values
from reference import iql as reference
from reference.making import IDENTITY, make_dataset, scaled

LENGTH = 4


@pytest.fixture(scope="module")
def learned():
    """Random data and value functions of them; rewards are 0 on average, lest values be below all returns."""
    rewards = np.random.default_rng(0).normal(size=51)
    data = make_dataset([20, 30, 1], rewards=(rewards - rewards.mean()).astype(np.float32))
    return data, train_values(data, scaled(), IQLConfig(updates=30, batch_size=8, hidden_sizes=(8,)))


@pytest.fixture
def quick(monkeypatch):
    """Learning that is only looked at for what it was given."""
    monkeypatch.setattr(quantiles, "UPDATES", 3)
    monkeypatch.setattr(behaviour, "UPDATES", 3)


# What every timestep is told.


def test_the_condition_return_leaves_the_recorded_returns(learned):
    told = told_of("return", learned[0], scaled())
    assert (told.numbers, told.emphasized) == (None, None)
    assert told.telling == Telling(condition="return", scale=10.0)


def test_the_condition_value_tells_relabelled_returns(learned):
    data, functions = learned
    told = told_of("value", data, scaled(), functions)
    values = functions.values(data.observations)
    relabelled = reference.relabelled(data.rewards, values, data.episode_ends.tolist())
    np.testing.assert_allclose(told.numbers, relabelled / 10.0, rtol=1e-5, atol=1e-6)
    assert (told.numbers.dtype, told.emphasized) == (np.float32, None)
    assert told.telling == Telling(condition="value", scale=10.0)
    recorded = reference.relabelled(data.rewards, np.full(51, -1e9), data.episode_ends.tolist())
    assert np.abs(relabelled - recorded).max() > 0.5, "the values change nothing"


def test_the_condition_none_tells_zeros_that_take_no_room(learned):
    told = told_of("none", learned[0], scaled())
    assert told.numbers.shape == (51,)
    assert told.numbers.dtype == np.float32
    assert not told.numbers.any()
    assert told.numbers.strides == (0,)
    assert (told.telling, told.emphasized) == (Telling(condition="none"), None)


@pytest.mark.parametrize("seed", [0, 5])
def test_the_condition_advantage_tells_quantiles_and_emphasizes_the_high_ones(seed, learned):
    data, functions = learned
    told = told_of("advantage", data, scaled(), functions, seed=seed)
    expected = advantage_quantiles(functions, fit_behaviour(functions, data, seed), data, seed=seed)
    np.testing.assert_allclose(told.numbers, 2 * expected - 1, atol=1e-6)
    assert told.emphasized.tolist() == [row for row in range(51) if expected[row] >= np.float32(0.8)]
    assert 0 < len(told.emphasized) < 51
    assert told.telling == Telling(condition="advantage", scale=1.0)


@pytest.mark.parametrize("condition", ["value", "advantage"])
def test_what_needs_value_functions_says_so(condition, learned):
    with pytest.raises(TypeError, match="needs value functions"):
        told_of(condition, learned[0], scaled())


# What is asked for.


def _steady(states):
    """Episodes that earn their state's first number, once, in each of 4 timesteps."""
    observations = np.repeat(states, LENGTH)[:, None].astype(np.float32)
    data = make_dataset([LENGTH] * len(states), observations=observations, rewards=observations[:, 0])
    normalization = Normalization.fit(data, ActionRange(low=(-1.0,) * 2, high=(1.0,) * 2))
    return data, normalization


def _asked(condition, learned, target="auto"):
    data, functions = learned
    told = told_of(condition, data, scaled(), functions)
    return asking_of(told, data, scaled(), target, max_timesteps=30, seed=0)


STARTS = np.linspace(-2, 2, 7, dtype=np.float32)[:, None]


@pytest.mark.parametrize(("condition", "target"), [("return", -20.0), ("value", 3), ("advantage", 0.25)])
def test_an_explicit_target_is_asked_for_everywhere(condition, target, learned, quick):
    asking = _asked(condition, learned, target)
    assert asking.target == float(target)
    assert asking.at_start(np.zeros((5, 3), np.float32)).tolist() == [target] * 5
    assert asking.telling.condition == condition


def test_nothing_is_asked_for_by_behaviour_cloning(learned):
    assert _asked("none", learned).at_start(np.zeros((2, 3))).tolist() == [0.0, 0.0]


def test_an_advantage_is_the_same_everywhere(learned, quick):
    assert _asked("advantage", learned).at_start(np.zeros((2, 3))).tolist() == [0.98, 0.98]


def check_state_by_state():
    """Where the return follows from the start, the rule asks for just that, in reward units."""
    data, normalization = _steady(np.linspace(-2, 2, 300))
    asking = asking_of(told_of("return", data, normalization), data, normalization, "auto",
                       max_timesteps=LENGTH, seed=0)  # fmt: skip
    np.testing.assert_allclose(asking.at_start(STARTS), LENGTH * STARTS[:, 0], atol=0.5)


def test_a_return_is_asked_for_state_by_state():
    check_state_by_state()


def test_a_quantile_of_all_episodes_is_noticed(monkeypatch):
    monkeypatch.setattr(StateQuantile, "at_start", lambda self, observations: np.full(len(observations), LENGTH * 1.0))
    notices(check_state_by_state)


def test_a_relabelled_return_is_asked_for_under_the_condition_value():
    """Told numbers that have nothing to do with the rewards: it is they that the rule learns."""
    data, normalization = _steady(np.linspace(-2, 2, 300))
    told = replace(told_of("none", data, normalization), telling=Telling(condition="value", scale=5.0))
    told = replace(told, numbers=np.float32(3) - data.observations[:, 0])
    asking = asking_of(told, data, normalization, "auto", max_timesteps=LENGTH, seed=0)
    np.testing.assert_allclose(asking.at_start(STARTS), 5 * (3 - STARTS[:, 0]), atol=1.0)


def test_the_rule_learns_three_in_four(learned, monkeypatch):
    levels = []
    plain = module.fit_state_quantile

    def noted(sampler, telling, quantile, **rest):
        levels.append((quantile, telling.condition, rest["max_timesteps"], sampler.context_length))
        return plain(sampler, telling, quantile, **rest)

    monkeypatch.setattr(quantiles, "UPDATES", 3)
    monkeypatch.setattr(module, "fit_state_quantile", noted)
    for condition in ("return", "value"):
        _asked(condition, learned)
    assert levels == [(0.75, "return", 30, 1), (0.75, "value", 30, 1)]


def test_images_are_asked_for_one_quantile_of_the_returns():
    images = np.zeros((10, 4, 4, 3), np.uint8)
    data = make_dataset([2] * 5, observations=images, rewards=np.repeat([1, 2, 3, 4, 5], 2).astype(np.float32))
    normalization = Normalization.fit(data, ActionRange(low=(-1.0,) * 2, high=(1.0,) * 2))
    asking = asking_of(told_of("return", data, normalization), data, normalization, "auto", max_timesteps=2, seed=0)
    assert asking.at_start(images[:3]).tolist() == [8.0] * 3  # of 2, 4, 6, 8, 10


@pytest.mark.parametrize(("condition", "target"), [("return", "auto"), ("value", "auto"), ("return", -1 / 3),
                                                   ("advantage", "auto"), ("none", "auto")])  # fmt: skip
def test_asking_comes_back_from_its_tensors(condition, target, learned, quick):
    asking = _asked(condition, learned, target)
    tensors = {name: value.clone() for name, value in asking.tensors().items()}
    again = Asking.restore(condition, scaled(), 30, tensors)
    observations = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    assert again.telling == asking.telling
    np.testing.assert_array_equal(again.at_start(observations), asking.at_start(observations))
    np.testing.assert_array_equal(again.at_start(observations), asking.at_start(observations))


@pytest.mark.parametrize("missing", ["scale", "constant", "quantile.network.weights.0"])
def test_asking_that_is_not_whole_is_refused(missing, learned, quick):
    tensors = _asked("return", learned, "auto" if missing.startswith("quantile") else 1.0).tensors()
    del tensors[missing]
    with pytest.raises(CheckpointError, match=r"does not say what it asks for|do not make a target rule"):
        Asking.restore("return", scaled(), 30, tensors)


# The best share of the episodes.


def _lucky(seed=0):
    """Starts that are worth 100 or -100 to everyone, and an effort of -10, 0 or 10 that the policy put in."""
    rng = np.random.default_rng(seed)
    worth, effort = rng.permuted(np.tile([100.0, -100.0], 45)), rng.permuted(np.repeat([-10.0, 0.0, 10.0], 30))
    observations = np.repeat(worth / 100, LENGTH)[:, None].astype(np.float32)
    rewards = np.repeat((worth + effort) / LENGTH, LENGTH).astype(np.float32)
    data = make_dataset([LENGTH] * 90, observations=observations, rewards=rewards)
    return data, Normalization.fit(data, ActionRange(low=(-1.0,) * 2, high=(1.0,) * 2)), worth, effort


def _rows(episodes):
    return [LENGTH * int(episode) + step for episode in episodes for step in range(LENGTH)]


def check_best():
    """A third of the episodes: those of the most effort, from lucky and unlucky starts alike, and whole."""
    data, normalization, worth, effort = _lucky()
    found = timesteps_of(data, best_among_alike(data, normalization, 1 / 3))
    assert found.tolist() == _rows(np.flatnonzero(effort == 10))
    assert len(set(worth[found // LENGTH])) == 2


def test_the_best_episodes_are_those_that_did_best_for_their_start():
    check_best()


def test_a_ranking_by_the_bare_return_is_noticed(monkeypatch):
    data, _, worth, _ = _lucky()
    assert (worth[np.argsort(-data.episode_returns())[:30]] == 100).all()  # it would take lucky starts alone
    monkeypatch.setattr(
        module, "_ranks_among_neighbours", lambda firsts, returns: np.argsort(np.argsort(-returns)) * 1.0
    )
    notices(check_best)


def test_episodes_are_ranked_among_a_tenth_of_those_that_began_nearest():
    """Worked by a loop; of equal ranks the one that is further ahead of its neighbours comes first."""
    rng = np.random.default_rng(0)
    firsts, returns = rng.normal(size=(300, 2)).astype(np.float32), rng.normal(size=300)
    keys = []
    for first, earned in zip(firsts, returns):
        near = returns[np.argsort(np.linalg.norm(firsts - first, axis=1), kind="stable")[:30]]
        keys.append(((near > earned).sum(), -(earned - np.median(near))))
    expected = sorted(range(300), key=keys.__getitem__)
    found = module._ranks_among_neighbours(firsts, returns)
    assert np.argsort(found).tolist() == expected
    few = module._ranks_among_neighbours(firsts[:5], returns[:5])
    assert few.tolist() == np.argsort(np.argsort(-returns[:5])).tolist()


def test_all_of_the_episodes_are_all_of_the_rows(learned):
    data, _ = learned
    found = timesteps_of(data, best_among_alike(data, scaled(), 1))
    assert found.tolist() == list(range(51))


def test_images_are_ranked_by_the_bare_return():
    data = make_dataset([2, 1, 3], observations=np.zeros((6, 4, 4, 3), np.uint8),
                        rewards=np.array([1, 1, 9, 1, 1, 2], np.float32))  # fmt: skip
    assert timesteps_of(data, best_among_alike(data, IDENTITY, 0.6)).tolist() == [2, 3, 4, 5]
