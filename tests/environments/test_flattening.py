"""Environments whose observations are not one array: choices, and several parts."""

from __future__ import annotations

from collections import OrderedDict

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell import facade
from foretell.collection.recipes import collect_random
from foretell.core.errors import UsageError
from foretell.environments.flattening import FlattenedObservations, described, flattened, parts_of, unflattened
from foretell.environments.making import environment_spec, make_environments
from foretell.environments.parts import values_of
from foretell.models.configs import DecisionTransformerConfig
from foretell.training.configs import TrainingConfig
from reference.spaces import stacked

PARTS = OrderedDict(
    goal=spaces.Box(-1, 1, (2,), np.float64), at=spaces.Box(-9, 9, (2, 2), np.float32),
    lamp=spaces.Discrete(3, start=-1),
)  # fmt: skip
"""In another order than that of their names."""


class Parts(gymnasium.Env):
    observation_space: spaces.Space = spaces.Dict(PARTS)
    action_space = spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at, self.timestep = self.np_random.uniform(-1, 1, (2, 2)).astype(np.float32), 0
        return self.seen(), {}

    def step(self, action):
        self.at, self.timestep = self.at + action, self.timestep + 1
        return self.seen(), -float(np.abs(self.at).sum()), False, False, {}

    def seen(self):
        return {"lamp": self.timestep % 3 - 1, "at": self.at.copy(), "goal": np.array([0.25, -0.5])}


class Lacking(Parts):
    def seen(self):
        return {"lamp": 0, "at": self.at}


class Outside(Parts):
    def seen(self):
        return super().seen() | {"lamp": 7}


class Wider(Parts):
    def seen(self):
        return super().seen() | {"goal": np.zeros(3)}


class Old(Parts):
    def reset(self, *, seed=None, options=None):
        return np.zeros(3)


class Words(Parts):
    observation_space = spaces.Dict({"said": spaces.Text(9), "at": spaces.Box(-1, 1, (2,))})


class Pair(Parts):
    observation_space = spaces.Tuple((spaces.Discrete(2), spaces.MultiBinary(3)))

    def seen(self):
        return self.timestep % 2, np.array([1, 0, 1], np.int8)


class Number(Parts):
    observation_space = spaces.Box(-9, 9, (), np.float32)

    def seen(self):
        return np.float32(self.timestep)


for kind in (Parts, Lacking, Outside, Wider, Old, Words, Pair, Number):
    gymnasium.register(f"Flat{kind.__name__}-v0", entry_point=kind, max_episode_steps=6, disable_env_checker=True)

arrays = st.builds(
    lambda shape, kind: spaces.Box(-5, 5, shape, kind),
    st.lists(st.integers(1, 3), max_size=2).map(tuple), st.sampled_from([np.float32, np.float64, np.int64]),
)  # fmt: skip
simple = st.one_of(
    arrays, st.builds(spaces.Discrete, st.integers(1, 4), start=st.integers(-2, 2)),
    st.builds(spaces.MultiDiscrete, st.lists(st.integers(1, 4), min_size=1, max_size=3)),
    st.builds(spaces.MultiBinary, st.integers(1, 4)),
)  # fmt: skip
nested = st.recursive(
    simple,
    lambda one: st.one_of(
        st.dictionaries(st.sampled_from("abcd"), one, min_size=1, max_size=3).map(spaces.Dict),
        st.lists(one, min_size=1, max_size=3).map(spaces.Tuple),
    ),
    max_leaves=5,
)


@settings(deadline=None, max_examples=60)
@given(nested, st.integers(1, 4), st.integers(0, 100))
def test_it_is_gymnasiums_rule_for_many_timesteps_at_once(space, rows, seed):
    space.seed(seed)
    each = [space.sample() for _ in range(rows)]
    expected = np.stack([spaces.flatten(space, one) for one in each])
    found = flattened(space, stacked(space, each), rows)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected.astype(np.float32))
    assert sum(size for _, size in parts_of(space)) == found.shape[1]
    back = unflattened(space, found)
    np.testing.assert_array_equal(flattened(space, back, rows), found)
    for one, other in zip(values_of(space, back, ""), values_of(space, stacked(space, each), ""), strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)


