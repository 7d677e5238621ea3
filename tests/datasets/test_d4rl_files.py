"""Files that Foretell writes: their form, D4RL's own way of reading them, and the way back."""

from __future__ import annotations

from dataclasses import replace

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell.core.episode import Episode
from foretell.core.errors import DatasetError, ResourceError, UsageError
from foretell.datasets import d4rl_writer, fingerprint
from foretell.datasets import dataset as dataset_module
from foretell.datasets.d4rl import read_d4rl
from foretell.datasets.d4rl_writer import D4RLWriter, layout_of, write_d4rl, write_dataset
from foretell.datasets.dataset import DatasetMetadata


@pytest.fixture
def written(tmp_path, make_episode, metadata):
    rng = np.random.default_rng(0)
    episodes = [make_episode(rng, 5), make_episode(rng, 1, terminated=True), make_episode(rng, 4, both=True)]
    path = tmp_path / "pendulum-test.hdf5"
    write_d4rl(path, episodes, metadata)
    return path, episodes


def read_as_d4rl_does(path):
    """D4RL's `get_dataset`: visit every dataset, read it whole, fall back for scalars."""
    data = {}
    with h5py.File(path, "r") as file:
        keys = []
        file.visititems(lambda name, item: keys.append(name) if isinstance(item, h5py.Dataset) else None)
        for key in keys:
            try:
                data[key] = file[key][:]
            except ValueError:
                data[key] = file[key][()]
    return data


def test_satisfies_d4rls_reader_and_its_checks(written):
    data = read_as_d4rl_does(written[0])
    for key in ("observations", "actions", "rewards", "terminals"):
        assert key in data
    count = len(data["observations"])
    assert data["observations"].shape[1:] == (3,)
    assert data["actions"].shape[1:] == (1,)
    assert data["rewards"].shape == data["terminals"].shape == (count,) == (10,)
    assert data["metadata/algorithm"] == b"SAC"
    assert data["metadata/policy/actor.0.weight"].dtype == np.float32


def test_form_of_the_file(written):
    with h5py.File(written[0]) as file:
        expected = {"observations": "<f4", "next_observations": "<f4", "actions": "<f4", "rewards": "<f4"}
        for key, kind in expected.items():
            assert file[key].dtype.str == kind
        assert file["terminals"].dtype == file["timeouts"].dtype == bool
        items = []
        file.visititems(lambda _, item: items.append(item))
        for item in (i for i in items if isinstance(i, h5py.Dataset)):
            assert item.chunks is None
            assert item.dtype.kind != "O"
        for key in (*expected, "infos/action_log_probs", "infos/qpos", "terminals", "timeouts"):
            assert file[key].id.get_offset() % d4rl_writer.ALIGNMENT == 0


def test_columns_are_mapped_and_hold_what_was_written(written):
    path, episodes = written
    dataset = read_d4rl(path)
    for values in dataset.columns().values():
        assert isinstance(values, np.memmap)
        assert not values.flags.writeable
    np.testing.assert_array_equal(dataset.episode_ends, [5, 6, 10])
    for original, read in zip(episodes, dataset.episodes(), strict=True):
        for field in ("observations", "actions", "rewards", "terminations", "truncations"):
            np.testing.assert_array_equal(getattr(read, field), getattr(original, field), strict=True)
        for name in original.infos:
            np.testing.assert_array_equal(read.infos[name], original.infos[name], strict=True)
        assert read.final_observation_known
    np.testing.assert_allclose(dataset.episode_returns(), [e.total_reward for e in episodes], rtol=1e-12)
    assert dataset.stored_fingerprint == dataset.fingerprint()
    assert dataset.notes == ()


def test_opening_reads_no_column(written, monkeypatch):
    """Opening takes the same time whatever the size: large columns are mapped, never read through HDF5."""
    read = []
    original = h5py.Dataset.__getitem__
    monkeypatch.setattr(h5py.Dataset, "__getitem__", lambda self, key: (read.append(self.name), original(self, key))[1])
    monkeypatch.setattr("foretell.datasets.boundaries.ends_of", None)  # the linear way must not be taken
    read_d4rl(written[0])
    assert all(name.startswith(("/metadata/", "/foretell/fingerprint", "/foretell/checksum")) for name in read)


