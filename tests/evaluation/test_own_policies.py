"""Policies of one's own in the evaluation protocol: the same starts, records and reports as runs."""

from __future__ import annotations

import inspect

import gymnasium
import numpy as np
import pytest
import torch

import foretell
from foretell.core.errors import UsageError
from foretell.core.files import read_json_lines
from foretell.environments.making import environment_spec
from foretell.evaluation.policies import UniformPolicy
from foretell.evaluation.protocol import evaluation_starts

PENDULUM = "Pendulum-v1"


class Told:
    """Acts by what it is told, and keeps what it hears."""

    def __init__(self):
        self.heard = []

    def reset(self, num_envs, target_return=None, where=None):
        self.target = target_return
        self.count = num_envs
        self.heard.append("reset")

    def act(self, observations):
        return np.full((self.count, 1), 0.0 if self.target is None else np.asarray(self.target)[:, None])

    def observe(self, rewards):
        self.heard.append(rewards)


def _by_angle(observations):
    return -2 * np.sign(observations[:, 2:])


def test_a_function_earns_what_a_loop_earns(tmp_path):
    records = foretell.evaluate(
        _by_angle, environment=PENDULUM, name="mine", episodes=2, out=tmp_path / "mine.jsonl", root_seed=3
    )
    for record, start in zip(records, evaluation_starts(3, 2), strict=True):
        environment, earned = gymnasium.make(PENDULUM), 0.0
        observation, _ = environment.reset(seed=start)
        for _ in range(200):
            observation, reward, *_ = environment.step(_by_angle(observation[None])[0])
            earned += float(reward)
        assert record["return"] == pytest.approx(earned, rel=1e-4)
        assert (record["policy"], record["algorithm"], record["seed"], record["length"]) == ("mine", "own", 0, 200)
        assert (record["dataset"], record["settings"], record["start"]) == (None, None, start)
    kept = read_json_lines(tmp_path / "mine.jsonl")
    assert [{key: value for key, value in one.items() if key != "checksum"} for one in kept] == records


def test_a_policy_is_told_its_targets_and_rewards():
    policy = Told()
    records = foretell.evaluate(
        policy, environment=PENDULUM, name="told", seed=4, episodes=2, target_returns=[0.0, 1.0], num_envs=2
    )
    assert [record["target"] for record in records] == [0.0, 0.0, 1.0, 1.0]
    assert {record["seed"] for record in records} == {4}
    assert sum(isinstance(one, str) for one in policy.heard) == 2, "two of four episodes at a time"
    assert len(policy.heard) == 2 + 2 * 200
    untold = foretell.evaluate(policy, environment=PENDULUM, name="told", episodes=2)
    assert [one["return"] for one in untold] == [one["return"] for one in records[:2]]


def test_an_object_of_the_library_is_one_as_well():
    uniform = UniformPolicy(environment_spec(PENDULUM), 0)
    found = foretell.evaluate(uniform, environment=PENDULUM, name="mine", episodes=3)
    named = foretell.evaluate("random", environment=PENDULUM, episodes=3)
    assert [one["return"] for one in found] == [one["return"] for one in named]


def test_seeds_of_a_policy_are_reported_as_one_row(tmp_path):
    for seed in (0, 1):
        for name, scale in (("steady", 0.0), ("pushed", 1.0 + seed)):
            foretell.evaluate(
                lambda observations, scale=scale: scale * _by_angle(observations) / 2,
                environment=PENDULUM, name=name, seed=seed, episodes=4, out=tmp_path / f"{name}.jsonl",
            )  # fmt: skip
    foretell.write_comparison([tmp_path / "steady.jsonl", tmp_path / "pushed.jsonl"], tmp_path / "report")
    table = (tmp_path / "report" / "table.md").read_text()
    assert [line.split("|")[1].strip() for line in table.splitlines() if "| own |" in line] == ["steady", "pushed"]


@pytest.mark.parametrize(
    ("given", "asked", "message"),
    [
        (_by_angle, {}, "environment and under a name"),
        (_by_angle, {"environment": PENDULUM}, "under a name"),
        (_by_angle, {"name": "mine"}, "in an environment"),
        (_by_angle, {"environment": PENDULUM, "name": "mine", "acting": {"horizon": 2}}, "settings of how a run"),
        (_by_angle, {"environment": PENDULUM, "name": "mine", "target_returns": 0.0}, "function of observations alone"),
        (_by_angle, {"environment": PENDULUM, "name": "mine", "target_returns": np.inf}, "expected finite numbers"),
        (_by_angle, {"environment": PENDULUM, "name": "mine", "seed": -1}, "seed is -1"),
        (lambda _: np.zeros(3), {"environment": PENDULUM, "name": "mine"}, r"act gave actions of shape \(3,\)"),
        (lambda o: (np.zeros((1, 1)), None), {"environment": PENDULUM, "name": "mine"}, "actions of act are no array"),
        (lambda o: torch.zeros(1, 1, requires_grad=True), {"environment": PENDULUM, "name": "mine"}, "tensor.detach"),
        (lambda o: np.array([["a"]]), {"environment": PENDULUM, "name": "mine"}, "of type <U1; expected numbers"),
        (lambda o: None, {"environment": PENDULUM, "name": "mine"}, "of shape"),
        (lambda o: np.zeros(1), {"environment": "CartPole-v1", "name": "mine"}, "expected whole numbers, 0 to 1"),
        (lambda o: np.array([7]), {"environment": "CartPole-v1", "name": "mine"}, "gave 7 to 7; expected whole"),
        (Told, {"environment": PENDULUM, "name": "mine"}, "your own: an object with reset"),
        (3, {"environment": PENDULUM, "name": "mine"}, "run is 3; expected the name of a file or folder"),
        ("random", {"environment": PENDULUM, "seed": 1}, "a run has its own"),
    ],
)  # fmt: skip
def test_what_cannot_be_evaluated_is_refused(given, asked, message):
    with pytest.raises(UsageError, match=message):
        inspect.unwrap(foretell.evaluate)(given, episodes=1, **asked)


