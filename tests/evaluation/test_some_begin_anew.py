"""Several environments, some of which begin a new episode while the others go on."""

from __future__ import annotations

from dataclasses import replace

import gymnasium
import numpy as np
import pytest
import torch

from foretell.agents.networks import GaussianPolicy
from foretell.agents.pendulum_optimum import OptimumPolicy
from foretell.agents.policy import SACPolicy
from foretell.core.errors import UsageError
from foretell.environments.making import environment_spec
from foretell.evaluation.acting import acting_policy
from foretell.evaluation.conditioned import TOGETHER
from foretell.evaluation.configs import ChunkingConfig, PlanningConfig
from foretell.evaluation.policies import AgentPolicy, UniformPolicy
from foretell.models.registry import MODELS
from foretell.sequences.scaling import ActionRange
from foretell.sequences.targets import Telling
from foretell.values.asking import Asking
from foretell.values.support import Support
from reference.making import CHOICES, SHAPES, VECTOR, scaled, small_model

LENGTHS = [(3, 7, 2), (5, 5, 2), (12,), (1, 1, 10)]
"""Timesteps of the episodes of each environment, one behind the other, 12 in all; windows are of 4."""
TARGETS = [(-5.0, 3.0, 9.0), (2.0, -7.0, 1.0), (4.0,), (6.0, 8.0, -3.0)]
ACTING = {
    "trajectory-transformer": PlanningConfig(behaviour="return", beam_width=3, horizon=2, action_top_k=1),
    "encoder-decoder": ChunkingConfig(actions_taken=2),
}  # fmt: skip


def policy_of(name, shape):
    """By its own rule it asks for 3."""
    normalization = replace(scaled(), action_range=None) if shape.discrete else scaled()
    limits = np.linspace(-2, 0, shape.max_timesteps, dtype=np.float32)
    told = "none" if name == "trajectory-transformer" else "return"
    support = None if told == "none" else Support(least=limits, most=limits + 1)
    asking = Asking(telling=Telling(condition=told, scale=10.0), target=3.0, support=support)
    return acting_policy(small_model(name, shape), normalization, asking, ACTING.get(name), "return")


def world(shape, seed):
    rng = np.random.default_rng(seed)
    return 6 * rng.normal(size=(12, *shape.observation_shape)).astype(np.float32), rng.normal(size=12)


def alone(policy, shape, env, targets):
    """Actions of the episodes of one environment, each acted by itself."""
    observations, rewards = world(shape, env)
    found, row = [], 0
    for length, target in zip(LENGTHS[env], targets[env]):
        policy.reset(1, target)
        for _ in range(length):
            found.append(policy.act(observations[row][None])[0])
            policy.observe(rewards[row][None])
            row += 1
    return np.array(found)


def together(policy, shape, targets, copies=1):
    """Actions of all environments, which begin anew one by one; `copies` of each."""
    worlds = [world(shape, env) for env in range(len(LENGTHS))] * copies
    lengths, targets = LENGTHS * copies, targets * copies
    ends = [set(np.cumsum(of).tolist()) for of in lengths]
    number = np.zeros(len(lengths), int)

    def asked():
        found = [of[n] for of, n in zip(targets, number)]
        return None if found[0] is None else np.array(found)

    policy.reset(len(lengths), asked())
    found = []
    for row in range(12):
        found.append(policy.act(np.stack([observations[row] for observations, _ in worlds])))
        policy.observe([rewards[row] for _, rewards in worlds])
        ended = np.array([row + 1 in of for of in ends]) & (row < 11)
        number += ended
        policy.reset(len(lengths), asked(), where=ended)
    return np.stack(found, axis=1)


BY_RULE = [[None] * len(of) for of in TARGETS]


@pytest.mark.parametrize("by_rule", [False, True])
@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("name", MODELS)
def test_each_environment_acts_as_if_it_were_alone(name, kind, by_rule):
    targets = BY_RULE if by_rule or name == "trajectory-transformer" else TARGETS  # a planner is told nothing
    policy = policy_of(name, SHAPES[kind])
    expected = np.stack([alone(policy, SHAPES[kind], env, targets) for env in range(len(LENGTHS))])
    assert expected.std() > 0
    np.testing.assert_allclose(together(policy, SHAPES[kind], targets), expected, atol=1e-5)


def test_many_environments_are_taken_some_at_a_time():
    policy = policy_of("decision-transformer", VECTOR)
    copies = TOGETHER // 2
    expected = together(policy, VECTOR, TARGETS)
    np.testing.assert_allclose(
        together(policy, VECTOR, TARGETS, copies), np.tile(expected, (copies, 1, 1)), atol=1e-5
    )  # fmt: skip


def test_environments_that_have_all_begun_anew_are_together_again():
    policy = policy_of("decision-transformer", VECTOR)
    together(policy, VECTOR, TARGETS)
    for some in ([True, False, True, False], [False, True, False, True]):
        policy.reset(4, 1.0, where=np.array(some))
    again = policy.act(np.ones((4, 3)))
    policy.reset(4, 1.0)
    np.testing.assert_array_equal(again, policy.act(np.ones((4, 3))))


