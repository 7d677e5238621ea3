"""Environments of one's own that do otherwise than Gymnasium's: one sentence names the environment and what it did."""

from __future__ import annotations

import math
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from foretell import facade
from foretell.agents.configs import SACConfig
from foretell.collection.recipes import collect_random
from foretell.core.errors import DatasetError, StoppedError, UsageError
from foretell.datasets.dataset import DatasetMetadata
from foretell.environments.making import environment_spec, make_environment, make_environments
from foretell.evaluation.policies import UniformPolicy
from foretell.evaluation.protocol import evaluate
from foretell.training import sac
from foretell.training.configs import TrainingConfig
from foretell.values.configs import IQLConfig


class Sound(gymnasium.Env):
    observation_space = spaces.Box(-10, 10, (2,), np.float32)
    action_space: spaces.Space = spaces.Box(-1, 1, (1,), np.float32)
    late = 3

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.timestep = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.timestep += 1
        return np.full(2, self.timestep / 10, np.float32), self.reward(), False, False, {}

    def reward(self):
        return -1.0


class BeginsInWholeNumbers(Sound):
    def reset(self, *, seed=None, options=None):
        return [0, 0], super().reset(seed=seed)[1]


class FourValues(Sound):
    def step(self, action):
        return super().step(action)[:4]


class NoInfo(Sound):
    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed)[0]


class NoSeed(Sound):
    def reset(self):
        return super().reset()


class OtherShape(Sound):
    def step(self, action):
        return (np.zeros(3, np.float32), *super().step(action)[1:])


class OtherStart(Sound):
    def reset(self, *, seed=None, options=None):
        return np.zeros((1, 2), np.float32), super().reset(seed=seed)[1]


class NanObservation(Sound):
    def step(self, action):
        observation, *rest = super().step(action)
        return (observation * (math.nan if self.timestep == self.late else 1.0), *rest)


class NanReward(Sound):
    def reward(self):
        return math.nan if self.timestep == self.late else 0.0


class TwoRewards(Sound):
    def reward(self):
        return np.array([1.0, 2.0])


class OneRewardInAnArray(Sound):
    def reward(self):
        return np.array([-1.0])


class Raises(Sound):
    def step(self, action):
        raise ValueError("something of its own")


class NeedsSize(Sound):
    def __init__(self, size):
        self.size = size


for kind in (FourValues, NoInfo, NoSeed, OtherShape, OtherStart, NanObservation, NanReward, TwoRewards, Raises,
             OneRewardInAnArray, NeedsSize, BeginsInWholeNumbers):  # fmt: skip
    name = f"{kind.__name__}-v0"
    gymnasium.register(name, entry_point=kind, max_episode_steps=9, disable_env_checker=True)


class Ends(Sound):
    def step(self, action):
        observation, reward, *_ = super().step(action)
        return observation, reward, self.timestep == self.late, False, {}


gymnasium.register("Ends-v0", entry_point=Ends, disable_env_checker=True)
gymnasium.register("Endless-v0", entry_point=Sound, disable_env_checker=True)


@pytest.mark.parametrize(("name", "error", "message"), [
    ("FourValues", UsageError, "step gave another number of values; expected observation, reward"),
    ("NoInfo", UsageError, r"reset gave ndarray; expected \(observation, info\)"),
    ("NoSeed", UsageError, "reset takes no seed"),
    ("OtherShape", UsageError, r"an observation of shape \(3,\); expected \(2,\)"),
    ("OtherStart", UsageError, r"an observation of shape \(1, 2\); expected \(2,\)"),
    ("NanObservation", DatasetError, "an observation holds nan; expected finite numbers"),
    ("NanReward", DatasetError, "NanReward-v0: a reward is nan; expected finite numbers"),
    ("TwoRewards", UsageError, r"the reward .*; expected one number"),
    ("Raises", ValueError, "^something of its own$"),
])  # fmt: skip
def test_what_an_environment_does_otherwise_is_said_and_nothing_is_written(name, error, message, tmp_path):
    with pytest.raises(error, match=message):
        collect_random(f"{name}-v0", 40, 0, tmp_path / "data.hdf5")
    assert not list(tmp_path.iterdir())


def test_one_reward_may_come_in_an_array():
    environments = make_environments("OneRewardInAnArray-v0", 2)
    environments.reset([0, 1])
    assert environments.step(np.zeros((2, 1)))[1].tolist() == [-1.0, -1.0]


def test_observations_that_begin_in_whole_numbers_are_not_cut_to_them(tmp_path):
    data = collect_random("BeginsInWholeNumbers-v0", 9, 0, tmp_path / "data.hdf5")
    np.testing.assert_allclose(np.asarray(data.observations)[:, 0], np.arange(9) / 10, atol=1e-6)


def test_sac_says_it_too(tmp_path):
    with pytest.raises(DatasetError, match="NanReward-v0: a reward is nan"):
        facade.train_sac("NanReward-v0", tmp_path / "run")


def test_names_that_cannot_be_made_say_why():
    with pytest.raises(UsageError, match=r"NeedsSize-v0.*does not start without arguments"):
        environment_spec("NeedsSize-v0")
    with pytest.raises(UsageError, match="Import nowhere first, then Point-v0 is one"):
        make_environment("nowhere:Point-v0")
    with pytest.raises(UsageError, match="expected the id"):
        environment_spec(make_environment("Pendulum-v1"))


def test_a_run_says_how_long_it_will_act_where_the_environment_has_no_time_limit(tmp_path):
    data = collect_random("Endless-v0", 12, 0, tmp_path / "data.hdf5")
    with pytest.warns(UserWarning, match="Endless-v0 has no time limit: the run will act for 12 timesteps"):
        facade.train(data, tmp_path / "run", training=TrainingConfig(updates=1, batch_size=2))


