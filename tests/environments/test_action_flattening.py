"""Environments whose actions are several choices, choices numbered from elsewhere, or several arrays."""

from __future__ import annotations

import itertools
import math

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

import foretell
from foretell import facade
from foretell.collection.recipes import collect_random
from foretell.core.errors import DatasetError, UsageError
from foretell.datasets.recorded_environment import changes_of_environment
from foretell.environments.action_flattening import ActionParts, FlattenedActions, is_flat
from foretell.environments.making import environment_spec, make_environment, make_environments
from foretell.models.configs import DecisionTransformerConfig
from foretell.training.configs import TrainingConfig
from reference.spaces import stacked


class Lock(gymnasium.Env):
    """Opens where both wheels are turned to what is shown: a reward of 1, else 0."""

    observation_space = spaces.Box(0, 1, (5,), np.float32)
    action_space: spaces.Space = spaces.MultiDiscrete([2, 3])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.taken = []
        return self.shown(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        self.taken.append(action)
        reward = float(self.opens(action))
        return self.shown(), reward, False, False, {}

    def shown(self):
        self.wanted = (int(self.np_random.integers(2)), int(self.np_random.integers(3)))
        found = np.zeros(5, np.float32)
        found[[self.wanted[0], 2 + self.wanted[1]]] = 1
        return found

    def opens(self, action):
        return tuple(int(one) for one in action) == self.wanted


class NamedLock(Lock):
    action_space = spaces.Dict({"b": spaces.Discrete(3, start=-1), "a": spaces.MultiBinary(1)})

    def opens(self, action):
        return (int(action["a"][0]), int(action["b"]) + 1) == self.wanted


class FromOne(Lock):
    action_space = spaces.Discrete(6, start=1)

    def opens(self, action):
        return int(action) == 1 + 3 * self.wanted[0] + self.wanted[1]


class Square(Lock):
    action_space = spaces.Box(np.float64([[-1, -2], [-3, -4]]), np.float64([[1, 2], [3, 4]]), dtype=np.float64)

    def opens(self, action):
        return action[1, 0] > 0


LOCKS = {"Lock": Lock, "NamedLock": NamedLock, "FromOne": FromOne, "Square": Square}
for name in LOCKS:
    gymnasium.register(f"{name}-v0", entry_point=f"{__name__}:{name}", max_episode_steps=4)

choices = st.one_of(
    st.builds(spaces.Discrete, st.integers(1, 4), start=st.integers(-3, 3)),
    st.builds(spaces.MultiDiscrete, st.lists(st.integers(1, 3), min_size=1, max_size=3)),
    st.builds(lambda start: spaces.MultiDiscrete([[2, 1], [3, 2]], start=np.full((2, 2), start)), st.integers(-2, 2)),
    st.builds(spaces.MultiBinary, st.sampled_from([1, 2, (1, 2)])),
    st.builds(
        lambda low, kind: spaces.Box(low, low + 2, (2,), kind), st.integers(0, 3), st.sampled_from([np.int64, np.uint8])
    ),
)
numbers = st.builds(
    lambda shape, kind: spaces.Box(-5, 5, shape, kind),
    st.lists(st.integers(1, 3), max_size=2).map(tuple), st.sampled_from([np.float32, np.float64]),
)  # fmt: skip


def nested(leaf):
    return st.one_of(
        leaf, st.dictionaries(st.sampled_from("abcd"), leaf, min_size=1, max_size=2).map(spaces.Dict),
        st.tuples(leaf, st.dictionaries(st.sampled_from("ab"), leaf, min_size=1, max_size=1).map(spaces.Dict)).map(
            spaces.Tuple
        ),
    )  # fmt: skip


def same(one, other):
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return np.asarray(one).dtype == np.asarray(other).dtype and np.array_equal(one, other)


@settings(deadline=None, max_examples=80)
@given(nested(choices))
def test_every_combination_is_another_action_of_the_space_and_comes_back(space):
    parts = ActionParts(space)
    numbered = np.arange(parts.flat.n)
    actions = parts.unflattened(numbered)
    np.testing.assert_array_equal(parts.flattened(actions), numbered)
    assert parts.flattened(actions).dtype == np.int64
    env = FlattenedActions(_Taking(space))
    assert env.action_space == spaces.Discrete(len(numbered))
    each = [env.step(number)[-1]["action"] for number in numbered]
    assert all(space.contains(action) for action in each)
    assert same(stacked(space, each), actions)


@settings(deadline=None, max_examples=80)
@given(nested(choices | numbers).filter(lambda space: _kinds(space) == 1), st.integers(1, 4), st.integers(0, 99))
def test_what_was_recorded_comes_back_bit_for_bit(space, rows, seed):
    space.seed(seed)
    each = [space.sample() for _ in range(rows)]
    recorded, parts = stacked(space, each), ActionParts(space)
    flat = parts.flattened(recorded)
    back = parts.unflattened(flat)
    if flat.dtype == np.float32:  # of numbers in float64, to rounding
        assert flat.shape == (rows, *parts.flat.shape)
        np.testing.assert_array_equal(flat, parts.flattened(back))
    else:
        assert same(back, recorded)
    assert all(parts.flat.contains(one.astype(parts.flat.dtype)) for one in flat)


class _Taking(gymnasium.Env):
    observation_space = spaces.Box(-1, 1, (1,))

    def __init__(self, space):
        self.action_space = space

    def step(self, action):
        return np.zeros(1, np.float32), 0.0, False, False, {"action": action}


def _kinds(space):
    parts = spaces.Tuple((space,))
    leaves = list(_leaves(parts))
    return len({isinstance(leaf, spaces.Box) and leaf.dtype.kind == "f" for leaf in leaves})


def _leaves(space):
    if isinstance(space, spaces.Dict | spaces.Tuple):
        for one in space.values() if isinstance(space, spaces.Dict) else space:
            yield from _leaves(one)
    else:
        yield space


def test_the_last_choice_changes_fastest_and_parts_come_in_the_order_of_their_names():
    parts = ActionParts(spaces.MultiDiscrete([2, 3]))
    assert parts.unflattened(np.arange(6)).tolist() == [list(one) for one in itertools.product(range(2), range(3))]
    named = ActionParts(NamedLock.action_space)
    assert named.unflattened(np.array([4]))["b"].tolist() == [0]
    assert named.unflattened(np.array([4]))["a"].tolist() == [[1]]
    assert named.described() == "choice 0 to 5 of a (2), b (3), the last changing fastest"
    assert parts.described() == "choice 0 to 5 of MultiDiscrete (2 x 3), the last changing fastest"
    assert ActionParts(Square.action_space).described() == "numbers of Box (4)"


@pytest.mark.parametrize(("space", "actions", "said"), [
    (spaces.MultiDiscrete([2, 3]), [[0, 0], [1, 3]], "an action holds 3 in row 1; expected choices of MultiDiscrete"),
    (spaces.MultiDiscrete([2, 3]), [[0.0, 0.5]], "an action holds 0.5 in row 0"),
    (spaces.MultiDiscrete([2, 3]), [[0, 0, 0]], r"an action is of type int64 and shape \(1, 3\); .*\(rows, 2\)"),
    (spaces.Discrete(3, start=1), [1, 0], "an action holds 0 in row 1"),
    (NamedLock.action_space, {"a": [[0]]}, r"an action has parts \['a'\]; expected \['a', 'b'\]"),
    (NamedLock.action_space, {"a": [[0]], "b": [9]}, "the part 'b' of an action holds 9 in row 0"),
    (NamedLock.action_space, {"a": [[0]], "b": [0, 1]}, r"parts of the actions have \[1, 2\] rows"),
    (spaces.Tuple((spaces.Discrete(2),)), [0, 1], "an action has parts 2; expected 1"),
    (spaces.Box(-1, 1, (2, 2)), ["word"], "an action is of type <U4"),
])  # fmt: skip
def test_recorded_actions_that_are_not_of_the_space_are_refused(space, actions, said):
    with pytest.raises(UsageError, match=said):
        FlattenedActions(_Taking(space)).flattened(actions)


def test_choices_of_one_alone_are_none():
    parts = ActionParts(spaces.MultiDiscrete([1] * 70 + [2], start=np.full(71, 3)))
    assert parts.flat == spaces.Discrete(2)
    actions = parts.unflattened(np.array([0, 1]))
    assert actions[:, :70].tolist() == [[3] * 70] * 2
    assert actions[:, 70].tolist() == [3, 4]
    assert parts.flattened(actions).tolist() == [0, 1]
    only = ActionParts(spaces.MultiDiscrete([1, 1]))
    assert only.flattened(only.unflattened(np.array([0]))).tolist() == [0]
    assert only.flat == spaces.Discrete(1)


def test_what_is_learned_as_it_is_stays_as_it_is():
    for space in (spaces.Discrete(3), spaces.Box(-1, 1, (2,))):
        env, recorded = FlattenedActions(_Taking(space)), np.array([[1], [2]])
        assert is_flat(space)
        assert env.action_space is space
        assert env.flattened(recorded).tolist() == recorded.tolist()
        assert env.step(1)[-1]["action"] == 1
    np.testing.assert_array_equal(ActionParts(spaces.Discrete(3, start=1)).flattened([[1], [3]]), [0, 2])


@pytest.mark.parametrize(("name", "num_actions", "low"), [
    ("Lock", 6, None), ("NamedLock", 6, None), ("FromOne", 6, None), ("Square", None, (-1.0, -2.0, -3.0, -4.0)),
])  # fmt: skip
def test_the_environment_is_known_by_what_models_learn(name, num_actions, low):
    spec = environment_spec(f"{name}-v0")
    assert (spec.num_actions, spec.action_low, spec.action_dim) == (num_actions, low, num_actions or 4)
    recorded = FlattenedActions(gymnasium.make(f"{name}-v0")).spec
    assert changes_of_environment(recorded) == ()
    assert gymnasium.make(recorded).action_space == make_environment(f"{name}-v0").action_space


@pytest.mark.parametrize("name", ["Lock", "NamedLock", "FromOne"])
def test_the_right_combination_opens(name):
    environments = make_environments(f"{name}-v0", 1)
    observations = environments.reset([7])
    for _ in range(4):
        wheels = observations[0, :2].argmax(), observations[0, 2:].argmax()
        observations, rewards, *_ = environments.step(np.array([np.ravel_multi_index(wheels, (2, 3))]))
        assert rewards.tolist() == [1.0]


@pytest.mark.parametrize("name", list(LOCKS))
def test_from_recording_to_acting_in_a_loop_of_ones_own(name, tmp_path):
    data = collect_random(f"{name}-v0", 400, 0, tmp_path / "data.hdf5")
    assert data.discrete == (name != "Square")
    model = DecisionTransformerConfig(context_length=1, width=32, layers=1, dropout=0.0)
    training = TrainingConfig(updates=150, batch_size=64, optimizer="muon")
    values = foretell.IQLConfig(updates=300, hidden_sizes=(32,), batch_size=64)
    run = facade.train(data, tmp_path / "run", model=model, training=training, condition="advantage", values=values)
    assert np.mean([record["return"] for record in facade.evaluate(run, episodes=20)]) > 3  # at random below 2
    policy, env = facade.load_policy(run), foretell.FlattenedActions(gymnasium.make(f"{name}-v0"))
    policy.reset(num_envs=1)
    observation, _ = env.reset(seed=3)
    _, reward, *_ = env.step(policy.act(observation[None])[0])
    policy.observe([reward])
    assert len(env.unwrapped.taken) == 1


def test_the_doctor_says_how_choices_are_numbered(tmp_path):
    rng = np.random.default_rng(0)
    of_both = rng.integers([2, 3], size=(40, 2))
    columns = {
        "observations": rng.random((40, 5), np.float32), "rewards": np.zeros(40, np.float32),
        "terminations": np.zeros(40, bool), "truncations": np.arange(40) % 4 == 3, "next_observations": None,
        "episode_ends": np.arange(4, 44, 4),
    }  # fmt: skip
    metadata = foretell.DatasetMetadata(environment="Lock-v0")
    raw = foretell.Dataset(name="raw", **columns, actions=of_both, metadata=metadata)
    with pytest.raises(DatasetError, match=r"of several choices, foretell.FlattenedActions\(env\).flattened"):
        facade.train(raw, tmp_path / "run", training=TrainingConfig(updates=1))
    numbered = foretell.FlattenedActions(gymnasium.make("Lock-v0")).flattened(of_both)
    assert numbered.tolist() == (3 * of_both[:, 0] + of_both[:, 1]).tolist()
    told = foretell.Dataset(name="told", **columns, actions=numbered, metadata=metadata)
    facade.train(told, tmp_path / "told", training=TrainingConfig(updates=1, batch_size=2))
    assert math.prod(told.actions.shape) == 40
