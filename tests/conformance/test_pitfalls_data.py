"""Rows of the table of pitfalls that concern data and settings; each twice: the rule, and its breach."""

from __future__ import annotations

import ast
import importlib
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path

import gymnasium
import h5py
import numpy as np
import pytest
import scipy.stats

import foretell
from conformance.checks import notices
from foretell import facade
from foretell.agents.configs import SACConfig
from foretell.collection import recorder
from foretell.collection.recipes import collect_random
from foretell.core.files import read_json
from foretell.environments.pendulum import BatchedPendulum
from foretell.sequences.windows import WindowSampler
from foretell.training.configs import TrainingConfig
from foretell.training.sac import SACTraining
from reference.making import IDENTITY, make_dataset, small_config
from reference.replaying import check_replay

SHORT = "ForetellShortPendulum-v0"
SOURCE = Path(foretell.__file__).parent


@pytest.fixture(scope="module", autouse=True)
def _short_pendulum():
    gymnasium.register(SHORT, entry_point="gymnasium.envs.classic_control:PendulumEnv", max_episode_steps=37)
    yield
    del gymnasium.registry[SHORT]


def check_horizon(folder):
    """An environment of 37 timesteps gives episodes, a table and an evaluation of 37 timesteps."""
    data = collect_random(SHORT, 74, 0, folder / "short.hdf5")
    assert data.episode_lengths.tolist() == [37, 37]
    training = TrainingConfig(updates=1, batch_size=2)
    run = facade.train(data, folder / "run", model=small_config("decision-transformer"), training=training)
    assert read_json(run / "config.json")["shape"]["max_timesteps"] == 37
    assert [record["length"] for record in facade.evaluate(run, episodes=2)] == [37, 37]


def test_row_02_horizon_comes_from_the_task(tmp_path):
    check_horizon(tmp_path)


def test_row_02_notices_the_fault(tmp_path, monkeypatch):
    plain = facade.environments.stored_environment_spec
    monkeypatch.setattr(facade.environments, "stored_environment_spec", lambda name: replace(plain(name), horizon=1000))
    notices(check_horizon, tmp_path)


def test_row_02_without_an_environment_the_data_say(tmp_path):
    run = facade.train(
        make_dataset([3, 9]), tmp_path / "run", model=small_config("decision-transformer"),
        training=TrainingConfig(updates=1, batch_size=2),
    )  # fmt: skip
    assert read_json(run / "config.json")["shape"]["max_timesteps"] == 9


def check_ends_told_apart(folder):
    """Pendulum never terminates; CartPole's random episodes end by falling; SAC's replay keeps time limits apart."""
    pendulum = collect_random("Pendulum-v1", 600, 0, folder / "pendulum.hdf5")
    assert not pendulum.terminations.any()
    assert np.flatnonzero(pendulum.truncations).tolist() == [199, 399, 599]
    cartpole = collect_random("CartPole-v1", 300, 0, folder / "cartpole.hdf5")
    assert cartpole.terminations[cartpole.episode_ends[:-1] - 1].all()
    assert not cartpole.truncations[:-1].any()
    training = SACTraining("Pendulum-v1", SACConfig(total_steps=400, learning_starts=400, hidden_sizes=(4,)), 0)
    training.begin_episode()
    assert [training.act_and_record() for _ in range(200)] == [False] * 199 + [True]
    assert not training.replay.columns["terminations"].any()
    assert np.flatnonzero(training.replay.columns["truncations"]).tolist() == [199]


def test_row_15_time_limits_are_truncations(tmp_path):
    check_ends_told_apart(tmp_path)


def test_row_15_notices_the_fault(tmp_path, monkeypatch):
    plain = BatchedPendulum.step

    def limit_as_death(self, actions):
        observations, rewards, terminations, truncations = plain(self, actions)
        return observations, rewards, truncations, terminations

    monkeypatch.setattr(BatchedPendulum, "step", limit_as_death)
    notices(check_ends_told_apart, tmp_path)


@pytest.mark.parametrize("environment", ["Pendulum-v1", "CartPole-v1"])
def test_row_16_datasets_replay_in_gymnasium(environment, tmp_path):
    check_replay(collect_random(environment, 500, 3, tmp_path / "data.hdf5"), 3)


@pytest.mark.parametrize("environment", ["Pendulum-v1", "CartPole-v1"])
@pytest.mark.parametrize("column", ["rewards", "actions"])
def test_row_16_notices_the_fault(environment, column, tmp_path):
    data = collect_random(environment, 500, 3, tmp_path / "data.hdf5")
    values = np.array(getattr(data, column))
    if environment == "CartPole-v1" and column == "rewards":
        values[7] = 0.0  # all rewards are 1: a shift cannot be seen
    notices(check_replay, replace(data, **{column: np.roll(values, 1, axis=0)}), 3)


