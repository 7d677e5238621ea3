from __future__ import annotations

import math

import gymnasium
import numpy as np
import pytest

from foretell import facade
from foretell.agents.random_policy import RandomPolicy
from foretell.collection.recipes import collect_random, collect_replay, collect_with_policy
from foretell.collection.recorder import record, record_blocks
from foretell.core.errors import DatasetError, UsageError
from foretell.core.seeding import stream
from foretell.datasets.dataset import DatasetMetadata
from foretell.datasets.doctor import diagnose
from foretell.environments.making import environment_spec


class Leaning:
    """Deterministic: push towards where the first observation leans; log-probability 0."""

    def act(self, observations, rng):
        return (observations[:, 2] > 0).astype(np.int64), np.zeros(len(observations), np.float32)


class Torque:
    """Deterministic torque from the observation."""

    def act(self, observations, rng):
        return np.clip(observations[:, 2:3] * 0.3, -2, 2), np.full(len(observations), 0.5, np.float32)


def start_seeds(seed, count):
    return stream(seed, "collection-starts").integers(2**31 - 1, size=count).tolist()


def test_replaying_pendulum_in_gymnasium_gives_the_same(tmp_path):
    dataset = collect_random("Pendulum-v1", 500, 3, tmp_path / "a.hdf5")
    assert dataset.episode_lengths.tolist() == [200, 200, 100]
    env = gymnasium.make("Pendulum-v1")
    for episode, seed in zip(dataset.episodes(), start_seeds(3, 3)):
        observation, _ = env.reset(seed=seed)
        for t in range(len(episode)):
            np.testing.assert_allclose(episode.observations[t], observation, atol=1e-5)
            state = np.concatenate([episode.infos["qpos"][t], episode.infos["qvel"][t]])
            np.testing.assert_allclose(state, env.unwrapped.state, atol=1e-5, rtol=1e-6)
            observation, reward, terminated, truncated, _ = env.step(episode.actions[t])
            np.testing.assert_allclose(episode.rewards[t], reward, atol=1e-5)
            assert not terminated
            assert bool(episode.truncations[t]) == (truncated or t == len(episode) - 1)
        np.testing.assert_allclose(episode.observations[-1], observation, atol=1e-5)


def test_each_recorded_step_follows_from_its_simulator_state(tmp_path):
    dataset = collect_random("Pendulum-v1", 40, 0, tmp_path / "a.hdf5")
    env = gymnasium.make("Pendulum-v1").unwrapped
    env.reset(seed=0)
    for row in range(40):
        env.state = np.concatenate([dataset.infos["qpos"][row], dataset.infos["qvel"][row]]).astype(float)
        observation, reward, *_ = env.step(dataset.actions[row])
        np.testing.assert_allclose(dataset.next_observations[row], observation, atol=1e-5)
        np.testing.assert_allclose(dataset.rewards[row], reward, atol=1e-5)


def test_same_seed_same_bytes(tmp_path):
    for environment, steps in (("Pendulum-v1", 1100), ("CartPole-v1", 300)):
        for name, seed in (("a", 0), ("b", 0), ("c", 1)):
            collect_random(environment, steps, seed, tmp_path / f"{environment}-{name}.hdf5")
        a, b, c = ((tmp_path / f"{environment}-{name}.hdf5").read_bytes() for name in "abc")
        assert a == b != c


def test_a_file_that_is_there_is_kept_and_given_back_where_it_is_the_same_recording(tmp_path):
    path = tmp_path / "data.hdf5"
    first = collect_random("CartPole-v1", 60, 0, path)
    before = path.read_bytes()
    assert collect_random("CartPole-v1", 60, 0, path).fingerprint() == first.fingerprint()
    for other in (("CartPole-v1", 61, 0), ("CartPole-v1", 60, 1), ("Pendulum-v1", 60, 0)):
        with pytest.raises(UsageError, match="exists, and nothing is overwritten"):
            collect_random(*other, path)
    with pytest.raises(UsageError, match="exists, and nothing is overwritten"):
        collect_replay(path, path=path, num_steps=10)
    assert path.read_bytes() == before
    for wrong in (0, 2.5, "60", True):
        with pytest.raises(UsageError, match="expected"):
            collect_random("CartPole-v1", wrong, 0, tmp_path / "other.hdf5")