def test_equal_content_gives_equal_bytes(written, tmp_path, metadata):
    path, episodes = written
    write_d4rl(tmp_path / "again.hdf5", episodes, metadata)
    assert (tmp_path / "again.hdf5").read_bytes() == path.read_bytes()
    write_dataset(tmp_path / "copy.hdf5", read_d4rl(path))
    assert (tmp_path / "copy.hdf5").read_bytes() == path.read_bytes()


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    shapes=st.lists(st.tuples(st.integers(1, 9), st.booleans(), st.booleans()), min_size=1, max_size=8),
    discrete=st.booleans(),
    known=st.booleans(),
    block=st.integers(1, 20),
)
def test_round_trip_loses_nothing(tmp_path_factory, make_episode, same, metadata, seed, shapes, discrete, known, block):
    folder = tmp_path_factory.mktemp("round")
    rng = np.random.default_rng(seed)
    episodes = [make_episode(rng, n, terminated=t, both=b, discrete=discrete) for n, t, b in shapes]
    if not known:
        episodes[0] = replace(episodes[0], final_observation_known=False)
    with pytest.MonkeyPatch.context() as patch:
        for module in (fingerprint, dataset_module):
            patch.setattr(module, "BLOCK_ROWS", block)
        write_d4rl(folder / "one.hdf5", episodes, metadata)
        first = read_d4rl(folder / "one.hdf5")
        write_dataset(folder / "two.hdf5", first)
    same(first, read_d4rl(folder / "two.hdf5"))
    assert first.episode_lengths.tolist() == [len(e) for e in episodes]
    assert (first.next_observations is not None) == known
    np.testing.assert_array_equal(first.actions, np.concatenate([e.actions for e in episodes]), strict=True)


def test_unknown_final_observations_are_not_invented(tmp_path, make_episode, metadata):
    episode = replace(make_episode(np.random.default_rng(0), 4), final_observation_known=False)
    write_d4rl(tmp_path / "a.hdf5", [episode], metadata)
    with h5py.File(tmp_path / "a.hdf5") as file:
        assert "next_observations" not in file
    read = read_d4rl(tmp_path / "a.hdf5").episode(0)
    assert not read.final_observation_known
    np.testing.assert_array_equal(read.observations[-1], read.observations[-2])


def test_images_stay_bytes(tmp_path, make_episode, metadata):
    rng = np.random.default_rng(0)
    frames = rng.integers(256, size=(5, 1, 8, 8), dtype=np.uint8)
    write_d4rl(tmp_path / "a.hdf5", [replace(make_episode(rng, 4), observations=frames)], metadata)
    dataset = read_d4rl(tmp_path / "a.hdf5")
    assert dataset.observation_shape == (1, 8, 8)
    np.testing.assert_array_equal(dataset.episode(0).observations, frames, strict=True)


def test_first_steps_end_in_a_truncation(written):
    dataset = read_d4rl(written[0])
    cut = dataset.section(0, 8)
    assert cut.episode_lengths.tolist() == [5, 1, 2]
    assert cut.truncations[-1]
    assert not dataset.truncations[7]
    assert cut.episode(2).observations.shape == (3, 3)
    np.testing.assert_array_equal(cut.episode(2).observations[-1], dataset.next_observations[7])
    assert not dataset.section(0, 6).truncations[-1]  # a termination stays one
    assert dataset.section(0, 5).episode_lengths.tolist() == [5]
    tail = dataset.section(3, 10)  # cuts the first episode at its start
    assert tail.episode_lengths.tolist() == [2, 1, *dataset.episode_lengths[2:].tolist()]
    np.testing.assert_array_equal(tail.rewards, dataset.rewards[3:])
    with pytest.raises(DatasetError, match="timesteps 0 to 10; expected some of the 10"):
        dataset.section(0, 11)