def test_an_environment_may_go_on_for_longer_than_an_episode_may_last():
    policy = policy_of("decision-transformer", VECTOR)
    policy.reset(2, 0.0)
    for timestep in range(3 * VECTOR.max_timesteps):
        policy.act(np.zeros((2, 3)))
        policy.observe([0.0, 0.0])
        policy.reset(2, 0.0, where=np.array([timestep % 20 == 10, timestep % 20 == 19]))
    policy.reset(2, 0.0, where=np.array([True, False]))
    for _ in range(20):
        policy.act(np.zeros((2, 3)))
        policy.observe([0.0, 0.0])
    with pytest.raises(UsageError, match=r"timestep 30: the run was trained for.*reset\(\.\.\., where=ended\)"):
        policy.act(np.zeros((2, 3)))


@pytest.mark.parametrize(("where", "said"), [
    ([True, False], r"where is of shape \(2,\).*expected \(3,\) bool"),
    ([1, 0, 1], "type int64; expected"), (np.array([[True, False, True]]), r"shape \(1, 3\)"),
])  # fmt: skip
def test_what_is_no_choice_of_environments_is_refused(where, said):
    policies = [policy_of("mlp", VECTOR), UniformPolicy(environment_spec("Pendulum-v1"), 0), agent()]
    for policy in policies:
        policy.reset(3)
        with pytest.raises(UsageError, match=said):
            policy.reset(3, where=where)


def agent():
    return AgentPolicy(
        SACPolicy(GaussianPolicy(3, 1, (4,), torch.Generator()), ActionRange(low=(-2.0,), high=(2.0,))), (3,)
    )


def test_some_begin_anew_among_those_that_act_and_have_been_rewarded():
    policy = policy_of("decision-transformer", VECTOR)
    with pytest.raises(UsageError, match="num_envs is 2; with where, expected a reset without where first"):
        policy.reset(2, 0.0, where=np.array([True, False]))
    policy.reset(2, 0.0)
    with pytest.raises(UsageError, match="num_envs is 3; with where, expected the 2 that act"):
        policy.reset(3, 0.0, where=np.array([True, False, True]))
    policy.act(np.zeros((2, 3)))
    with pytest.raises(UsageError, match="before the rewards of act: call observe"):
        policy.reset(2, 0.0, where=np.array([True, False]))


def test_targets_of_environments_that_go_on_are_not_looked_at():
    policy = policy_of("decision-transformer", VECTOR)
    policy.reset(2, np.array([4.0, -4.0]))
    policy.act(np.zeros((2, 3)))
    policy.observe([1.0, 2.0])
    policy.reset(2, np.array([np.nan, 7.0]), where=np.array([False, True]))
    assert policy._target.tolist() == [3.0, 7.0]
    with pytest.raises(UsageError, match="finite numbers in reward units"):
        policy.reset(2, np.array([np.nan, 7.0]), where=np.array([True, False]))


def test_the_optimum_counts_the_timesteps_of_each_episode():
    class Left:
        def best(self, observations, left):
            return np.full(len(observations), float(left)), None

    policy = OptimumPolicy(Left())
    policy.reset(3)
    seen = []
    for where in ([False, True, False], [True, False, False], [False, False, False]):
        seen.append(policy.act(np.zeros((3, 3)))[:, 0].tolist())
        policy.reset(3, where=np.array(where))
    assert seen == [[200, 200, 200], [199, 200, 199], [200, 199, 198]]


def test_uniform_actions_go_on_where_only_some_begin_anew():
    policy = UniformPolicy(environment_spec("Pendulum-v1"), 0)
    policy.reset(2)
    first, second = policy.act(np.zeros((2, 3))), policy.act(np.zeros((2, 3)))
    policy.reset(2)
    policy.reset(2, where=np.array([True, False]))
    np.testing.assert_array_equal(policy.act(np.zeros((2, 3))), first)
    policy.reset(2, where=np.array([True, False]))
    np.testing.assert_array_equal(policy.act(np.zeros((2, 3))), second)


MODES = {"next step": {}}
"""Of Gymnasium: after an end, the next step resets; or, from Gymnasium 1.1 on, the same step does."""
if hasattr(gymnasium.vector, "AutoresetMode"):
    MODES["same step"] = {"autoreset_mode": gymnasium.vector.AutoresetMode.SAME_STEP}


@pytest.mark.parametrize("mode", MODES)
def test_in_gymnasiums_vector_environments_every_episode_is_acted_as_alone(mode):
    """CartPole's episodes end at different times; the loop is that of docs/quickstart.md."""
    shape = replace(CHOICES, observation_shape=(4,), action_dim=2)
    policy = policy_of("decision-transformer", shape)
    envs = gymnasium.make_vec("CartPole-v1", 3, "sync", vector_kwargs=MODES[mode])
    observations, _ = envs.reset(seed=1)
    policy.reset(3, 20.0)
    episodes, running, ended_before = [], [[] for _ in range(3)], np.zeros(3, bool)
    for _ in range(40):
        actions = policy.act(observations)
        for env in np.flatnonzero(~ended_before):
            running[env].append((observations[env], actions[env]))
        observations, rewards, terminated, truncated, _ = envs.step(actions)
        policy.observe(rewards)
        ended = terminated | truncated
        begins = ended if mode == "same step" else ended | ended_before
        policy.reset(3, 20.0, where=begins)
        for env in np.flatnonzero(ended):
            episodes.append(running[env])
            running[env] = []
        ended_before = ended if mode == "next step" else ended_before
    assert len(episodes) >= 3
    assert len({len(one) for one in episodes}) > 1
    for episode in episodes:
        policy.reset(1, 20.0)
        for observation, action in episode:
            assert policy.act(observation[None])[0] == action
            policy.observe([1.0])
