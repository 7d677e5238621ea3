"""Rows that were mixed, and terminations that end nothing, are seen in the observations alone; honest data are not."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from faults.defect_forms import play
from foretell.datasets.doctor import diagnose
from foretell.datasets.doctor_order import order, terminations_run_on
from foretell.environments.making import make_environment
from reference.making import make_dataset

ROWS = 1200


def dataset(observations, done=None, *, terminated=False, **columns):
    """Without `next_observations`; `done` says after which rows episodes end."""
    steps = len(observations)
    done = np.zeros(steps, bool) if done is None else np.array(done)
    ends = np.flatnonzero(done | (np.arange(steps) == steps - 1)) + 1
    data = make_dataset(np.diff(ends, prepend=0), observations=np.asarray(observations, np.float32), **columns)
    return replace(data, terminations=done, truncations=np.asarray(data.truncations) & ~done) if terminated else data


def recorded(environments, *, environment="Pendulum-v1", length=200, episodes=3):
    """Observations `(time, environments, numbers)` of random play, and where episodes end."""
    streams, ends = [], []
    for seed in range(environments):
        columns = play([length] * episodes, environment=environment, seed=seed).columns
        streams.append(columns["observations"])
        ends.append(columns["terminals"] | columns["timeouts"])
    shortest = min(map(len, streams))
    return np.stack([one[:shortest] for one in streams], 1), np.stack([one[:shortest] for one in ends], 1)


def flat(values):
    return values.reshape(-1, *values.shape[2:])


@pytest.mark.parametrize("environments", [2, 4, 16])
@pytest.mark.parametrize("settings", [{}, {"environment": "CartPole-v1", "length": 500, "episodes": 25}])
def test_environments_that_were_stepped_side_by_side_are_counted(environments, settings):
    observations, ends = recorded(environments, **settings)
    (found,) = order(dataset(flat(observations), flat(ends)))
    assert (found.severity, found.check) == ("warning", "order")
    assert f"observations {environments} rows apart go on from each other" in found.message
    assert f"Were {environments} environments stepped side by side?" in found.message
    assert "array.swapaxes(0, 1).reshape(-1, *array.shape[2:])" in found.message
    assert list(order(dataset(flat(observations.swapaxes(0, 1)), flat(ends.swapaxes(0, 1))))) == [], "as it says"


def test_the_doctor_says_so_and_what_the_next_observations_show_as_before():
    observations, ends = recorded(4)
    data = dataset(flat(observations), flat(ends))
    assert [one.check for one in diagnose(data)] == ["order", "lengths"]
    following = np.concatenate([observations[1:], observations[-1:]])
    findings = diagnose(replace(data, next_observations=flat(following)))
    assert ("error", "transitions") in [(one.severity, one.check) for one in findings]
    assert "order" not in [one.check for one in findings]


def test_falls_in_shuffled_order():
    columns = play([500] * 60, environment="CartPole-v1").columns
    rows = np.random.default_rng(0).permutation(len(columns["rewards"]))
    observations, ends = columns["observations"], columns["terminals"]
    assert list(order(dataset(observations, ends))) == []
    (found,) = order(dataset(observations[rows], ends[rows]))
    assert (found.severity, found.check) == ("warning", "order")
    assert "as far from each other as any two" in found.message
    assert "episodes end at random. Were rows shuffled?" in found.message
    assert "If observations are noise by right" in found.message


def test_one_long_recording_in_shuffled_order():
    """Of twelve numbers, so that no two parts of it come close; the place that is named lies between the other two."""
    angles = np.linspace(0, 40, ROWS)[:, None] * np.linspace(0.3, 2, 12) + np.arange(12)
    rows = np.random.default_rng(0).permutation(ROWS)
    assert list(order(dataset(np.sin(angles)))) == []
    (found,) = order(dataset(np.sin(angles[rows])))
    said = re.search(
        r"that of .*timestep (\d+) between those of .*timestep (\d+) and .*timestep (\d+)\.", found.message
    )
    row, *around = (int(rows[int(number)]) for number in said.groups())
    assert sorted(around) == [row - 1, row + 1], found.message


NOISE = {
    "one number": lambda rng: rng.normal(size=(ROWS, 1)),
    "independent": lambda rng: rng.normal(size=(ROWS, 5)),
    "heavy tails": lambda rng: rng.standard_cauchy(size=(ROWS, 4)),
    "related": lambda rng: rng.normal(size=(ROWS, 2)) @ rng.normal(size=(2, 6)),
    "on a circle": lambda rng: (lambda turn: np.stack([np.cos(turn), np.sin(turn)], 1))(rng.uniform(0, 7, ROWS)),
    "choices": lambda rng: np.eye(6)[rng.integers(6, size=ROWS)],
    "flags rarely set": lambda rng: rng.random((ROWS, 10)) < 0.02,
    "whole numbers": lambda rng: rng.integers(30, size=(ROWS, 2)),
    "a goal for each episode": lambda rng: np.hstack([np.repeat(rng.normal(size=(ROWS // 5, 2)), 5, 0),
                                                      rng.normal(size=(ROWS, 3))]),
    "constant": lambda rng: np.ones((ROWS, 3)),
    "two players in turn": lambda rng: np.hstack([np.arange(ROWS)[:, None] % 2, rng.normal(size=(ROWS, 2))]),
    "a clock of three": lambda rng: np.hstack([np.eye(3)[np.arange(ROWS) % 3], rng.normal(size=(ROWS, 1))]),
    "a gait of two": lambda rng: _gait(rng, 2),
    "a gait of three": lambda rng: _gait(rng, 3),
    "a gait of five": lambda rng: _gait(rng, 5),
}  # fmt: skip


def _gait(rng, period):
    turn = np.cumsum(2 * np.pi / period + 0.02 * rng.normal(size=ROWS))
    return np.stack([np.cos(turn), np.sin(turn)], 1) + 0.02 * rng.normal(size=(ROWS, 2))


@pytest.mark.parametrize("kind", NOISE)
@pytest.mark.parametrize("length", [1, 3, 5, 50, ROWS, "1 to 3"])
def test_honest_noise_is_left_alone(kind, length):
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 4, ROWS) if length == "1 to 3" else np.full(ROWS, length)
    done = np.isin(np.arange(1, ROWS + 1), np.cumsum(lengths))
    data = dataset(NOISE[kind](rng), done, terminated=True)
    assert list(order(data)) == []
    assert list(terminations_run_on(data)) == []


@pytest.mark.parametrize("name", [
    "Acrobot-v1", "Blackjack-v1", "CartPole-v1", "CliffWalking-v1", "FrozenLake-v1", "MountainCar-v0",
    "MountainCarContinuous-v0", "Pendulum-v1", "Taxi-v4",
])  # fmt: skip
def test_random_play_in_order_is_left_alone(name):
    env = make_environment(name)
    env.action_space.seed(0)
    rows, done, observation = [], [], env.reset(seed=0)[0]
    for _ in range(1000):
        rows.append(observation)
        observation, _, terminated, truncated, _ = env.step(env.action_space.sample())
        done.append(terminated or truncated)
        if done[-1]:
            observation = env.reset()[0]
    env.close()
    data = dataset(rows, done, terminated=True)
    assert list(order(data)) == []
    assert list(terminations_run_on(data)) == []


def maze(*, reached, away=True, timeouts=True):
    """20 episodes of 100 timesteps on the way to a goal, whose last `reached` timesteps are terminals."""
    rng = np.random.default_rng(0)
    goal = 5.0 * away
    way = np.minimum(np.arange(100) / (100 - reached), 1)[:, None] * goal
    slow = np.zeros((20, 100, 4))
    for t in range(1, 100):
        slow[:, t] = 0.95 * slow[:, t - 1] + 0.1 * rng.normal(size=(20, 4))
    observations = np.concatenate([way + 0.02 * rng.normal(size=(20, 100, 2)), slow], axis=2).reshape(-1, 6)
    inside = np.tile(np.arange(100) >= 100 - reached, 20)
    last = np.tile(np.arange(100) == 99, 20)
    data = dataset(observations, inside | last)
    return replace(data, terminations=inside, truncations=last & timeouts)


def test_terminals_at_the_goal_of_episodes_that_go_on():
    (found,) = terminations_run_on(maze(reached=40))
    assert (found.severity, found.check) == ("warning", "seams")
    count = int(found.message.split(" ")[1])
    assert 700 < count <= 780, "39 of the 40 of each episode go on, and 1 in 20 steps is longer than most"
    assert f"after {count} of 799 terminations the next episode goes on where the last one ended" in found.message
    assert "(first: episode 0, timestep 60)" in found.message
    assert "--ends-at timeouts" in found.message
    (without,) = terminations_run_on(maze(reached=40, timeouts=False))
    assert "--ends-at" not in without.message, "there are no others that could say it"


@pytest.mark.parametrize("away", [True, False])
def test_terminals_that_end_episodes(away):
    """Even where all episodes end where all of them start."""
    assert list(terminations_run_on(maze(reached=1, away=away))) == []


def test_the_error_of_seams_names_the_other_array_too():
    data = maze(reached=40)
    following = np.concatenate([data.observations[1:], data.observations[-1:]])
    following[99::100] += 1.0  # what was seen last
    findings = diagnose(replace(data, next_observations=following))
    (found,) = [one for one in findings if one.severity == "error"]
    assert found.check == "seams"
    assert "terminations is True at episode 0, timestep 60, and the next episode goes on from there" in found.message
    assert "--ends-at timeouts" in found.message
