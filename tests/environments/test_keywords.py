"""Names of environments with keywords: read, written in one way, made, and carried by data, runs and records."""

from __future__ import annotations

import json
import string

import gymnasium
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import foretell
from foretell.core.errors import UsageError
from foretell.datasets.boundaries import time_limit
from foretell.environments.keywords import canonical, named, parsed
from foretell.environments.making import environment_spec, make_environment

WORDS = st.text(string.ascii_letters + string.digits + "_.+-", max_size=6)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=6,
)
KEYS = st.text(string.ascii_lowercase + "_", min_size=1, max_size=5)


@given(st.dictionaries(KEYS, VALUES, max_size=3))
def test_every_name_that_is_written_is_read_as_it_was(keywords):
    name = named("Car-v0", keywords)
    if name is None:  # longer than names may be
        assert len("Car-v0" + json.dumps(keywords)) > 200
        return
    found = parsed(name)
    assert found == ("Car-v0", keywords)
    assert [*map(type, found[1].values())] == [type(keywords[key]) for key in sorted(keywords)]
    assert canonical(name) == name


@pytest.mark.parametrize(
    ("name", "one"),
    [
        ("Car-v0", "Car-v0"),
        ("Car-v0,b=True,a=None", "Car-v0,a=null,b=true"),
        ("Car-v0,a= 3", "Car-v0,a=3"),
        ("Car-v0,a=1e1", "Car-v0,a=10.0"),
        ('Car-v0,a="4x4"', "Car-v0,a=4x4"),
        ('Car-v0,a="3"', 'Car-v0,a="3"'),
        ("Car-v0,a=[[1, 0], [0,1]]", "Car-v0,a=[[1,0],[0,1]]"),
        ("Car-v0,a=FALSE,b=TRUE", "Car-v0,a=false,b=true"),
        ("Car-v0,a=.5,b=5.,c=+5,d=-.5e1,e=+1e1", "Car-v0,a=0.5,b=5.0,c=5,d=-5.0,e=10.0"),
        ("Car-v0,a=007,b=1.2.3,c=.,d=+,e=1e,f=1_0", "Car-v0,a=007,b=1.2.3,c=.,d=+,e=1e,f=1_0"),
        ('Car-v0,a=".5",b="FALSE"', 'Car-v0,a=".5",b="FALSE"'),
        ("Car-v0,a=", 'Car-v0,a=""'),
    ],
)
def test_an_environment_has_one_name(name, one):
    assert canonical(name) == one


@pytest.mark.parametrize(
    "behind",
    [
        "slippery", "=3", "a=3,a=4", "a=/etc/passwd", "a=../x", "a=x:y", "a={}", "a=NaN", "a=Infinity", "a=[1", "a=1]",
        'a=["x/y"]', "", "a b=1", "ä=1", "a=" + "x" * 300, "a=" + "[" * 200, "a=ü", "a=x\n",
    ],
)  # fmt: skip
def test_what_is_no_keyword_is_refused(behind):
    with pytest.raises(UsageError, match=r"expected (KEY=VALUE behind the id|at most 255)"):
        make_environment(f"CartPole-v1,{behind}")


@pytest.mark.parametrize(
    "value", [{"a": "x/y"}, {"a": {}}, {"a": float("nan")}, {"a": object()}, {"a": "x" * 300}, {1: 2}]
)
def test_what_no_name_says_has_none(value):
    assert named("Car-v0", value) is None


@pytest.mark.parametrize("key", ["render_mode", "disable_env_checker"])
def test_what_changes_no_number_is_in_no_name(key):
    with pytest.raises(UsageError, match=f"{key} changes no number, so no name has it; leave it out"):
        make_environment(f"CartPole-v1,{key}=human")
    assert named("CartPole-v1", {key: "human"}) is None


def test_no_module_is_imported_by_what_stands_behind_an_id():
    with pytest.raises(UsageError, match="names a module to import"):
        make_environment("antigravity:CartPole-v1,max_episode_steps=3")


def test_the_environment_is_made_so():
    env = make_environment("FrozenLake-v1,is_slippery=false,map_name=8x8,max_episode_steps=7")
    assert env.unwrapped.desc.shape == (8, 8)
    assert all(len(outcomes) == 1 for outcomes in env.unwrapped.P[9].values())  # of a slippery lake three
    spec = environment_spec("FrozenLake-v1,max_episode_steps=7,map_name=8x8,is_slippery=False")
    assert (spec.horizon, spec.observation_shape) == (7, (64,))
    assert spec.name == "FrozenLake-v1,is_slippery=false,map_name=8x8,max_episode_steps=7"


def test_what_it_takes_is_said():
    with pytest.raises(
        UsageError, match=r"unexpected keyword argument 'slippery'.*It takes desc, map_name, is_slippery"
    ):
        make_environment("FrozenLake-v1,slippery=true")
    with pytest.raises(UsageError, match=r"cannot be made \(KeyError: '9x9'\)"):
        make_environment("FrozenLake-v1,map_name=9x9")


