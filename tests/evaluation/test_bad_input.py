"""What a policy and a measurement refuse, in one sentence that says what was expected."""

from __future__ import annotations

import inspect
import math
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
import torch

import foretell
from foretell import facade
from foretell.agents.configs import SACConfig
from foretell.core.errors import DatasetError, ForetellError, UsageError
from foretell.training.configs import TrainingConfig
from foretell.values.configs import IQLConfig
from reference.making import CHOICES, make_dataset, small_config

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


def test_acting_and_observing_take_turns(policy):
    policy.reset(num_envs=3)
    with pytest.raises(UsageError, match="Call act first"):
        policy.observe(np.zeros(3))
    first = policy.act(OBSERVATIONS)
    with pytest.raises(UsageError, match="twice in a row"):
        policy.act(OBSERVATIONS)
    policy.observe(np.zeros(3))
    with pytest.raises(UsageError, match="Call act first"):
        policy.observe(np.zeros(3))
    second = policy.act(OBSERVATIONS)
    policy.reset(num_envs=3)  # in the middle of a timestep
    np.testing.assert_array_equal(policy.act(OBSERVATIONS), first)
    policy.observe(np.zeros(3))
    np.testing.assert_array_equal(policy.act(OBSERVATIONS), second)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_refused_and_changes_nothing(number, policy):
    def actions(spoil: bool) -> list[np.ndarray]:
        policy.reset(num_envs=3, target_return=-300.0)
        found = []
        for timestep in range(3):
            observations, rewards = np.full((3, 3), 0.1 * timestep, np.float32), np.full(3, -1.0 - timestep)
            if spoil:
                spoilt = observations.copy()
                spoilt[1, 2] = number
                with pytest.raises(DatasetError, match="episode 1"):
                    policy.act(spoilt)
            found.append(policy.act(observations))
            if spoil:
                with pytest.raises(DatasetError, match="episode 2"):
                    policy.observe([0.0, 0.0, number])
            policy.observe(rewards)
        return found

    np.testing.assert_array_equal(actions(spoil=True), actions(spoil=False))


@pytest.mark.parametrize("count", [-1, 0, 1.5, "2", True])
def test_other_than_whole_numbers_of_environments_are_refused(count, policy):
    with pytest.raises(UsageError, match="num_envs"):
        policy.reset(num_envs=count)


@pytest.mark.parametrize("target", ["much", [1.0, "x", 2.0], [[1.0], [2.0, 3.0]]])
def test_a_target_that_is_no_number_is_refused(target, policy):
    unchecked = inspect.unwrap(type(policy).reset)  # without the types that every test is run under
    with pytest.raises(UsageError, match="expected a number"):
        unchecked(policy, num_envs=3, target_return=target)


@pytest.fixture(scope="module")
def value_functions(pendulum_random, tmp_path_factory):
    values = IQLConfig(updates=2, batch_size=4, hidden_sizes=(4,))
    return facade.train_iql(pendulum_random, tmp_path_factory.mktemp("iql") / "run", values=values)


@pytest.fixture(scope="module")
def agent(tmp_path_factory):
    config = SACConfig(total_steps=210, learning_starts=205, hidden_sizes=(4,), batch_size=4)
    return facade.train_sac("Pendulum-v1", tmp_path_factory.mktemp("sac") / "run", config=config, validation_episodes=1)


@pytest.mark.parametrize("kind", ["value_functions", "agent"])
def test_policies_without_memory_check_what_they_are_given(kind, request):
    policy = foretell.load_policy(request.getfixturevalue(kind))
    with pytest.raises(UsageError, match="num_envs"):
        policy.reset(num_envs=0)
    with pytest.raises(UsageError, match="takes none"):
        policy.reset(num_envs=3, target_return=-150.0)
    for wrong in (np.zeros((3, 4)), np.zeros(3), np.full((1, 3), "x")):
        with pytest.raises(UsageError, match="expected"):
            policy.act(wrong)
    with pytest.raises(DatasetError, match="observations hold nan in episode 1"):
        policy.act(np.array([[1.0, 0.0, 0.0], [1.0, 0.0, math.nan]]))
    assert policy.act(OBSERVATIONS).shape == (3, 1)


def test_an_agent_takes_numbers_however_they_lie(agent):
    policy = foretell.load_policy(agent)
    rows = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)
    expected = policy.act(rows)
    for given in (rows.copy()[::-1][::-1], np.ascontiguousarray(rows[::-1])[::-1], rows.astype(">f4"),
                  rows.astype(np.longdouble), np.asfortranarray(rows), rows.tolist(), torch.tensor(rows)):  # fmt: skip
        np.testing.assert_array_equal(inspect.unwrap(type(policy).act)(policy, given), expected)


@pytest.mark.parametrize("kind", ["pendulum_run", "value_functions", "agent"])
def test_a_tensor_that_numpy_cannot_read_is_refused(kind, request):
    policy = foretell.load_policy(request.getfixturevalue(kind))
    policy.reset(num_envs=3)
    with pytest.raises(UsageError, match=r"observations are no array .*detach\(\)\.cpu\(\)\.float\(\)"):
        inspect.unwrap(type(policy).act)(policy, torch.zeros(3, 3, dtype=torch.bfloat16))
    if kind == "pendulum_run":
        policy.act(OBSERVATIONS)
        with pytest.raises(UsageError, match=r"rewards are no array .*detach\(\)\.cpu\(\)\.float\(\)"):
            inspect.unwrap(type(policy).observe)(policy, torch.zeros(3, requires_grad=True))


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


def test_no_targets_at_all_are_refused(pendulum_run):
    with pytest.raises(UsageError, match="target_returns is empty; expected numbers, or None"):
        foretell.evaluate(pendulum_run, episodes=1, target_returns=[])


def test_a_dataset_is_written_under_a_name_that_it_is_opened_by(tmp_path):
    made = make_dataset([4])
    with pytest.raises(UsageError, match=r"expected one that ends in \.hdf5 or \.h5"):
        foretell.write_d4rl(tmp_path / "made", [made.episode(0)], made.metadata)
    assert not list(tmp_path.iterdir())


def test_progress_of_several_targets_is_one_count(pendulum_run, monkeypatch):
    monkeypatch.setattr(facade.evaluation, "AT_ONCE", 2)
    told = []
    targets = [-900.0, -800.0, -700.0]
    facade.evaluate(
        pendulum_run, episodes=1, target_returns=targets, progress=lambda done, total, **_: told.append((done, total))
    )
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1] == (400, 400)
    assert {total for _, total in told} == {400}


class _FiveChoices(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-9.0, 9.0, (3,), np.float32)
    action_space = gymnasium.spaces.Discrete(5)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.np_random.normal(size=3).astype(np.float32), {}

    def step(self, action):
        return np.full(3, action, np.float32), float(action), False, False, {}


def test_a_planner_values_choices_that_the_data_lack(tmp_path):
    gymnasium.register("FiveChoices-v0", entry_point=_FiveChoices, max_episode_steps=6)
    data = make_dataset([6] * 5, shape=CHOICES)
    assert data.num_actions < 5
    model = replace(small_config("trajectory-transformer"), bins=5)
    run = facade.train(
        data, tmp_path / "run", algorithm="trajectory-transformer", model=model, condition="value",
        environment="FiveChoices-v0", values=IQLConfig(updates=2, batch_size=4, hidden_sizes=(4,)),
        training=TrainingConfig(updates=2, batch_size=4),
    )  # fmt: skip
    assert len(facade.evaluate(run, episodes=2)) == 2