@pytest.mark.parametrize("collect", [
    lambda data, path: collect_random("CartPole-v1", 60, 0, path), lambda data, path: collect_replay(data, path=path),
    lambda data, path: facade.collect_imagined(data, path, num_steps=10),
])  # fmt: skip
def test_a_name_that_no_dataset_is_opened_by_is_refused_before_anything_is_recorded(collect, tmp_path):
    collect_random("CartPole-v1", 60, 0, tmp_path / "data.hdf5")
    with pytest.raises(UsageError, match=r"mine: is no name that a dataset is opened by; expected one that ends in"):
        collect(tmp_path / "data.hdf5", tmp_path / "mine")
    assert [path.name for path in tmp_path.iterdir()] == ["data.hdf5"]


@pytest.mark.parametrize("num_envs", [1, 3, 16])
@pytest.mark.parametrize("num_steps", [1, 137, 400])
def test_episodes_of_differing_lengths_equal_the_loop(num_envs, num_steps):
    blocks = list(record_blocks(Leaning(), "CartPole-v1", num_steps=num_steps, seed=5, num_envs=num_envs))
    recorded = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
    expected = {name: [] for name in recorded}
    env = gymnasium.make("CartPole-v1")
    for seed in start_seeds(5, 400):
        observation, ended = env.reset(seed=seed)[0], False
        while not ended and len(expected["rewards"]) < num_steps:
            action = int(observation[2] > 0)
            following, reward, terminated, truncated, _ = env.step(action)
            row = {
                "observations": observation, "actions": action, "rewards": reward, "terminations": terminated,
                "truncations": truncated, "next_observations": following, "infos/action_log_probs": 0.0,
            }  # fmt: skip
            for name, value in row.items():
                expected[name].append(value)
            observation, ended = following, terminated or truncated
    expected["truncations"][-1] |= not expected["terminations"][-1]
    assert recorded.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(recorded[name], np.asarray(values, recorded[name].dtype), err_msg=name)
    lengths = np.diff(np.flatnonzero(recorded["terminations"]))
    assert num_steps < 400 or len(set(lengths.tolist())) > 3  # the test means something


def test_starts_do_not_depend_on_how_many_step_together():
    for num_envs in (1, 4):
        first = next(record_blocks(Torque(), "Pendulum-v1", num_steps=800, seed=2, num_envs=num_envs))
        env = gymnasium.make("Pendulum-v1")
        for i, seed in enumerate(start_seeds(2, num_envs)):
            np.testing.assert_array_equal(first["observations"][200 * i], env.reset(seed=seed)[0])


def test_start_states_spread(tmp_path):
    dataset = collect_random("Pendulum-v1", 100 * 200, 0, tmp_path / "a.hdf5")
    starts = dataset.infos["qpos"][dataset.episode_starts]
    assert len(np.unique(starts)) == 100
    assert starts.min() < -2.8
    assert starts.max() > 2.8
    assert diagnose(dataset, environment_spec("Pendulum-v1")) == []


def test_random_policy_is_uniform_with_exact_log_probability():
    spec = environment_spec("Pendulum-v1")
    actions, log_probs = RandomPolicy(spec).act(np.zeros((20_000, 3)), np.random.default_rng(0))
    assert (actions.shape, actions.dtype, log_probs.dtype) == ((20_000, 1), np.float32, np.float32)
    assert np.abs(actions).max() <= 2
    counts, _ = np.histogram(actions, bins=8, range=(-2, 2))
    assert np.abs(counts - 2500).max() < 250
    np.testing.assert_allclose(log_probs, -math.log(4), rtol=1e-6)
    choices, log_probs = RandomPolicy(environment_spec("CartPole-v1")).act(
        np.zeros((1000, 4)), np.random.default_rng(0)
    )
    assert np.issubdtype(choices.dtype, np.integer)
    assert 400 < choices.sum() < 600
    np.testing.assert_allclose(log_probs, -math.log(2), rtol=1e-6)


def test_observation_transform_changes_what_is_recorded_alone(tmp_path):
    def draw(observations):
        assert observations.shape[1:] == (4,)
        return np.clip(observations[:, :, None] * 50 + 128, 0, 255).astype(np.uint8)

    plain = collect_random("CartPole-v1", 60, 0, tmp_path / "a.hdf5")
    drawn = collect_random("CartPole-v1", 60, 0, tmp_path / "b.hdf5", observation_transform=draw)
    np.testing.assert_array_equal(drawn.observations, draw(np.array(plain.observations)), strict=True)
    np.testing.assert_array_equal(drawn.next_observations, draw(np.array(plain.next_observations)), strict=True)
    np.testing.assert_array_equal(drawn.actions, plain.actions)