def test_keywords_that_it_needs_are_said_too():
    def make(size, color="red", **kwargs):
        raise AssertionError("never made")

    gymnasium.register("Sized-v0", entry_point=make)
    try:
        with pytest.raises(UsageError, match=r"'size'.*It takes size, color\.$"):
            make_environment("Sized-v0,color=blue")
    finally:
        gymnasium.registry.pop("Sized-v0")


class Scaled(gymnasium.Env):
    """What it gives is multiplied by `factor`, which a word is found not to be at the first step."""

    observation_space = gymnasium.spaces.Box(-9, 9, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, factor=1.0, start=0.0, fails_at=99):
        self.factor, self.start, self.steps, self.fails_at = factor, start, 0, fails_at

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.full(1, self.start + 1.0, np.float32), {}

    def step(self, action):
        self.steps += 1
        if self.steps >= self.fails_at:
            raise RuntimeError("mine")
        return np.full(1, 1.0 / self.factor, np.float32), 1.0, False, False, {}


@pytest.fixture
def scaled():
    gymnasium.register("Scaled-v0", entry_point=Scaled, max_episode_steps=5)
    yield "Scaled-v0"
    gymnasium.registry.pop("Scaled-v0")


@pytest.mark.parametrize(("behind", "message"), [
    ("factor=abc", r"'Scaled-v0,factor=abc' fails at its first step \(TypeError: unsupported operand.*\)\. It was made "
     r"with factor='abc'; expected what it can begin with\. It takes factor, start, fails_at\.$"),
    ("start=[]", r"'Scaled-v0,start=\[\]' fails at its first reset \(TypeError: .*\)\. It was made with start=\[\];"),
    ("fails_at=1", r"fails at its first step \(RuntimeError: mine; test_keywords"),
])  # fmt: skip
def test_what_it_raises_as_it_begins_names_its_keywords(behind, message, scaled, tmp_path):
    with pytest.raises(UsageError, match=message) as raised:
        foretell.collect_random(f"{scaled},{behind}", 20, seed=0, path=tmp_path / "data.hdf5")
    assert isinstance(raised.value.__cause__, TypeError | RuntimeError)  # where it was raised is not hidden
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("behind", "fails_at"), [("factor=2.0", 3), ("max_episode_steps=3", 1)])
def test_what_it_raises_later_is_its_own_and_what_a_time_limit_has_no_part_in(behind, fails_at, scaled, tmp_path):
    gymnasium.registry[scaled].kwargs["fails_at"] = fails_at
    with pytest.raises(RuntimeError, match="mine"):
        foretell.collect_random(f"{scaled},{behind}", 20, seed=0, path=tmp_path / "data.hdf5")


def test_an_environment_may_be_made_of_another(cartpole_inside):
    """Gymnasium says of it that it is the other, once somebody has asked the other what it is."""
    env = make_environment(cartpole_inside)
    assert env.spec.id == "CartPole-v1"
    env.close()


@pytest.fixture
def cartpole_inside():
    def make():
        env = gymnasium.wrappers.TransformReward(gymnasium.make("CartPole-v1"), lambda reward: 2 * reward)
        assert env.spec is not None
        return env

    gymnasium.register("Doubled-v0", entry_point=make)
    yield "Doubled-v0"
    gymnasium.registry.pop("Doubled-v0")


def test_an_environment_s_own_mistake_goes_through():
    def wrong():
        raise RuntimeError("mine")

    gymnasium.register("Wrong-v0", entry_point=wrong)
    try:
        with pytest.raises(RuntimeError, match="mine"):
            make_environment("Wrong-v0")
    finally:
        gymnasium.registry.pop("Wrong-v0")


def test_pendulum_with_keywords_is_not_the_array_of_pendulum():
    """With g = 0 and no torque it turns on as it began."""
    records = foretell.evaluate(
        lambda observations: np.zeros((len(observations), 1)), environment="Pendulum-v1,g=0", name="still", episodes=3
    )
    env = gymnasium.make("Pendulum-v1", g=0)
    for record in records:
        env.reset(seed=record["start"])
        rewards = [env.step([0.0])[1] for _ in range(200)]
        assert record["return"] == pytest.approx(sum(rewards), rel=1e-5)
        assert record["environment"] == "Pendulum-v1,g=0"


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("Pendulum-v1", 200), ("Pendulum-v1,g=3", 200), ("Pendulum-v1,max_episode_steps=50", 50),
        ("Pendulum-v1,max_episode_steps=-1", None), ("Pendulum-v1,max_episode_steps=null", 200),
        ("Pendulum-v1,in a hurry", None),
        ("Nope-v0,max_episode_steps=5", None), ("os:Pendulum-v1,max_episode_steps=5", None), (None, None),
    ],
)  # fmt: skip
def test_episodes_of_files_without_ends_are_cut_at_the_limit_of_the_name(name, limit):
    assert time_limit(name) == limit