def test_parts_come_in_the_order_of_their_names_whatever_the_space_keeps():
    assert list(spaces.Dict(PARTS)) == ["goal", "at", "lamp"]
    assert list(parts_of(spaces.Dict(PARTS))) == [("at", 4), ("goal", 2), ("lamp", 3)]
    environments = make_environments("FlatParts-v0", 2)
    first = environments.reset([3, 4])
    inner = gymnasium.make("FlatParts-v0").reset(seed=4)[0]
    np.testing.assert_array_equal(first[1], [*inner["at"].ravel(), 0.25, -0.5, 1, 0, 0])
    after = environments.step(np.zeros((2, 1), np.float32))[0]
    assert after[1, -3:].tolist() == [0, 1, 0]


def test_an_array_stays_as_it_is_and_a_wrapped_environment_can_be_made_again():
    plain = FlattenedObservations(gymnasium.make("CartPole-v1"))
    assert plain.observation_space == gymnasium.make("CartPole-v1").observation_space
    np.testing.assert_array_equal(plain.reset(seed=1)[0], gymnasium.make("CartPole-v1").reset(seed=1)[0])
    again = gymnasium.make(FlattenedObservations(gymnasium.make("FrozenLake-v1")).spec)
    assert again.reset(seed=1)[0].tolist() == [1.0, *[0.0] * 15]


def test_nested_parts_are_named_by_their_path():
    space = spaces.Dict(
        {"b": spaces.Tuple((spaces.Discrete(2), spaces.Box(0, 1, (3,)))), "a": spaces.MultiDiscrete([2, 3])}
    )
    assert described(space) == "a (5), b/0 (2), b/1 (3)"
    assert described(spaces.Discrete(16)) == "Discrete (16)"


@pytest.mark.parametrize(("name", "expected"), [
    ("FlatPair-v0", [[1, 0, 1, 0, 1], [0, 1, 1, 0, 1]]), ("FlatNumber-v0", [[0.0], [1.0]]),
    ("FrozenLake-v1", [[1.0, *[0.0] * 15]]),
])  # fmt: skip
def test_choices_pairs_and_single_numbers(name, expected):
    environments = make_environments(name, 1)
    found = [environments.reset([0])[0].tolist()]
    if len(expected) > 1:
        found.append(environments.step(np.zeros((1, 1), np.float32))[0][0].tolist())
    assert found == expected
    assert environment_spec(name).observation_shape == (len(expected[0]),)


@pytest.mark.parametrize(("name", "said"), [
    ("FlatLacking-v0", r"FlatLacking-v0: an observation has parts \['at', 'lamp'\]; expected \['at', 'goal', 'lamp'\]"),
    ("FlatOutside-v0", "FlatOutside-v0: the part 'lamp' of an observation holds choice 8 counted from its first"),
    ("FlatWider-v0", r"the part 'goal' of an observation is of shape \(3,\); expected \(2,\)"),
    ("FlatOld-v0", r"FlatOld-v0: reset gave something else; expected \(observation, info\)"),
    ("FlatWords-v0", r"FlatWords-v0: the part 'said' of the observations is Text.*; expected Box, Discrete"),
])  # fmt: skip
def test_what_is_not_of_its_space_is_said_and_nothing_is_written(name, said, tmp_path):
    with pytest.raises(UsageError, match=said):
        collect_random(name, 20, 0, tmp_path / "x.hdf5")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("environment", ["FlatParts-v0", "FrozenLake-v1"])
def test_from_recording_to_acting_in_a_loop_of_ones_own(environment, tmp_path):
    data = collect_random(environment, 60, 0, tmp_path / "data.hdf5")
    assert data.observation_shape == environment_spec(environment).observation_shape
    model = DecisionTransformerConfig(context_length=3, width=8, layers=1)
    run = facade.train(data, tmp_path / "run", model=model, training=TrainingConfig(updates=2, batch_size=8))
    assert len(facade.evaluate(run, episodes=3)) == 3
    policy = facade.load_policy(run)
    env = FlattenedObservations(gymnasium.make(environment))
    policy.reset(num_envs=1, target_return=0.0)
    if environment == "FlatParts-v0":
        with pytest.raises(
            UsageError, match=r"observations are a dict that is no array of numbers.*FlattenedObservations\(env\)"
        ):
            policy.act(env.unwrapped.reset(seed=1)[0])
    action = policy.act(env.reset(seed=1)[0][None])[0]
    assert env.unwrapped.action_space.contains(action if environment == "FlatParts-v0" else int(action))
