from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest

from foretell.collection.imagination import imagine
from foretell.core.errors import DatasetError, UsageError
from foretell.datasets.dataset import DatasetMetadata
from foretell.datasets.doctor import diagnose
from foretell.environments.making import environment_spec
from foretell.environments.pendulum import BatchedPendulum
from foretell.values.configs import DynamicsConfig
from foretell.values.dynamics import DynamicsEnsemble
from reference.making import make_dataset

QUICK = DynamicsConfig(members=3, degree=3, updates=60, evidence_rows=80, max_rows=400, cosines=32, horizon=40)


@pytest.fixture(scope="module")
def imagined(pendulum_random, tmp_path_factory):
    path = tmp_path_factory.mktemp("imagined") / "a.hdf5"
    return imagine(pendulum_random, num_steps=3_000, seed=4, path=path, config=QUICK)


def test_imagined_steps_are_what_the_pendulum_does(imagined):
    world = BatchedPendulum(imagined.num_steps)
    observations = np.array(imagined.observations)
    world.state = np.stack([np.arctan2(observations[:, 1], observations[:, 0]), observations[:, 2]], 1).astype(float)
    following, rewards, *_ = world.step(np.array(imagined.actions))
    slow = np.abs(observations[:, 2]) < 7  # the data show too little of the limit at 8
    assert slow.mean() > 0.9
    spread = (following - observations).std(0)
    errors = np.abs(imagined.next_observations - following)[slow] / spread
    assert np.quantile(errors, 0.9) < 0.05
    assert np.quantile(np.abs(imagined.rewards - rewards)[slow], 0.9) < 0.3


def test_episodes_go_on_from_recorded_observations(imagined, pendulum_random):
    assert imagined.num_steps == 3_000
    assert imagined.episode_lengths.max() == 40
    starts = {row.tobytes() for row in np.array(pendulum_random.observations)}
    assert all(imagined.observations[row].tobytes() in starts for row in imagined.episode_starts)
    assert len({imagined.observations[row].tobytes() for row in imagined.episode_starts}) > 50
    inner = np.setdiff1d(np.arange(3_000), imagined.episode_ends - 1)
    np.testing.assert_array_equal(imagined.next_observations[inner], imagined.observations[inner + 1])
    assert not imagined.terminations.any()
    assert np.flatnonzero(imagined.truncations).tolist() == (imagined.episode_ends - 1).tolist()
    np.testing.assert_allclose((imagined.next_observations[:, :2] ** 2).sum(1), 1, atol=1e-2)
    assert [f.message for f in diagnose(imagined, environment_spec("Pendulum-v1")) if f.severity == "error"] == []


def test_actions_are_uniform_over_the_environments_range(imagined):
    counts, _ = np.histogram(imagined.actions, bins=4, range=(-2, 2))
    assert np.abs(counts - 750).max() < 120
    np.testing.assert_allclose(imagined.infos["action_log_probs"], -np.log(4), rtol=1e-6)


def test_the_file_says_what_it_is(imagined, pendulum_random):
    found = imagined.metadata
    assert (found.environment, found.algorithm, found.seed) == ("Pendulum-v1", "imagined", 4)
    assert f"2,000 timesteps of pendulum-random (fingerprint {pendulum_random.fingerprint()})" in found.description
    assert found.hyperparameters == {"imagined_from": pendulum_random.fingerprint(), **asdict(QUICK)}
    assert "torch" in found.versions


def test_same_arguments_same_bytes(imagined, pendulum_random, tmp_path):
    for seed in (4, 5):
        imagine(pendulum_random, num_steps=3_000, seed=seed, path=tmp_path / f"{seed}.hdf5", config=QUICK)
    assert (tmp_path / "4.hdf5").read_bytes() == imagined.path.read_bytes()
    assert (tmp_path / "5.hdf5").read_bytes() != imagined.path.read_bytes()


def test_each_episode_stays_in_one_world(imagined, pendulum_random):
    ensemble = DynamicsEnsemble(pendulum_random, QUICK, seed=4)
    found = ensemble.predict(np.array(imagined.observations), np.array(imagined.actions))
    errors = np.abs(found.next_observations - imagined.next_observations).max(-1)
    by_episode = np.stack([np.maximum.reduceat(row, imagined.episode_starts) for row in errors])
    assert (by_episode.min(0) < 1e-5).all()
    assert len(set(by_episode.argmin(0).tolist())) == 3