class Agent:
    """Called as those of Stable-Baselines3: turns against the pendulum, and counts timesteps as its state."""

    def __init__(self):
        self.told = []

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        assert deterministic
        state = np.zeros(len(observation)) if state is None else state
        state = np.where(episode_start, 0, state + 1)
        self.told.append((state.copy(), episode_start.copy()))
        return _by_angle(observation).astype(np.float32), state


def test_an_agent_of_stable_baselines3_is_taken_as_it_is():
    agent = Agent()
    theirs = foretell.evaluate(agent, environment=PENDULUM, name="theirs", episodes=3)
    mine = foretell.evaluate(_by_angle, environment=PENDULUM, name="mine", episodes=3)
    assert [one["return"] for one in theirs] == pytest.approx([one["return"] for one in mine])
    states = np.array([state for state, _ in agent.told])
    np.testing.assert_array_equal(states, np.repeat(np.arange(200.0)[:, None], 3, axis=1))
    assert [begins.any() for _, begins in agent.told] == [True] + [False] * 199


def test_a_recurrent_agent_is_told_which_episodes_begin():
    from foretell.evaluation.own_policy import PredictingPolicy

    agent = Agent()
    policy = PredictingPolicy(agent)
    policy.reset(2)
    observations = np.zeros((2, 3), np.float32)
    policy.act(observations)
    policy.act(observations)
    policy.reset(2, where=[False, True])
    policy.act(observations)
    assert [state.tolist() for state, _ in agent.told] == [[0, 0], [1, 1], [2, 0]]
    with pytest.raises(UsageError, match="takes none"):
        policy.reset(2, -100.0)


class Parts(gymnasium.Env):
    """A door among three and a lamp; earns 1 for the door's number at the lamp's height, as two choices of 1 to 3."""

    observation_space = gymnasium.spaces.Dict(
        {"lamp": gymnasium.spaces.Box(0, 1, (2, 2), np.float32), "door": gymnasium.spaces.Discrete(3, start=1)}
    )
    action_space = gymnasium.spaces.MultiDiscrete([3, 2], start=[1, 0])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._seen(), {}

    def _seen(self):
        self.door, self.high = int(self.np_random.integers(1, 4)), int(self.np_random.integers(2))
        lamp = np.zeros((2, 2), np.float32)
        lamp[1 - self.high, 0] = 1
        return {"lamp": lamp, "door": self.door}

    def step(self, action):
        earned = float(action[0] == self.door and action[1] == self.high)
        return self._seen(), earned, False, False, {}


class KnowsParts(Agent):
    observation_space, action_space = Parts.observation_space, Parts.action_space

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        assert observation["door"].shape == (len(episode_start),)
        assert observation["lamp"].shape == (len(episode_start), 2, 2)
        return np.stack([observation["door"], observation["lamp"][:, 0, 0].astype(int)], axis=1), state


def test_an_agent_of_several_parts_is_asked_as_it_learned():
    if "OwnParts-v0" not in gymnasium.registry:
        gymnasium.register("OwnParts-v0", entry_point=Parts, max_episode_steps=7)
    records = foretell.evaluate(KnowsParts(), environment="OwnParts-v0", name="parts", episodes=3)
    assert [record["return"] for record in records] == [7.0] * 3
    with pytest.raises(UsageError, match=r"are of shape \(3,\); expected \(7,\), door \(3\), lamp \(4\)"):
        foretell.evaluate(KnowsParts(), environment=PENDULUM, name="parts", episodes=1)


def test_other_objects_that_predict_are_told_what_is_expected():
    class Regression:
        def predict(self, observations):
            return observations

    with pytest.raises(UsageError, match="or an agent of Stable-Baselines3"):
        foretell.evaluate(Regression(), environment=PENDULUM, name="x")
    with pytest.raises(UsageError, match="or an agent of Stable-Baselines3"):
        foretell.evaluate(Agent, environment=PENDULUM, name="x")


class TwoChoices(gymnasium.Env):
    """Two of three, and of two: earns the first, and ten times the second."""

    observation_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    action_space = gymnasium.spaces.MultiDiscrete([3, 2])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        return np.zeros(1, np.float32), float(action[0] + 10 * action[1]), True, False, {}


def test_actions_of_several_choices_are_numbered_as_the_message_says():
    if "OwnTwoChoices-v0" not in gymnasium.registry:
        gymnasium.register("OwnTwoChoices-v0", entry_point=TwoChoices, max_episode_steps=5)
    env = foretell.FlattenedActions(gymnasium.make("OwnTwoChoices-v0"))
    asked = {"environment": "OwnTwoChoices-v0", "name": "mine", "episodes": 2}

    def theirs(observations):
        return np.tile([2, 1], (len(observations), 1))

    message = r"of shape \(2, 2\); expected \(2,\).* foretell\.FlattenedActions\(env\)\.flattened\(actions\)"
    with pytest.raises(UsageError, match=message):
        foretell.evaluate(theirs, **asked)
    records = foretell.evaluate(lambda observations: env.flattened(theirs(observations)), **asked)
    assert [record["return"] for record in records] == [12.0, 12.0]
