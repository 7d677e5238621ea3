"""Steps of Gymnasium's vector environments that only reset: they are found, and nothing else is taken for one."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

import foretell
from foretell.core.errors import DatasetError
from foretell.datasets.doctor import diagnose
from foretell.environments.making import environment_spec

ENVIRONMENTS, STEPS = 2, 1200
CHOICES = ("FrozenLake-v1", "CliffWalking-v1", "Blackjack-v1", "Taxi-v4")
COMING_AGAIN = ("FrozenLake-v1", "CliffWalking-v1 30", "Blackjack-v1", "PlainDot-v0", "Dot-v0")
"""One-hot vectors and images; behind a name its time limit."""


class Dot(gymnasium.Env):
    """A dot that goes at random over a picture of noise, dim or bright by episode, until it meets an edge."""

    observation_space = gymnasium.spaces.Box(0, 255, (12, 12, 1), np.uint8)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, noise=20):
        self.noise, self.light = noise, 0

    def _seen(self):
        seen = np.full((12, 12, 1), self.light, np.uint8)
        seen += self.np_random.integers(0, self.noise + 1, seen.shape, dtype=np.uint8)
        seen[tuple(self.dot)] = 255
        return seen

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.dot = self.np_random.integers(4, 8, 2)
        self.light = (self.light + self.np_random.integers(50, 150)) % 200 if self.noise else 100
        return self._seen(), {}

    def step(self, action):
        self.dot = self.dot + self.np_random.integers(-1, 2, 2)
        return self._seen(), 0.0, bool((self.dot % 11 == 0).any()), False, {}


@pytest.fixture(autouse=True, scope="module")
def dots():
    gymnasium.register("Dot-v0", Dot, max_episode_steps=60)
    gymnasium.register("PlainDot-v0", Dot, max_episode_steps=60, kwargs={"noise": 0})
    yield
    for name in ("Dot-v0", "PlainDot-v0"):
        del gymnasium.registry[name]


def _recorded(name, mode, *, keep_resets=True, steps=STEPS, final=("terminated", "truncated")):
    """Columns of random play, as a loop over a vector environment keeps them, one environment behind the other."""
    name, _, limit = name.partition(" ")
    envs = gymnasium.make_vec(
        name, num_envs=ENVIRONMENTS, vectorization_mode="sync", vector_kwargs={"autoreset_mode": mode},
        wrappers=[foretell.FlattenedObservations] if name in CHOICES else None,
        **({"max_episode_steps": int(limit)} if limit else {}),
    )  # fmt: skip
    envs.action_space.seed(0)
    observations, _ = envs.reset(seed=0)
    rows = []
    for _ in range(steps):
        actions = envs.action_space.sample()
        following, rewards, terminated, truncated, infos = envs.step(actions)
        after = following.copy()
        if "final_obs" in infos:
            for one in np.flatnonzero(terminated & ("terminated" in final) | truncated & ("truncated" in final)):
                after[one] = infos["final_obs"][one]
        rows.append((observations, actions, rewards, terminated, truncated, after))
        observations = following.copy()
    envs.close()
    columns = [np.stack(column).swapaxes(0, 1) for column in zip(*rows, strict=True)]
    if not keep_resets:
        ends = columns[3] | columns[4]
        keep = [np.append(True, ~of_one[:-1]) for of_one in ends]  # as the finding says
        columns = [[of_one[kept] for of_one, kept in zip(column, keep, strict=True)] for column in columns]
    last = np.cumsum([len(of_one) for of_one in columns[2]]) - 1
    observations, actions, rewards, terminated, truncated, after = (np.concatenate(list(column)) for column in columns)
    truncated[last] |= ~terminated[last]
    return {
        "observations": observations, "actions": actions, "rewards": rewards, "terminations": terminated,
        "truncations": truncated & ~terminated, "next_observations": after,
        "episode_ends": np.flatnonzero(terminated | truncated) + 1,
    }  # fmt: skip


def _dataset(columns, *, following=True):
    return foretell.Dataset(name="played", **(columns if following else {**columns, "next_observations": None}))


def _checks(dataset, name):
    return {found.check: found for found in diagnose(dataset, environment_spec(name)) if found.severity == "error"}


@pytest.mark.parametrize("following", [True, False])
@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1"])
def test_steps_that_only_reset_are_found_and_nothing_is_said_of_what_follows_from_them(name, following):
    errors = _checks(_dataset(_recorded(name, AutoresetMode.NEXT_STEP), following=following), name)
    assert list(errors) == ["resets"]
    assert "episode 1, timestep 0" in errors["resets"].message
    assert "keep = numpy.append(True, ~ends[:-1])" in errors["resets"].message


@pytest.mark.parametrize("following", [True, False])
@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1"])
def test_data_without_them_have_a_clean_bill(name, following):
    mended = _recorded(name, AutoresetMode.NEXT_STEP, keep_resets=False)
    same_step = _recorded(name, AutoresetMode.SAME_STEP)
    for columns in (mended, same_step):
        assert not _checks(_dataset(columns, following=following), name)


@pytest.mark.parametrize("final", [(), ("truncated",)])  # the latter as CleanRL's loops
@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1", "Acrobot-v1 100"])
def test_the_next_episodes_start_in_the_place_of_a_final_observation_is_found(name, final):
    columns = _recorded(name, AutoresetMode.SAME_STEP, steps=2400, final=final)
    wrong = columns["terminations"] if final else columns["terminations"] | columns["truncations"]
    wrong = wrong & (np.arange(len(wrong)) % 2400 != 2399)  # of each environment the last leads on, or is unknown
    data = _dataset(columns)
    if not wrong.any():
        assert not _checks(data, name.split()[0])
        return
    errors = _checks(data, name.split()[0])
    assert set(errors) - {"replay"} == {"seams"}, "of known rules, they say that no step leads there as well"
    message = errors["seams"].message
    assert f"is where the next episode starts ({wrong.sum()} such ends)" in message
    assert 'infos["final_obs"]' in message
    assert not _checks(_dataset(columns, following=False), name.split()[0]), "without the column, as it says"


def test_where_most_timesteps_earn_nothing_a_leap_tells():
    columns = _recorded("CartPole-v1", AutoresetMode.NEXT_STEP)
    rare = {**columns, "rewards": columns["terminations"].astype(float)}
    assert list(_checks(_dataset(rare), "CartPole-v1")) == ["resets"]


@pytest.mark.parametrize("name", COMING_AGAIN)
def test_of_choices_and_images_they_are_found_too(name):
    steps = 4000 if name == "Blackjack-v1" else STEPS  # of which most are new in fewer
    found = _checks(_dataset(_recorded(name, AutoresetMode.NEXT_STEP, steps=steps)), name.split()[0])
    assert list(found) == ["resets"]


@pytest.mark.parametrize("following", [True, False])
@pytest.mark.parametrize("name", [*COMING_AGAIN, "Taxi-v4 40"])
def test_choices_and_images_without_them_have_a_clean_bill(name, following):
    for mode, keep_resets in ((AutoresetMode.NEXT_STEP, False), (AutoresetMode.SAME_STEP, True)):
        columns = _recorded(name, mode, keep_resets=keep_resets)
        assert not _checks(_dataset(columns, following=following), name.split()[0])


@pytest.mark.parametrize("rewards", ["rare", "everywhere", "none"])
@pytest.mark.parametrize("name", ["CliffWalking-v1 5000", "PlainDot-v0", "Dot-v0", "Taxi-v4 5000"])
def test_a_recording_that_was_cut_has_none(name, rewards):
    """Episodes that go on from each other, and earn nothing at first: no step leads elsewhere."""
    columns = _recorded(name, AutoresetMode.SAME_STEP)
    ends = np.flatnonzero(np.arange(len(columns["rewards"])) % 7 == 6) + 1
    inner = ~(columns["terminations"] | columns["truncations"])
    pieces = [end for end in ends if inner[end - 7 : end].all()]
    rows = np.concatenate([np.arange(end - 7, end) for end in pieces])
    assert (np.diff(pieces) == 7).mean() > 0.6  # which go on from each other
    earned = {"rare": np.arange(len(rows)) % 7 != 0, "everywhere": np.ones(len(rows)), "none": np.zeros(len(rows))}
    last = np.arange(len(rows)) % 7 == 6
    data = foretell.Dataset(
        name="cut", observations=columns["observations"][rows], actions=columns["actions"][rows],
        rewards=earned[rewards].astype(float), terminations=np.zeros(len(rows), bool), truncations=last,
        next_observations=columns["next_observations"][rows], episode_ends=np.flatnonzero(last) + 1,
    )  # fmt: skip
    assert "resets" not in {found.check for found in diagnose(data)}


def test_an_end_behind_which_the_task_goes_on_is_none():
    """A goal that ends nothing: terminations, rewards of 0 in the rows behind, steps like all others."""
    generator = np.random.default_rng(0)
    observations = np.cumsum(generator.normal(size=(2000, 3)), axis=0).astype(np.float32)
    terminations = np.arange(2000) % 50 == 49
    columns = {
        "observations": observations[:-1], "next_observations": observations[1:],
        "actions": generator.uniform(-1, 1, (1999, 1)), "rewards": terminations[:-1].astype(float),
        "terminations": terminations[:-1], "truncations": np.arange(1999) == 1998,
        "episode_ends": np.append(np.flatnonzero(terminations) + 1, 1999)[[*range(39), -1]],
    }  # fmt: skip
    found = {one.check for one in diagnose(_dataset(columns)) if one.severity == "error"}
    assert found == {"seams"}


@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1", "Acrobot-v1"])
def test_a_recording_that_was_cut_does_not_start_anew(name):
    """Its episodes go on from each other by steps like all others."""
    columns = _recorded(name, AutoresetMode.SAME_STEP)
    cut = {
        **columns,
        "truncations": columns["truncations"] | (np.arange(2 * STEPS) % 7 == 6) & ~columns["terminations"],
    }
    cut["episode_ends"] = np.flatnonzero(cut["truncations"] | cut["terminations"]) + 1
    (found,) = [one for one in diagnose(_dataset(cut)) if one.check == "seams"]
    assert "was one recording cut in two?" in found.message


def _cut(observations, rewards, length, *, following):
    """One recording cut into episodes that go on from each other, as truncations."""
    steps = (len(observations) - 1) // length * length
    last = np.arange(steps) % length == length - 1
    return foretell.Dataset(
        name="cut", observations=observations[:steps], actions=np.random.default_rng(1).uniform(-1, 1, (steps, 1)),
        rewards=np.where(np.arange(steps) % length == 0, 0.0, rewards[:steps]), terminations=np.zeros(steps, bool),
        truncations=last, next_observations=observations[1 : steps + 1] if following else None,
        episode_ends=np.flatnonzero(last) + 1,
    )  # fmt: skip


@pytest.mark.parametrize("following", [True, False])
@pytest.mark.parametrize("kind", ["prices", "a target", "a constant"])
def test_first_rewards_of_zero_alone_are_no_resets(kind, following):
    """Positions begin empty and earn nothing at first; nothing else sets these rows apart."""
    generator = np.random.default_rng(0)
    steps = generator.normal(size=(3001, 2))
    observations = {
        "prices": np.cumsum(steps, axis=0), "a target": 0.01 * steps, "a constant": np.ones((3001, 2)),
    }[kind]  # fmt: skip
    data = _cut(observations.astype(np.float32), generator.normal(size=3001), 50, following=following)
    assert "resets" not in {found.check for found in diagnose(data)}


def test_a_final_observation_that_is_every_start_is_no_reset():
    """A table that is cleared at the end, and dealt anew by the first action, which earns nothing."""
    generator = np.random.default_rng(0)
    observations = generator.uniform(5, 6, size=(3001, 2)).astype(np.float32)
    observations[::50] = 0
    data = _cut(observations, generator.normal(size=3001), 50, following=True)
    assert "resets" not in {found.check for found in diagnose(data)}


def test_training_is_refused(tmp_path):
    data = _dataset(_recorded("CartPole-v1", AutoresetMode.NEXT_STEP))
    with pytest.raises(DatasetError, match=r"no timestep.*Leave out the row behind each end"):
        foretell.train(data, tmp_path / "run", environment="CartPole-v1")