def check_partial_episode_kept(folder, collect=collect_random):
    """450 timesteps are two episodes of 200 and one of 50, which the file itself calls truncated."""
    path = folder / "partial.hdf5"
    data = collect("Pendulum-v1", 450, 0, path)
    assert data.episode_lengths.tolist() == [200, 200, 50]
    with h5py.File(path) as file:
        assert np.flatnonzero(file["timeouts"][:]).tolist() == [199, 399, 449]
    inside = ~data.truncations[:-1]
    np.testing.assert_array_equal(data.next_observations[:-1][inside], data.observations[1:][inside])


def test_row_17_last_partial_episode_is_kept(tmp_path):
    check_partial_episode_kept(tmp_path)


def test_row_17_notices_the_dropped_episode(tmp_path):
    def whole_episodes(environment, num_steps, seed, path):
        return collect_random(environment, num_steps // 200 * 200, seed, path)

    notices(check_partial_episode_kept, tmp_path, whole_episodes)


def test_row_17_notices_the_open_end(tmp_path, monkeypatch):
    monkeypatch.setattr(recorder, "_cut", lambda block, most: {name: values[:most] for name, values in block.items()})
    notices(check_partial_episode_kept, tmp_path)


def check_every_timestep_equally_likely():
    """Chi-square over 12,000 windows of episodes of 1, 5 and 30 timesteps; the row is written in the observation."""
    steps = 36
    rows = np.arange(steps, dtype=np.float32)[:, None]
    data = make_dataset([1, 5, 30], observations=rows, actions=np.zeros(steps, np.int64))
    sampler = WindowSampler(data, IDENTITY, context_length=2, seed=0)
    last = np.concatenate([sampler.batch(update, 400).observations[:, -1, 0] for update in range(30)]).astype(int)
    assert scipy.stats.chisquare(np.bincount(last, minlength=steps)).pvalue > 1e-4


def test_row_18_every_timestep_is_equally_likely():
    check_every_timestep_equally_likely()


def test_row_18_notices_the_fault(monkeypatch):
    def by_episode(self, update, batch_size):
        rng = np.random.default_rng(update)
        episode = rng.integers(len(self._ends), size=batch_size)
        return self.windows(rng.integers(self._starts[episode], self._ends[episode]))

    monkeypatch.setattr(WindowSampler, "batch", by_episode)
    notices(check_every_timestep_equally_likely)


def check_every_field_is_read(configs):
    """Each field of each configuration is read somewhere in the library, beyond the check at its construction."""
    read = set()
    for path in SOURCE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        checked = {id(node) for function in ast.walk(tree) if getattr(function, "name", "") == "__post_init__"
                   for node in ast.walk(function)}  # fmt: skip
        read |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)
                 and isinstance(node.ctx, ast.Load) and id(node) not in checked}  # fmt: skip
    unread = [f"{config.__name__}.{field.name}" for config in configs for field in fields(config)
              if field.name not in read]  # fmt: skip
    assert not unread, f"fields that nobody reads: {', '.join(unread)}"


def _configs():
    places = [path.relative_to(SOURCE).with_suffix("").parts for path in SOURCE.rglob("configs.py")]
    modules = [importlib.import_module(".".join(["foretell", *place])) for place in places]
    found = [value for module in modules for value in vars(module).values()
             if is_dataclass(value) and value.__module__ == module.__name__]  # fmt: skip
    names = {"SACConfig", "TrainingConfig", "DecisionTransformerConfig", "StackConfig", "TransformerConfig"}
    assert {config.__name__ for config in found} >= names
    return found


def test_row_19_every_setting_is_read():
    check_every_field_is_read(_configs())


def test_row_19_notices_the_fault():
    @dataclass(frozen=True, kw_only=True)
    class Forgotten:
        width_of_nothing_at_all: int = 3

    notices(check_every_field_is_read, [*_configs(), Forgotten])


def check_starts_spread(folder):
    """The start angles of 200 episodes are all different, and uniform over the circle (Kolmogorov-Smirnov)."""
    data = collect_random("Pendulum-v1", 200 * 200, 1, folder / "spread.hdf5")
    first = data.observations[data.episode_starts]
    angles = np.arctan2(first[:, 1], first[:, 0])
    assert len(np.unique(angles)) == 200
    assert scipy.stats.kstest(angles, scipy.stats.uniform(-np.pi, 2 * np.pi).cdf).pvalue > 1e-3
    assert scipy.stats.kstest(first[:, 2], scipy.stats.uniform(-1, 2).cdf).pvalue > 1e-3


def test_row_23_start_states_are_spread(tmp_path):
    check_starts_spread(tmp_path)


def test_row_23_notices_the_fault(tmp_path, monkeypatch):
    plain = BatchedPendulum.reset
    monkeypatch.setattr(BatchedPendulum, "reset", lambda self, seeds: plain(self, [seeds[0]] * len(seeds)))
    notices(check_starts_spread, tmp_path)