def test_doubt_costs_reward_and_ends_episodes(pendulum_random, tmp_path):
    few = pendulum_random.section(0, 60)
    short = replace(QUICK, evidence_rows=40, updates=30)
    ensemble = DynamicsEnsemble(few, short, seed=0)

    def made(name, **changes):
        return imagine(few, num_steps=600, seed=0, path=tmp_path / name, config=replace(short, **changes))

    plain, wary = made("a", max_disagreement=9.0), made("b", max_disagreement=9.0, pessimism=2.0)
    np.testing.assert_array_equal(plain.observations, wary.observations)
    doubt = ensemble.predict(np.array(plain.observations), np.array(plain.actions)).disagreement
    assert doubt.max() > 0.1
    expected = 2 * np.std(np.array(few.rewards, np.float64)) * doubt
    np.testing.assert_allclose(plain.rewards - wary.rewards, expected, atol=1e-4)
    careful = made("c", max_disagreement=0.05)
    doubt = ensemble.predict(np.array(careful.observations), np.array(careful.actions)).disagreement
    assert doubt.max() < 0.0501
    assert careful.episode_lengths.mean() < plain.episode_lengths.mean()
    with pytest.raises(DatasetError, match="raise max_disagreement"):
        made("d", max_disagreement=1e-12)
    assert not (tmp_path / "d").exists()


def test_terminations_and_choices_of_cartpole(cartpole_random, tmp_path):
    dataset = imagine(
        cartpole_random, num_steps=2_000, seed=0, path=tmp_path / "a.hdf5", config=replace(QUICK, degree=2)
    )
    assert dataset.actions.dtype.kind == "i"
    assert set(dataset.actions.tolist()) == {0, 1}
    assert (dataset.rewards == 1).all()
    ended = np.array(dataset.terminations)
    assert ended.sum() > 50
    recorded = {row.tobytes() for row in np.array(cartpole_random.observations)}
    assert all(dataset.observations[row].tobytes() in recorded for row in dataset.episode_starts)  # none went on
    angles = np.abs(dataset.next_observations[:, 2])
    assert np.quantile(angles[ended], 0.1) > 0.19  # it falls at 0.2095
    assert np.quantile(angles[~ended], 0.99) < 0.23
    assert not (dataset.terminations & dataset.truncations).any()


def test_without_an_environment_the_data_say_what_is_possible(tmp_path):
    rng = np.random.default_rng(0)
    actions = rng.uniform(-0.3, 0.7, (80, 2)).astype(np.float32)
    dataset = make_dataset([30, 50], actions=actions, metadata=DatasetMetadata())
    config = replace(QUICK, horizon=None, updates=5, degree=1, max_disagreement=100.0)
    found = imagine(dataset, num_steps=1_500, seed=0, path=tmp_path / "a.hdf5", config=config)
    assert found.metadata.environment is None
    assert found.episode_lengths.max() <= 50
    low, high = actions.min(0), actions.max(0)
    assert (found.actions >= low).all()
    assert (found.actions <= high).all()
    np.testing.assert_allclose(found.actions.max(0), high, atol=0.05)


def test_progress_counts_timesteps(pendulum_random, tmp_path):
    told = []
    imagine(pendulum_random, num_steps=500, seed=0, path=tmp_path / "a.hdf5", config=replace(QUICK, updates=4),
            progress=lambda done, total, **found: told.append((done, total, *found, found.get("learned"))))  # fmt: skip
    learning = [(0, 500, "learned", "evidence", share) for share in (0.25, 0.5, 0.75, 1.0)]
    assert told == [*learning, (500, 500, "mean_return", None)]


def test_what_cannot_be_imagined_is_refused(pendulum_random, tmp_path):
    images = make_dataset([5], observations=np.zeros((5, 8, 8, 3), np.uint8))
    with pytest.raises(UsageError, match="dynamics expect vectors"):
        imagine(images, num_steps=10, seed=0, path=tmp_path / "a.hdf5")
    with pytest.raises(UsageError, match="0 timesteps to imagine"):
        imagine(pendulum_random, num_steps=0, seed=0, path=tmp_path / "a.hdf5")
    assert list(tmp_path.iterdir()) == []
