"""What a policy and a measurement refuse, in one sentence that says what was expected."""

from __future__ import annotations

import math

import numpy as np
import pytest

import foretell
from foretell import facade
from foretell.core.errors import ForetellError, UsageError
from foretell.training.configs import TrainingConfig
from reference.making import make_dataset, small_config

OBSERVATIONS = np.zeros((3, 3), np.float32)


@pytest.fixture
def policy(pendulum_run):
    return foretell.load_policy(pendulum_run)


def test_acting_before_reset_says_so(policy):
    with pytest.raises(UsageError, match="reset"):
        policy.act(OBSERVATIONS)


@pytest.mark.parametrize("shape", [(1, 3), (3,), (2, 3), (3, 4), (3, 1)])
def test_observations_of_another_shape_are_not_broadcast(shape, policy):
    policy.reset(num_envs=3)
    with pytest.raises(UsageError, match="expected"):
        policy.act(np.zeros(shape, np.float32))


@pytest.mark.parametrize("rewards", [np.zeros(1), np.zeros(2)], ids=len)
def test_rewards_of_another_number_are_not_broadcast(rewards, policy):
    policy.reset(num_envs=3)
    policy.act(OBSERVATIONS)
    with pytest.raises(UsageError, match="expected"):
        policy.observe(rewards)


@pytest.mark.parametrize("target", [math.nan, math.inf])
def test_a_target_that_is_not_finite_is_refused(target, policy, pendulum_run):
    with pytest.raises(UsageError, match="finite"):
        policy.reset(num_envs=3, target_return=target)
    with pytest.raises(UsageError, match="finite"):
        facade.evaluate(pendulum_run, episodes=2, target_returns=[target])


@pytest.mark.parametrize("episodes", [0, -1])
def test_no_episodes_to_measure_are_refused(episodes, pendulum_run, tmp_path):
    with pytest.raises(UsageError, match="expected"):
        facade.evaluate(pendulum_run, episodes=episodes)


def test_no_validation_episodes_are_refused_before_anything_is_written(pendulum_random, tmp_path):
    training = TrainingConfig(updates=2, batch_size=2, evaluate_every=1)
    with pytest.raises(UsageError, match="expected"):
        facade.train(
            pendulum_random,
            tmp_path / "run",
            model=small_config("decision-transformer"),
            training=training,
            validation_episodes=0,
        )
    assert not (tmp_path / "run" / "config.json").exists()


def test_a_negative_seed_is_refused_before_anything_is_written(tmp_path, pendulum_run):
    with pytest.raises(ForetellError, match="seed"):
        facade.train(make_dataset([5]), tmp_path / "run", model=small_config("decision-transformer"), seed=-1)
    assert not (tmp_path / "run" / "config.json").exists()
    with pytest.raises(ForetellError, match="seed"):
        facade.evaluate(pendulum_run, episodes=2, root_seed=-1)
