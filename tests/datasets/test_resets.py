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


def _recorded(name, mode, *, keep_resets=True):
    """Columns of random play, as a loop over a vector environment keeps them, one environment behind the other."""
    envs = gymnasium.make_vec(
        name, num_envs=ENVIRONMENTS, vectorization_mode="sync", vector_kwargs={"autoreset_mode": mode}
    )
    envs.action_space.seed(0)
    observations, _ = envs.reset(seed=0)
    rows = []
    for _ in range(STEPS):
        actions = envs.action_space.sample()
        following, rewards, terminated, truncated, infos = envs.step(actions)
        after = following.copy()
        if "final_obs" in infos:
            for one in np.flatnonzero(terminated | truncated):
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


def test_where_most_timesteps_earn_nothing_a_leap_tells():
    columns = _recorded("CartPole-v1", AutoresetMode.NEXT_STEP)
    rare = {**columns, "rewards": columns["terminations"].astype(float)}
    assert list(_checks(_dataset(rare), "CartPole-v1")) == ["resets"]


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
