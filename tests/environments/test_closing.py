"""What simulators hold (processes, sockets, windows) is given back when recording, evaluating or training ends."""

from __future__ import annotations

import copy
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from foretell import facade
from foretell.agents.configs import SACConfig
from foretell.agents.random_policy import RandomPolicy
from foretell.collection.recipes import collect_random
from foretell.collection.recorder import record_blocks
from foretell.core.errors import StoppedError
from foretell.environments.making import GymnasiumLoop, environment_spec, make_environments
from foretell.evaluation.policies import UniformPolicy
from foretell.evaluation.protocol import evaluate
from foretell.training.configs import TrainingConfig
from reference.making import small_config

OPEN: set[Holding] = set()


class Holding(gymnasium.Env):
    observation_space = spaces.Box(-10, 10, (2,), np.float32)
    action_space = spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, fails_at=0, lasts=4):
        self.fails_at, self.lasts = fails_at, lasts
        OPEN.add(self)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.timestep, self.longer = 0, int(self.np_random.integers(4))
        return np.zeros(2, np.float32), {}

    def step(self, action):
        assert self in OPEN, "it is stepped after it was closed"
        self.timestep += 1
        if self.timestep == self.fails_at:
            raise RuntimeError("the simulator is gone")
        return np.full(2, self.timestep / 9, np.float32), 1.0, self.timestep >= self.lasts + self.longer, False, {}

    def close(self):
        OPEN.discard(self)


class Stuck(Holding):
    def close(self):
        super().close()
        raise RuntimeError("no answer")


class OnlyTwo(Holding):
    def __init__(self):
        if len(OPEN) == 2:
            raise TypeError("no more of them")
        super().__init__()


for kind in (Holding, Stuck, OnlyTwo):
    gymnasium.register(f"{kind.__name__}-v0", kind, max_episode_steps=9, disable_env_checker=True)
gymnasium.register("Failing-v0", Holding, max_episode_steps=9, kwargs={"fails_at": 2}, disable_env_checker=True)


@pytest.fixture(autouse=True)
def _none_before():
    OPEN.clear()
    yield
    assert not OPEN


@pytest.fixture
def kept(monkeypatch):
    """Every loop over environments that was made: while somebody has one, it is closed by who is done with it alone."""
    found, plain = [], GymnasiumLoop.__init__

    def noted(self, *arguments):
        found.append(self)
        plain(self, *arguments)

    monkeypatch.setattr(GymnasiumLoop, "__init__", noted)
    yield found
    assert found


def test_of_a_recording(tmp_path, kept):
    """Whose last episodes are fewer, so that other environments take the place of the first."""
    assert collect_random("Holding-v0", 333, 0, tmp_path / "data.hdf5").num_steps == 333
    assert len(kept) > 1
    assert not OPEN


def test_of_a_recording_that_is_stopped(tmp_path, kept):
    def stop(*_, **__):
        raise StoppedError(2)

    with pytest.raises(StoppedError) as stopped:
        collect_random("Holding-v0", 900, 0, tmp_path / "data.hdf5", progress=stop)
    assert not OPEN, stopped  # whose traceback has what was at work


def test_of_a_recording_that_nobody_goes_on_with(kept):
    blocks = record_blocks(RandomPolicy(environment_spec("Holding-v0")), "Holding-v0", num_steps=900, seed=0)
    next(blocks)
    assert OPEN
    blocks.close()
    assert not OPEN


def test_of_an_evaluation(kept):
    outcome = evaluate(UniformPolicy(environment_spec("Holding-v0"), 0), "Holding-v0", range(5))
    assert (outcome.returns == outcome.lengths).all()
    assert not OPEN


def test_of_trainings(tmp_path, kept):
    data = collect_random("Holding-v0", 60, 0, tmp_path / "data.hdf5")
    training = TrainingConfig(updates=4, batch_size=2, evaluate_every=2)
    facade.train(data, tmp_path / "run", model=small_config("decision-transformer"), training=training,
                 validation_episodes=3)  # fmt: skip
    agent = SACConfig(total_steps=40, learning_starts=30, hidden_sizes=(4,), batch_size=4, evaluate_every=20)
    facade.train_sac("Holding-v0", tmp_path / "sac", config=agent, validation_episodes=2)
    assert not OPEN


def test_where_a_simulator_fails(tmp_path, kept):
    with pytest.raises(RuntimeError, match="the simulator is gone"):
        collect_random("Failing-v0", 100, 0, tmp_path / "data.hdf5")
    with pytest.raises(RuntimeError, match="the simulator is gone"):
        evaluate(UniformPolicy(environment_spec("Failing-v0"), 0), "Failing-v0", range(3))
    assert not OPEN


def test_of_those_that_were_made_where_another_cannot_be():
    with pytest.raises(Exception, match="no more of them"):
        make_environments("OnlyTwo-v0", 3)
    assert not OPEN


def test_one_that_cannot_be_closed_is_warned_of_and_the_others_are_closed():
    with pytest.warns(UserWarning, match=r"Stuck-v0: close failed \(RuntimeError: no answer\)"):
        make_environments("Stuck-v0", 3).close()
    assert not OPEN


def test_what_nobody_closed_and_nobody_has_any_more():
    environments = make_environments("Holding-v0", 2)
    environments.reset([0, 1])
    assert len(OPEN) == 2
    del environments
    assert not OPEN


def test_all_are_closed_where_warnings_are_errors():
    with pytest.raises(UserWarning, match="close failed"), warnings.catch_warnings(action="error"):
        make_environments("Stuck-v0", 3).close()
    assert not OPEN


def test_a_copy_is_closed_by_itself():
    environments = make_environments("Holding-v0", 1)
    other = copy.deepcopy(environments)
    OPEN.add(other.environments[0].unwrapped)
    environments.close()
    assert len(OPEN) == 1
    other.close()
    assert not OPEN


def test_closing_twice_is_closing_once():
    environments = make_environments("Stuck-v0", 1)
    with pytest.warns(UserWarning, match="close failed"):
        environments.close()
    with warnings.catch_warnings(action="error"):
        environments.close()
