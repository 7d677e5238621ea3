"""Where episodes end, said by whoever opens the file: `ends_at`, for files whose flags mean something else."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from foretell.core.errors import DatasetError, UsageError
from foretell.datasets.card import dataset_card
from foretell.datasets.d4rl import read_d4rl
from foretell.datasets.d4rl_writer import write_d4rl, write_dataset
from foretell.datasets.fingerprint import unchanged
from foretell.datasets.registry import open_dataset
from foretell.facade.source import Source

EPISODES, STEPS = 20, 101


def _maze(path, **changed):
    """AntMaze as D4RL has it: a terminal at every timestep at the goal, and the episode goes on to its time limit."""
    rng, count = np.random.default_rng(1), EPISODES * STEPS
    reached = np.tile(np.arange(STEPS) >= 62, EPISODES)
    columns = {
        "observations": rng.normal(size=(count, 4)).astype(np.float32),
        "actions": rng.uniform(-1, 1, (count, 2)).astype(np.float32),
        "rewards": reached.astype(np.float32),
        "terminals": reached,
        "timeouts": np.arange(1, count + 1) % STEPS == 0,
        "infos/goal": rng.normal(size=(count, 2)),
    } | changed
    with h5py.File(path, "w") as file:
        for key, values in columns.items():
            if values is not None:
                file[key] = values
    return path


@pytest.fixture
def maze(tmp_path):
    return _maze(tmp_path / "antmaze.hdf5")


def test_a_goal_within_an_episode_is_no_end_of_it(maze):
    assert open_dataset(maze).num_episodes == EPISODES * 39
    dataset = open_dataset(maze, ends_at="timeouts")
    assert dataset.episode_lengths.tolist() == [STEPS] * EPISODES
    assert dataset.episode_returns().tolist() == [39.0] * EPISODES
    assert np.flatnonzero(dataset.terminations).tolist() == (dataset.episode_ends - 1).tolist()
    assert not dataset.truncations.any()
    assert dataset.notes[0] == (
        "episodes end where 'timeouts' is True, as asked for; 760 'terminals' at other timesteps are cleared."
    )
    assert dataset.infos["goal"].shape == (2020, 2)


def test_the_card_says_how_many_were_cleared(maze):
    said = [found["message"] for found in dataset_card(open_dataset(maze, ends_at="timeouts"))["warnings"]]
    assert any("760 'terminals' at other timesteps are cleared" in message for message in said)


@pytest.mark.parametrize(("last", "terminations"), [(False, 19), (True, 20)], ids=["open", "a terminal"])
def test_the_last_timestep_is_an_end_whatever_is_said(tmp_path, last, terminations):
    timeouts, terminals = np.zeros(2020, bool), np.zeros(2020, bool)
    timeouts[np.arange(1, 20) * STEPS - 1] = terminals[np.arange(1, 20) * STEPS - 1] = True
    terminals[-1] = last
    dataset = read_d4rl(_maze(tmp_path / "a.hdf5", timeouts=timeouts, terminals=terminals), ends_at="timeouts")
    assert dataset.num_episodes == EPISODES
    assert int(dataset.terminations.sum()) == terminations
    assert dataset.truncations[-1] == (not last)
    assert ("the file leaves its last episode open; it is kept and flagged as truncated." in dataset.notes) != last


def test_ends_that_are_no_terminals_are_truncations(foreign):
    """As d3rlpy keeps them beside its terminals."""
    both = np.array([0, 0, 1, 0, 1], np.float32)
    path = foreign(timeouts=None, next_observations=None, episode_terminals=both, version=np.bytes_(b"1.0"))
    dataset = read_d4rl(path, ends_at="episode_terminals")
    assert dataset.episode_lengths.tolist() == [3, 2]
    assert dataset.terminations.tolist() == [False, False, True, False, False]
    assert dataset.truncations.tolist() == [False, False, False, False, True]
    assert dataset.notes[0] == "episodes end where 'episode_terminals' is True, as asked for."
    assert set(dataset.extras) == {"version"}  # the other one is read


def test_terminals_alone_may_be_the_ends(foreign):
    path = foreign(timeouts=np.array([0, 1, 0, 0, 0], bool), terminals=np.array([0, 0, 1, 0, 1], bool))
    dataset = read_d4rl(path, ends_at="terminals")
    assert dataset.episode_lengths.tolist() == [3, 2]
    assert dataset.terminations.tolist() == [False, False, True, False, True]
    assert not dataset.truncations.any()
    assert "1 'timeouts' at other timesteps are cleared" in dataset.notes[0]


def test_an_info_may_say_it(foreign):
    path = foreign(timeouts=None, infos__last=np.array([[0], [1], [0], [0], [1]], np.uint8))
    dataset = read_d4rl(path, ends_at="infos/last")
    assert dataset.episode_ends.tolist() == [2, 5]
    assert dataset.terminations.sum() == 0
    assert "1 'terminals' at other timesteps are cleared" in dataset.notes[0]
    assert set(dataset.infos) == {"last"}


def test_an_array_that_is_not_there_is_answered_with_those_that_are(foreign):
    path = foreign(dones=np.array([0, 0, 1, 0, 1.0]), infos__speed=np.linspace(0, 1, 5), infos__never=np.zeros(5))
    with pytest.raises(
        UsageError, match=r"'done' is not there; expected .* Of flags the file has dones, terminals, time"
    ):
        read_d4rl(path, ends_at="done")


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("never", "'never' is never True; expected True at the last timestep of each episode. Of flags the file has"),
        ("phase", "'phase' holds 0.5 in row 1; expected flags"),
        ("actions", "'actions' is no array of 5 flags"),
        ("few", "'few' is no array of 5 flags, one a timestep"),
    ],
    ids=["never", "phase", "actions", "few"],
)
def test_what_cannot_say_where_episodes_end(foreign, key, words):
    path = foreign(never=np.zeros(5, bool), phase=np.array([0, 0.5, 0, 0, 1]), few=np.ones(3, bool))
    with pytest.raises(DatasetError, match=words):
        read_d4rl(path, ends_at=key)


@pytest.mark.parametrize(("ends_at", "words"), [(5, "ends_at is 5; expected the name"), (True, "ends_at is True")])
def test_it_is_a_name(foreign, ends_at, words):
    with pytest.raises(UsageError, match=words):
        read_d4rl(foreign(), ends_at=ends_at)


def test_one_rule_at_a_time(foreign):
    with pytest.raises(UsageError, match=r"ends_at \(timeouts\) and a horizon \(3\) both say where episodes end"):
        open_dataset(foreign(), horizon=3, ends_at="timeouts")


def test_of_minari_and_of_what_is_open_the_ends_are_known(maze):
    with pytest.raises(UsageError, match=r"Minari says where episodes end; ends_at \(timeouts\) is for files"):
        open_dataset("minari:maze-v0", ends_at="timeouts")
    with pytest.raises(UsageError, match=r"antmaze is open, and its episodes are known; ends_at \(timeouts\)"):
        Source.of(open_dataset(maze), None, None, None, ends_at="timeouts")


def test_a_time_limit_of_the_environment_is_not_asked(tmp_path):
    path = _maze(tmp_path / "limited.hdf5", timeouts=None, ends=np.arange(1, 2021) % STEPS == 0)
    assert open_dataset(path, environment="Pendulum-v1", ends_at="ends").num_episodes == EPISODES


def test_a_damaged_flag_is_not_mended_by_the_way(foreign):
    path = foreign()
    with h5py.File(path, "r+") as file:
        offset = file["terminals"].id.get_offset()
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\x07")
    with pytest.raises(DatasetError, match="'terminals' holds a byte that is neither 0 nor 1"):
        read_d4rl(path, ends_at="timeouts")


@pytest.fixture
def ours(tmp_path, make_episode, metadata):
    rng = np.random.default_rng(0)
    write_d4rl(tmp_path / "ours.hdf5", [make_episode(rng, 4, terminated=True), make_episode(rng, 3)], metadata)
    return tmp_path / "ours.hdf5"


def test_who_asks_wins_over_the_ends_that_a_file_of_ours_keeps(ours, same, tmp_path):
    assert open_dataset(ours).episode_ends.tolist() == [4, 7]
    dataset = unchanged(open_dataset(ours, ends_at="timeouts"))
    assert dataset.episode_ends.tolist() == [7]
    assert dataset.terminations.sum() == 0
    assert not any("stored ends" in note for note in dataset.notes)
    assert dataset.fingerprint() != open_dataset(ours).fingerprint()
    write_dataset(tmp_path / "again.hdf5", dataset)
    same(unchanged(open_dataset(tmp_path / "again.hdf5")), dataset)


def test_a_file_of_ours_that_was_edited_is_noticed_all_the_same(ours):
    with h5py.File(ours, "r+") as file:
        file["rewards"][2] += 1
    with pytest.raises(DatasetError, match="not those that were written"):
        unchanged(open_dataset(ours, ends_at="timeouts"))
