from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from foretell.core.errors import UsageError
from foretell.environments.making import environment_spec, make_environment, make_environments
from foretell.environments.pendulum import HORIZON, BatchedPendulum
from foretell.environments.tasks import TASKS

SEEDS = [0, 1, 2**31 - 2, 17]


def test_equals_gymnasium_for_whole_episodes():
    batched = BatchedPendulum(len(SEEDS))
    singles = [gymnasium.make("Pendulum-v1") for _ in SEEDS]
    first = np.stack([env.reset(seed=seed)[0] for env, seed in zip(singles, SEEDS)])
    np.testing.assert_array_equal(batched.reset(SEEDS), first)
    rng = np.random.default_rng(0)
    for step in range(HORIZON):
        actions = rng.uniform(-2.5, 2.5, size=(len(SEEDS), 1)).astype(np.float32)  # some beyond the range: clipped
        observations, rewards, terminations, truncations = batched.step(actions)
        results = [env.step(action) for env, action in zip(singles, actions)]
        states = np.stack([env.unwrapped.state for env in singles])
        np.testing.assert_allclose(batched.state, states, atol=1e-12, rtol=0)
        np.testing.assert_allclose(rewards, [r[1] for r in results], atol=1e-9, rtol=0)  # torque squared is float32
        np.testing.assert_allclose(observations, [r[0] for r in results], atol=1e-6, rtol=0)
        assert not terminations.any()
        assert truncations.all() == all(r[3] for r in results) == (step == HORIZON - 1)


def test_start_states_spread_over_the_whole_range():
    batched = BatchedPendulum(500)
    batched.reset(range(500))
    low, high = batched.state.min(axis=0), batched.state.max(axis=0)
    assert (low < [-3.0, -0.95]).all()
    assert (high > [3.0, 0.95]).all()


def test_simulator_state_is_angle_and_velocity():
    batched = BatchedPendulum(2)
    observations = batched.reset([3, 4])
    state = batched.simulator_state()
    np.testing.assert_allclose(observations[:, 0], np.cos(state["qpos"][:, 0]), atol=1e-6)
    np.testing.assert_array_equal(observations[:, 2], state["qvel"][:, 0])


def test_looped_environments_rest_when_they_have_ended():
    environments = make_environments("CartPole-v1", 2)
    environments.reset([0, 1])
    ended = np.zeros(2, bool)
    lengths = np.zeros(2, int)
    for _ in range(60):
        before = ended.copy()
        _, rewards, terminations, truncations = environments.step(np.array([1, 1]))
        assert (rewards[before] == 0).all()
        lengths += ~before
        ended |= terminations | truncations
    assert ended.all()
    for seed, length in zip([0, 1], lengths):
        env = gymnasium.make("CartPole-v1")
        env.reset(seed=seed)
        steps = 1
        while not env.step(1)[2]:
            steps += 1
        assert steps == length


def test_spec_of_pendulum_and_cartpole():
    spec = environment_spec("Pendulum-v1")
    assert (spec.observation_shape, spec.action_dim, spec.horizon) == ((3,), 1, 200)
    assert (spec.action_low, spec.action_high, spec.num_actions) == ((-2.0,), (2.0,), None)
    assert environment_spec("CartPole-v1").num_actions == 2
    assert TASKS["Pendulum-v1"].random_score == -1230.5


def test_unknown_environment_and_module_names_are_refused():
    with pytest.raises(UsageError, match="Pendulum-v1"):
        make_environment("Pendulum-v9")
    with pytest.raises(UsageError, match="names a module to import"):
        make_environment("os:Pendulum-v1")