def test_a_failed_write_leaves_what_was_there(written, metadata):
    path, _ = written
    before = path.read_bytes()
    columns = {k: np.array(v) for k, v in read_d4rl(path).columns().items()}
    with (
        pytest.raises(DatasetError, match="10 timesteps came; expected 11"),
        D4RLWriter(path, num_steps=11, layout=layout_of(columns), metadata=metadata) as writer,
    ):
        writer.append(columns)
    with pytest.raises(ZeroDivisionError), D4RLWriter(path, num_steps=9, layout=layout_of(columns), metadata=metadata):
        raise ZeroDivisionError
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"truncations": np.zeros(10, bool), "terminations": np.zeros(10, bool)}, "does not end with an episode"),
        ({"actions": np.zeros((10, 2), np.float32)}, r"actions has shape \(10, 2\); expected \(10, 1\)"),
        ({"surprise": np.zeros(10)}, "surprise"),
    ],
)
def test_a_wrong_block_is_refused(written, tmp_path, metadata, changed, message):
    columns = read_d4rl(written[0]).columns()
    with (
        pytest.raises(DatasetError, match=message),
        D4RLWriter(tmp_path / "b.hdf5", num_steps=10, layout=layout_of(columns), metadata=metadata) as writer,
    ):
        writer.append(columns | changed)
    assert not (tmp_path / "b.hdf5").exists()


def test_episodes_that_differ_are_refused(tmp_path, make_episode, metadata):
    rng = np.random.default_rng(0)
    with pytest.raises(DatasetError, match="differ in shape"):
        write_d4rl(tmp_path / "a.hdf5", [make_episode(rng, 2), make_episode(rng, 2, width=4)], metadata)
    with pytest.raises(DatasetError, match="different infos"):
        write_d4rl(tmp_path / "a.hdf5", [make_episode(rng, 2), replace(make_episode(rng, 2), infos={})], metadata)
    with pytest.raises(DatasetError, match="0 episodes to write"):
        write_d4rl(tmp_path / "a.hdf5", [], metadata)


def test_a_full_disk_is_said_before_the_work(written, tmp_path, monkeypatch):
    dataset = read_d4rl(written[0])
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr("foretell.datasets.d4rl_writer.shutil.disk_usage", lambda _: usage)
    with pytest.raises(ResourceError, match="No space left on device for"):
        write_dataset(tmp_path / "c.hdf5", dataset)
    assert not (tmp_path / "c.hdf5").exists()


def _small(values, **changed):
    content = {"observations": np.zeros((len(values) + 1, 1), np.float32), "actions": np.zeros((len(values), 1))}
    flags = np.zeros(len(values), bool)
    content |= {"rewards": np.asarray(values), "terminations": flags, "truncations": flags.copy()}
    content["truncations"][-1] = True
    return Episode(**(content | changed))


def test_whole_rewards_at_first_cut_off_no_later_ones(tmp_path, metadata):
    write_d4rl(tmp_path / "x.hdf5", [_small([1, 0, 1]), _small([0.5, 0.9, -0.7])], metadata)
    found = read_d4rl(tmp_path / "x.hdf5").rewards
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [1, 0, 1, 0.5, 0.9, -0.7])


@pytest.mark.parametrize("what", ["observations", "actions", "infos"])
def test_fractions_among_whole_numbers_are_refused(tmp_path, metadata, what):
    def episode(kind):
        numbers = np.array([[0.5], [1.5], [2.5]]).astype(kind)
        changed = {"observations": numbers, "actions": numbers[1:], "infos": {"battery": numbers[1:]}}
        return _small([0.0, 0.0], **{what: changed[what]})

    kind = np.uint8 if what == "observations" else np.int64
    with pytest.raises(DatasetError, match=r"float.* among (int64|uint8).*one type"):
        write_d4rl(tmp_path / "x.hdf5", [episode(kind), episode(np.float64)], metadata)
    assert not (tmp_path / "x.hdf5").exists()


