"""Files that other programs wrote: read for what they say, with a note for what they leave out."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from foretell.core.errors import DatasetError
from foretell.datasets.boundaries import truncations_at_horizon
from foretell.datasets.d4rl import read_d4rl
from foretell.datasets.d4rl_writer import write_dataset
from foretell.datasets.doctor import diagnose


def test_plain_file(foreign):
    dataset = read_d4rl(foreign())
    assert isinstance(dataset.observations, np.memmap)
    assert dataset.episode_lengths.tolist() == [3, 2]
    assert [e.terminated for e in dataset.episodes()] == [True, False]
    np.testing.assert_array_equal(dataset.episode(0).observations[:, 0], [0, 2, 4, 6])
    np.testing.assert_array_equal(dataset.episode(1).observations[:, 0], [8, 10, 12])
    assert dataset.metadata.environment is None


@pytest.mark.parametrize("options", [{"compression": "gzip"}, {"compression": "lzf", "chunks": True}, {"chunks": True}])
def test_compressed_and_chunked_files_are_read(foreign, same, options):
    same(read_d4rl(foreign("packed.hdf5", options)), read_d4rl(foreign("plain.hdf5")))


@pytest.mark.parametrize(
    "changed",
    [
        {"rewards": np.arange(5.0).reshape(5, 1)},
        {"terminals": np.array([[0], [0], [1], [0], [0]], np.uint8), "timeouts": np.array([0, 0, 0, 0, 1.0])},
        {"actions": np.linspace(-1, 1, 5, dtype=np.float32)},
        {"rewards": np.arange(5, dtype=np.int64)},
        {"rewards": np.arange(5, dtype=">f4")},
    ],
)
def test_other_shapes_and_types_mean_the_same(foreign, same, changed):
    same(read_d4rl(foreign("odd.hdf5", **changed)), read_d4rl(foreign("plain.hdf5")))


def test_float64_becomes_float32(foreign):
    values = np.linspace(0, 1, 10).reshape(5, 2)
    dataset = read_d4rl(foreign(observations=values, next_observations=values))
    np.testing.assert_array_equal(dataset.observations, values.astype(np.float32), strict=True)


def test_discrete_actions(foreign):
    flat, column = np.array([0, 2, 1, 0, 1]), np.array([[0], [2], [1], [0], [1]], np.int32)
    for values in (flat, column):
        dataset = read_d4rl(foreign(actions=values))
        assert (dataset.discrete, dataset.num_actions, dataset.action_dim) == (True, 3, 3)
        np.testing.assert_array_equal(dataset.actions, flat)
        assert np.issubdtype(dataset.actions.dtype, np.integer)


def test_without_next_observations_nothing_is_invented(foreign, tmp_path):
    dataset = read_d4rl(foreign(next_observations=None))
    assert dataset.next_observations is None
    assert any("final observation of each episode is unknown" in note for note in dataset.notes)
    assert not dataset.episode(0).final_observation_known
    write_dataset(tmp_path / "again.hdf5", dataset)
    with h5py.File(tmp_path / "again.hdf5") as file:
        assert "next_observations" not in file


def test_without_timeouts_boundaries_are_where_observations_break(foreign):
    dataset = read_d4rl(foreign(timeouts=None, terminals=np.zeros(5, bool)))
    assert dataset.episode_lengths.tolist() == [3, 2]
    assert dataset.truncations.tolist() == [False, False, True, False, True]
    assert any("no 'timeouts'" in note for note in dataset.notes)
    assert any("leaves its last episode open" in finding.message for finding in diagnose(dataset))


def test_without_timeouts_and_next_observations_the_horizon_decides(foreign):
    path = foreign(timeouts=None, next_observations=None, terminals=np.array([0, 0, 0, 0, 1], bool))
    with pytest.raises(DatasetError, match="--horizon N"):
        read_d4rl(path)
    dataset = read_d4rl(path, horizon=2)
    assert dataset.episode_lengths.tolist() == [2, 2, 1]
    assert dataset.truncations.tolist() == [False, True, False, True, False]


def test_the_time_limit_of_the_named_environment_is_used(foreign):
    count = 450
    path = foreign(
        observations=np.zeros((count, 3), np.float32), actions=np.zeros((count, 1), np.float32),
        rewards=np.zeros(count), terminals=np.zeros(count, bool), timeouts=None, next_observations=None,
        metadata__environment=np.bytes_(b"Pendulum-v1"),
    )  # fmt: skip
    assert read_d4rl(path).episode_lengths.tolist() == [200, 200, 50]
    assert read_d4rl(path, horizon=100).episode_lengths.tolist() == [100, 100, 100, 100, 50]


def test_horizon_counts_from_the_last_termination():
    terminations = np.array([0, 0, 1, 0, 0, 0, 1, 0, 0], bool)
    assert np.flatnonzero(truncations_at_horizon(terminations, 3)).tolist() == [5]
    assert np.flatnonzero(truncations_at_horizon(terminations, 2)).tolist() == [1, 4, 8]
    with pytest.raises(DatasetError, match="horizon is 0"):
        truncations_at_horizon(terminations, 0)


def test_explicit_horizon_mends_timeouts_that_are_never_set(foreign):
    path = foreign(timeouts=np.zeros(5, bool), terminals=np.zeros(5, bool))
    assert read_d4rl(path).episode_lengths.tolist() == [5]
    assert read_d4rl(path, horizon=3).episode_lengths.tolist() == [3, 2]


def test_an_open_last_episode_is_kept_as_truncated(foreign):
    dataset = read_d4rl(foreign(timeouts=np.zeros(5, bool)))
    assert dataset.episode_lengths.tolist() == [3, 2]
    assert dataset.truncations[-1]
    assert dataset.notes == ("the file leaves its last episode open; it is kept and flagged as truncated.",)


def test_terminal_and_timeout_on_one_step_stay_both(foreign, tmp_path):
    both = np.array([0, 0, 1, 0, 1], bool)
    dataset = read_d4rl(foreign(terminals=both, timeouts=both))
    write_dataset(tmp_path / "again.hdf5", dataset)
    again = read_d4rl(tmp_path / "again.hdf5")
    assert again.terminations.tolist() == again.truncations.tolist() == both.tolist()
    assert any("both termination and truncation" in finding.message for finding in diagnose(dataset))


@pytest.mark.parametrize("ends", [[3, 5], [2, 5], [3], [3, 3, 5], [0, 5], [5, 3], [[3, 5]], [3.0, 5.0]])
def test_stored_ends_that_do_not_fit_are_not_used(foreign, ends):
    dataset = read_d4rl(foreign(foretell__episode_ends=np.array(ends)))
    assert dataset.episode_ends.tolist() == [3, 5]
    noted = [note for note in dataset.notes if "stored ends" in note]
    assert len(noted) == (str(ends) != "[3, 5]")


def test_all_else_in_the_file_survives(foreign, tmp_path, same):
    path = foreign(
        infos__goal=np.ones((5, 2)), infos__env__speed=np.arange(5), goal_kind=np.array([1, 2, 3]),
        metadata__policy__fc0__weight=np.ones((2, 2), np.float32), metadata__nonlinearity=np.bytes_(b"relu"),
        metadata__hyperparameters=np.array([1.0, 2.0]), metadata__seed=np.array([1, 2]), metadata__note="any length",
    )  # fmt: skip
    dataset = read_d4rl(path)
    assert set(dataset.infos) == {"goal", "env/speed"}
    assert dataset.extras["goal_kind"].tolist() == [1, 2, 3]
    assert set(dataset.metadata.policy_weights) == {"fc0/weight"}
    assert set(dataset.metadata.extra) == {"policy/fc0/weight", "nonlinearity", "hyperparameters", "seed", "note"}
    write_dataset(tmp_path / "again.hdf5", dataset)
    same(read_d4rl(tmp_path / "again.hdf5"), dataset)