def test_episodes_without_a_time_limit_count_for_as_long_as_the_policy_can_act(tmp_path):
    data = collect_random("Endless-v0", 12, 0, tmp_path / "data.hdf5")
    training = TrainingConfig(updates=2, batch_size=2, evaluate_every=1)
    with pytest.warns(UserWarning, match="2 of 2 episodes had not ended after 12 timesteps.*max_episode_steps"):
        run = facade.train(data, tmp_path / "run", training=training, validation_episodes=2)
    with pytest.warns(UserWarning, match="3 of 3 episodes had not ended after 12 timesteps"):
        records = facade.evaluate(run, episodes=3)
    assert [record["length"] for record in records] == [12] * 3


def test_data_of_no_environment_say_how_long_and_how_far_the_run_will_act(tmp_path):
    data = collect_random("Endless-v0", 12, 0, tmp_path / "data.hdf5")
    unnamed = replace(data, metadata=DatasetMetadata())
    with pytest.warns(UserWarning, match="names no environment.*act for 12 timesteps.*actions stay within"):
        facade.train(unnamed, tmp_path / "run", training=TrainingConfig(updates=1, batch_size=2))
    with pytest.raises(UsageError, match="its data named none, or one that could not be made"):
        facade.evaluate(tmp_path / "run", episodes=2)


def test_progress_ends_when_the_last_episode_does_though_nobody_knew_when():
    told = []
    policy = UniformPolicy(environment_spec("Ends-v0"), 0)
    evaluate(policy, "Ends-v0", [0, 1], progress=lambda done, total, **_: told.append((done, total)))
    assert told == [(1, 2), (2, 3), (3, 3)]


class OneFixed(Sound):
    action_space = gymnasium.spaces.Box(np.float32([-1.0, 2.0]), np.float32([1.0, 2.0]))


def test_a_component_of_one_value_costs_the_density_nothing(tmp_path):
    gymnasium.register("OneFixed-v0", entry_point=OneFixed, max_episode_steps=9, disable_env_checker=True)
    found = collect_random("OneFixed-v0", 20, 0, tmp_path / "x.hdf5")
    assert set(found.actions[:, 1].tolist()) == {2.0}
    np.testing.assert_allclose(found.infos["action_log_probs"], -np.log(2.0), rtol=1e-6)


@pytest.mark.parametrize(("space", "mend"), [
    (spaces.Box(-np.inf, 1, (2,), np.float32), "whose bounds are finite"),
    (spaces.Box(-np.inf, 1, (2, 2), np.float32), "whose bounds are finite"),
    (spaces.MultiDiscrete([9] * 4), "4 choices of more than 4,096 combinations.*offers fewer"),
    (spaces.Box(0, 255, (84, 84), np.uint8), "7,056 choices of more than 4,096 combinations"),
    (spaces.Box(0, 2**63 - 1, (1,), np.int64), "1 choice of more than 4,096 combinations"),
    (spaces.Dict({"gear": spaces.Discrete(3), "wheel": spaces.Box(-1, 1, (1,))}), "choices beside numbers.*rounds"),
    (spaces.Dict({"word": spaces.Text(3)}), "the part 'word' of the actions is Text.*takes one of them"),
    (spaces.Tuple(()), "has no parts"), (spaces.Text(3), "action space Text"),
])  # fmt: skip
def test_actions_that_cannot_be_taken_come_with_a_wrapper(space, mend, monkeypatch):
    monkeypatch.setattr(Sound, "action_space", space)
    with pytest.raises(UsageError, match=f"^NanReward-v0: .*{mend}"):
        environment_spec("NanReward-v0")


def test_validation_where_no_episode_may_end_is_warned_of_before_anything_is_learned(tmp_path, monkeypatch):
    monkeypatch.setattr("foretell.evaluation.protocol.NO_HORIZON_LIMIT", 7)
    said = "Endless-v0 has no time limit: a validation episode that does not end .*evaluate_every 0"
    agent = SACConfig(total_steps=30, learning_starts=10, hidden_sizes=(4,), batch_size=4, evaluate_every=20)
    with pytest.warns(UserWarning, match=said), pytest.raises(UsageError, match="had not ended after 7"):
        facade.train_sac("Endless-v0", tmp_path / "sac", config=agent, validation_episodes=2)
    data = collect_random("Ends-v0", 60, 0, tmp_path / "data.hdf5")
    values = IQLConfig(updates=3, evaluate_every=2, hidden_sizes=(4,))
    with pytest.warns(UserWarning, match="Ends-v0 has no time limit"):
        facade.train_iql(data, tmp_path / "iql", values=values, validation_episodes=2)


def test_a_stop_does_not_wait_long_for_the_end_of_an_episode_that_may_have_none(tmp_path, monkeypatch):
    monkeypatch.setattr(sac, "PATIENCE", 5)
    taken = []

    def stop(done, total, **_):
        taken.append(done)
        if done >= 20:
            raise StoppedError(2)

    agent = SACConfig(total_steps=300, learning_starts=10, hidden_sizes=(4,), batch_size=4, evaluate_every=0)
    with pytest.raises(StoppedError):
        facade.train_sac("Endless-v0", tmp_path / "sac", config=agent, progress=stop)
    assert taken == list(range(1, 26))
    taken.clear()
    with pytest.raises(StoppedError):  # one that ends by itself is waited for, and saved
        facade.train_sac("Ends-v0", tmp_path / "ends", config=agent, progress=stop)
    assert taken == list(range(1, 21))
    assert list((tmp_path / "ends").glob("checkpoints/*"))
