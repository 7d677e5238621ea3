"""Minari datasets whose observations or actions are choices, or of several parts."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from foretell.core.errors import DatasetError
from foretell.datasets.minari import read_minari, write_minari
from foretell.datasets.recorded_environment import changes_of_environment
from foretell.datasets.registry import open_dataset
from foretell.environments.flattening import FlattenedObservations
from foretell.environments.making import make_environments
from reference.spaces import stacked

minari = pytest.importorskip("minari")
EpisodeBuffer = pytest.importorskip("minari.data_collector").EpisodeBuffer
pytestmark = [pytest.mark.filterwarnings("ignore::UserWarning"), pytest.mark.usefixtures("minari_storage")]
ONE = spaces.Box(-1, 1, (1,), np.float32)


class Goal(gymnasium.Env):
    """As environments with goals are: a Dict, here in another order than that of its names."""

    observation_space = spaces.Dict(OrderedDict(
        observation=spaces.Box(-9, 9, (3,), np.float64), desired_goal=spaces.Box(-9, 9, (2,), np.float64),
        achieved_goal=spaces.Box(-9, 9, (2,), np.float64), kind=spaces.Discrete(2),
    ))  # fmt: skip
    action_space = ONE

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = self.np_random.normal(size=3)
        return self.seen(), {}

    def step(self, action):
        self.at = self.at + float(action[0])
        return self.seen(), float(self.at[0]), False, False, {}

    def seen(self):
        return {"observation": self.at, "desired_goal": np.full(2, 0.5), "achieved_goal": self.at[:2] * 2, "kind": 1}


class Gears(Goal):
    """Of two choices."""

    action_space = spaces.Dict(OrderedDict(push=spaces.Discrete(3, start=-1), hold=spaces.MultiBinary(1)))

    def step(self, action):
        assert self.action_space.contains(action), action
        return super().step([action["push"] * (1 - action["hold"][0])])


class Square(Goal):
    action_space = spaces.Box(-2, 2, (2, 2), np.float64)

    def step(self, action):
        assert self.action_space.contains(action), action
        return super().step(action.ravel())


gymnasium.register("MinariGears-v0", entry_point=f"{__name__}:Gears", max_episode_steps=5, disable_env_checker=True)
gymnasium.register("MinariSquare-v0", entry_point=f"{__name__}:Square", max_episode_steps=5, disable_env_checker=True)
gymnasium.register("MinariGoal-v0", entry_point=f"{__name__}:Goal", max_episode_steps=5, disable_env_checker=True)


def record(name, environment, seeds):
    """Write episodes of zero actions, or of choice 0, as Minari's collector does."""
    env, buffers = gymnasium.make(environment), []
    action = 0 if isinstance(env.action_space, spaces.Discrete) else np.zeros(1, np.float32)
    for seed in seeds:
        each, steps, done = [env.reset(seed=seed)[0]], [], False
        while not done:
            observation, reward, terminated, truncated, _ = env.step(action)
            each.append(observation)
            steps.append((action, reward, terminated, truncated))
            done = terminated or truncated
        actions, rewards, terminations, truncations = map(np.array, zip(*steps))
        buffers.append(EpisodeBuffer(
            observations=stacked(env.observation_space, each), actions=actions, rewards=rewards,
            terminations=terminations, truncations=truncations, infos={},
        ))  # fmt: skip
    minari.create_dataset_from_buffers(name, buffers, env=env)
    return action


@pytest.mark.parametrize("environment", ["MinariGoal-v0", "FrozenLake-v1", "Blackjack-v1"])
def test_what_minari_recorded_is_what_the_environment_shows_here(environment, tmp_path, same):
    action = record("parts/a-v0", environment, [5, 6])
    found = read_minari("parts/a-v0")
    environments = make_environments(environment, 1)
    for seed, episode in zip([5, 6], found.episodes(), strict=True):
        shown = [environments.reset([seed])[0]]
        shown += [environments.step(np.array([action]))[0][0].copy() for _ in range(len(episode))]
        np.testing.assert_array_equal(episode.observations, np.stack(shown))
    write_minari(found, "parts/b-v0")
    same(open_dataset("minari:parts/b-v0"), found)


def test_what_was_recorded_through_our_wrapper_names_its_environment():
    spec = FlattenedObservations(gymnasium.make("FrozenLake-v1")).spec
    assert changes_of_environment(spec) == ()


def test_the_card_says_what_lies_where():
    record("parts/a-v0", "MinariGoal-v0", [5])
    assert read_minari("parts/a-v0").notes == (
        "observations are one array of achieved_goal (2), desired_goal (2), kind (2), observation (3).",
    )
    assert read_minari("parts/a-v0").metadata.environment == "MinariGoal-v0"