@pytest.mark.parametrize(
    "changed",
    [
        {"observations": np.arange(10).reshape(5, 2)},
        {"observations": np.ones((5, 2), bool)},
        {"actions": np.array([True, False, True, True])},
        {"actions": np.arange(4.0).astype(">f4")[:, None]},
        {"actions": np.arange(4)[:, None]},
        {"actions": np.arange(8).reshape(4, 2)},
        {"actions": np.arange(4, dtype=">i8")},
        {"rewards": np.arange(4)},
        {"rewards": np.ones(4, bool)},
        {"infos": {"battery": [4, 3, 2, 1]}},
    ],
    ids=str,
)
def test_what_was_written_is_what_is_read_whatever_the_type(tmp_path, metadata, changed):
    """A reader makes one type of every column; written otherwise, a whole file looked damaged."""
    episode = _small(np.zeros(4), **changed)
    write_d4rl(tmp_path / "x.hdf5", [episode, episode], metadata)
    dataset = read_d4rl(tmp_path / "x.hdf5")
    assert dataset.stored_fingerprint == dataset.fingerprint()
    for name, values in changed.items():
        found = dataset.infos["battery"] if name == "infos" else getattr(dataset, name)
        given = values["battery"] if name == "infos" else values[: len(episode)]
        np.testing.assert_array_equal(found[: len(episode)].squeeze(), np.squeeze(given))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"observations": np.full((4, 1), 1e300)}, "observations' holds inf"),
        ({"infos": {"said": np.array(["a", "b", "c"])}}, "said' has type <U1"),
        ({"actions": np.zeros((3, 2, 2))}, "actions' has shape"),
    ],
)
def test_what_could_not_be_read_is_not_written(tmp_path, metadata, changed, words):
    with pytest.raises(DatasetError, match=words):
        write_d4rl(tmp_path / "x.hdf5", [_small(np.zeros(3), **changed)], metadata)
    assert not (tmp_path / "x.hdf5").exists()


@pytest.mark.parametrize(("given", "words"), [("episode", "episodes are Episode"), ("metadata", "metadata dict")])
def test_arguments_of_other_kinds_are_refused(tmp_path, metadata, given, words):
    episodes = _small(np.zeros(3)) if given == "episode" else [_small(np.zeros(3))]
    with pytest.raises(UsageError, match=words):
        write_d4rl(tmp_path / "x.hdf5", episodes, {} if given == "metadata" else metadata)


def test_names_of_other_kinds_are_refused():
    with pytest.raises(UsageError, match="environment is 3; expected a text"):
        DatasetMetadata(environment=3)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (np.int8([1]), np.int64([1000])),
        (np.int32([1]), np.int64([2**40])),
        (np.array([b"h"]), np.array([b"hello"])),
        (np.float32([1]), np.float64([1e300])),
        (np.float16([1]), np.float64([70000])),
    ],
)
def test_numbers_that_the_first_episodes_type_cannot_hold_are_refused(tmp_path, metadata, first, second):
    """A block each, so that nothing else joins them to one type before."""
    layout = layout_of(_columns(_small([0.0], infos={"battery": first})))

    def write():
        with D4RLWriter(tmp_path / "x.hdf5", num_steps=2, layout=layout, metadata=metadata) as writer:
            for values in (first, second):
                writer.append(_columns(_small([0.0], infos={"battery": values})))

    with pytest.raises(DatasetError, match="cannot hold them"):
        write()
    assert not (tmp_path / "x.hdf5").exists()


def _columns(episode):
    names = ("actions", "rewards", "terminations", "truncations")
    return {
        **{name: getattr(episode, name) for name in names}, "observations": episode.observations[:-1],
        **{f"infos/{name}": values for name, values in episode.infos.items()},
    }  # fmt: skip


def test_numbers_that_it_can_hold_are_kept(tmp_path, metadata):
    episodes = [_small([0.0], infos={"battery": values}) for values in (np.int8([1]), np.int64([100]))]
    write_d4rl(tmp_path / "x.hdf5", episodes, metadata)
    assert read_d4rl(tmp_path / "x.hdf5").infos["battery"].tolist() == [1, 100]