def test_progress_counts_timesteps_and_says_the_return(tmp_path):
    seen = []
    collect_random(
        "Pendulum-v1", 250_000, 0, tmp_path / "a.hdf5", progress=lambda done, total, **m: seen.append((done, total, m))
    )
    assert [(done, total) for done, total, _ in seen] == [(200_000, 250_000), (250_000, 250_000)]
    assert -1300 < seen[0][2]["mean_return"] < -1150


def test_random_data_describe_themselves(tmp_path):
    metadata = collect_random("Pendulum-v1", 200, 9, tmp_path / "a.hdf5").metadata
    assert (metadata.environment, metadata.algorithm, metadata.seed) == ("Pendulum-v1", "random", 9)
    assert set(metadata.versions) == {"foretell", "gymnasium", "numpy", "python"}


def test_trained_agent_with_its_weights(tmp_path):
    metadata = DatasetMetadata(environment="Pendulum-v1", algorithm="SAC", description="D4RL would call this expert.")
    weights = {"actor.0.weight": np.arange(6.0).reshape(2, 3)}
    dataset = collect_with_policy(
        Torque(), metadata, num_steps=450, seed=4, path=tmp_path / "a.hdf5", policy_weights=weights
    )
    assert dataset.episode_lengths.tolist() == [200, 200, 50]
    assert (dataset.metadata.seed, dataset.metadata.description) == (4, "D4RL would call this expert.")
    np.testing.assert_array_equal(
        dataset.metadata.policy_weights["actor.0.weight"], weights["actor.0.weight"].astype(np.float32), strict=True
    )
    assert (dataset.infos["action_log_probs"] == 0.5).all()
    np.testing.assert_array_equal(dataset.actions, Torque().act(np.array(dataset.observations), None)[0])
    with pytest.raises(UsageError, match="no environment"):
        collect_with_policy(Torque(), DatasetMetadata(), num_steps=1, seed=0, path=tmp_path / "b.hdf5")


def test_replay_keeps_the_first_or_last_steps(tmp_path):
    whole = collect_random("Pendulum-v1", 1000, 0, tmp_path / "replay.hdf5")
    cut = collect_replay(tmp_path / "replay.hdf5", path=tmp_path / "cut.hdf5", num_steps=450, keep="first")
    assert cut.episode_lengths.tolist() == [200, 200, 50]
    assert cut.truncations[-1]
    assert "steps 1 to 450 of 1,000: the first." in cut.metadata.description
    ring = collect_replay(tmp_path / "replay.hdf5", path=tmp_path / "ring.hdf5", num_steps=450)
    assert ring.episode_lengths.tolist() == [50, 200, 200]
    np.testing.assert_array_equal(ring.rewards, whole.rewards[-450:])
    assert "steps 551 to 1,000 of 1,000: a ring buffer" in ring.metadata.description
    for name, values in cut.columns().items():
        np.testing.assert_array_equal(values[:449], whole.columns()[name][:449], err_msg=name)
    copy = collect_replay(tmp_path / "replay.hdf5", path=tmp_path / "full.hdf5")
    assert copy.fingerprint() == whole.fingerprint()
    with pytest.raises(DatasetError, match="expected some of the 1000"):
        collect_replay(tmp_path / "replay.hdf5", path=tmp_path / "no.hdf5", num_steps=1001)


def test_nothing_appears_when_the_policy_fails(tmp_path):
    class Failing:
        def act(self, observations, rng):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        record(Failing(), "Pendulum-v1", tmp_path / "a.hdf5", num_steps=10, seed=0, metadata=DatasetMetadata())
    with pytest.raises(UsageError, match="0 timesteps to record"):
        collect_random("Pendulum-v1", 0, 0, tmp_path / "a.hdf5")
    with pytest.raises(UsageError, match="cannot be made"):
        collect_random("Nowhere-v0", 10, 0, tmp_path / "a.hdf5")
    assert list(tmp_path.iterdir()) == []


def test_collection_needs_no_torch():
    import subprocess
    import sys

    code = "import sys, foretell.collection.recipes, foretell.datasets.card; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