def record_sampled(name, environment, seeds):
    """Write episodes of random actions, as Minari's collector does; return the actions of each."""
    env, buffers, taken = gymnasium.make(environment), [], []
    env.action_space.seed(0)
    for seed in seeds:
        each, actions, rewards = [env.reset(seed=seed)[0]], [], []
        while len(actions) < 5:
            actions.append(env.action_space.sample())
            observation, reward, *_ = env.step(actions[-1])
            each.append(observation)
            rewards.append(reward)
        last = np.arange(5) == 4
        buffers.append(EpisodeBuffer(
            observations=stacked(env.observation_space, each), actions=stacked(env.action_space, actions),
            rewards=rewards, terminations=np.zeros(5, bool), truncations=last, infos={},
        ))  # fmt: skip
        taken.append(actions)
    minari.create_dataset_from_buffers(name, buffers, env=env)
    return taken


@pytest.mark.parametrize(("environment", "said"), [
    ("MinariGears-v0", "an action is choice 0 to 5 of hold (2), push (3), the last changing fastest."),
    ("MinariSquare-v0", "an action is numbers of Box (4)."),
])  # fmt: skip
def test_actions_of_several_choices_or_dimensions_earn_here_what_they_earned_there(environment, said, same):
    taken = record_sampled("acts/a-v0", environment, [5, 6])
    found = read_minari("acts/a-v0")
    assert said in found.notes
    environments = make_environments(environment, 1)
    for seed, own, episode in zip([5, 6], taken, found.episodes(), strict=True):
        environments.reset([seed])
        rewards = [environments.step(action[None])[1][0] for action in episode.actions]
        np.testing.assert_allclose(rewards, episode.rewards, rtol=1e-6)
        if found.discrete:
            assert episode.actions.tolist() == [3 * int(one["hold"][0]) + int(one["push"]) + 1 for one in own]
    write_minari(found, "acts/b-v0")
    again = minari.load_dataset("acts/b-v0")
    assert again.spec.action_space == gymnasium.make(environment).action_space
    same(open_dataset("minari:acts/b-v0"), found)


def test_choices_that_the_environment_does_not_have_are_written_as_they_are(same):
    record_sampled("acts/a-v0", "MinariGears-v0", [5])
    found = read_minari("acts/a-v0")
    beyond = replace(found, actions=np.asarray(found.actions) + 6, notes=())
    write_minari(beyond, "acts/b-v0")
    assert minari.load_dataset("acts/b-v0").spec.action_space == spaces.Discrete(beyond.num_actions)
    same(open_dataset("minari:acts/b-v0"), beyond)


@pytest.mark.parametrize(("space", "actions", "said"), [
    (spaces.MultiDiscrete([2, 2]), np.array([[0, 0], [1, 2]]), "episode 0: an action holds 2 in row 1"),
    (spaces.Tuple((ONE, spaces.Discrete(2))), (np.zeros((2, 1), np.float32), np.zeros(2, int)),
     "actions tuple; expected one array, or choices of at most 4,096 combinations"),
])  # fmt: skip
def test_actions_that_are_not_of_their_space_or_of_two_kinds_are_refused(space, actions, said):
    buffer = EpisodeBuffer(
        observations=np.zeros((3, 1), np.float32), actions=actions, rewards=np.zeros(2),
        terminations=np.zeros(2, bool), truncations=np.array([False, True]), infos={},
    )  # fmt: skip
    minari.create_dataset_from_buffers("odd/a-v0", [buffer], action_space=space, observation_space=ONE)
    with pytest.raises(DatasetError, match=f"minari:odd/a-v0: {said}"):
        read_minari("odd/a-v0")


@pytest.mark.parametrize(("space", "observations", "said"), [
    (spaces.Text(5), ["a", "b", "c"], "the observation space is Text"),
    (spaces.Dict({"a": ONE, "b": ONE}), {"a": np.zeros((3, 1)), "b": np.zeros((2, 1))}, "'b' of an observation has 2"),
    (spaces.Discrete(2), np.array([0, 1, 2]), "holds choice 2 counted from its first; expected .* from 0 to 1"),
])  # fmt: skip
def test_observations_that_are_not_of_their_space_are_refused(space, observations, said):
    buffer = EpisodeBuffer(
        observations=observations, actions=np.zeros((2, 1), np.float32), rewards=np.zeros(2),
        terminations=np.zeros(2, bool), truncations=np.array([False, True]), infos={},
    )  # fmt: skip
    minari.create_dataset_from_buffers("odd/a-v0", [buffer], action_space=ONE, observation_space=space)
    with pytest.raises(DatasetError, match=f"minari:odd/a-v0.*{said}"):
        read_minari("odd/a-v0")
