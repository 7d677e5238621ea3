"""Datasets that Foretell wrote notice every change; those by others may hold plain numbers and nothing else."""

from __future__ import annotations

import errno
import os
import shutil
import zlib

import h5py
import numpy as np
import pytest

from foretell.collection.imagination import imagine
from foretell.collection.recipes import collect_replay
from foretell.core.errors import CheckpointError, DatasetError, ResourceError
from foretell.core.files import write_json
from foretell.datasets import hdf5
from foretell.datasets.d4rl import read_d4rl
from foretell.datasets.d4rl_writer import write_d4rl, write_dataset
from foretell.datasets.doctor import diagnose
from foretell.datasets.fingerprint import unchanged
from foretell.datasets.hdf5_sink import Sink
from foretell.datasets.minari import write_minari
from foretell.values.configs import DynamicsConfig


@pytest.fixture
def ours(tmp_path, make_episode, metadata):
    path = tmp_path / "ours.hdf5"
    write_d4rl(path, [make_episode(np.random.default_rng(0), steps) for steps in (5, 4)], metadata)
    return path


def _errors(dataset):
    return [finding.check for finding in diagnose(dataset) if finding.severity == "error"]


@pytest.mark.parametrize(
    "name", ["metadata/environment", "metadata/policy/actor.0.weight", "foretell/fingerprint", "foretell/episode_ends"]
)
def test_a_changed_byte_beside_the_columns_is_refused_on_opening(ours, name):
    with h5py.File(ours) as file:
        place = file[name].id.get_offset()
    content = bytearray(ours.read_bytes())
    content[place] ^= 1
    ours.write_bytes(content)
    with pytest.raises(DatasetError, match="beside the columns"):
        read_d4rl(ours)


def test_a_changed_byte_in_a_column_is_an_error_of_the_dataset(ours, tmp_path, minari_storage):
    with h5py.File(ours) as file:
        place = file["rewards"].id.get_offset()
    content = bytearray(ours.read_bytes())
    content[place] ^= 1
    ours.write_bytes(content)
    damaged, config = read_d4rl(ours), DynamicsConfig(updates=2)
    assert _errors(damaged) == ["fingerprint"]
    for copied in (
        lambda path: collect_replay(ours, path=path, num_steps=3),
        lambda path: collect_replay(ours, path=path),
        lambda path: imagine(damaged, num_steps=3, seed=0, path=path, config=config),
        lambda path: write_dataset(path, damaged),
        lambda path: write_minari(damaged, "ours/damaged-v0"),
    ):
        with pytest.raises(DatasetError, match=r"ours\.hdf5: the columns are not those that were written"):
            copied(tmp_path / "copy.hdf5")
    assert not (tmp_path / "copy.hdf5").exists()


def test_every_structure_of_our_files_is_under_hdf5s_own_checksums(ours):
    """From version 2 on, HDF5 notices a changed name, type, shape or place by itself."""
    content = ours.read_bytes()
    assert content[8] >= 2
    with h5py.File(ours) as file:
        kept = np.zeros(len(content), bool)
        file.visititems(
            lambda _, item: (
                isinstance(item, h5py.Dataset)
                and kept.__setitem__(slice(item.id.get_offset(), item.id.get_offset() + item.nbytes), True)
            )
        )
    whole = read_d4rl(ours)
    refused = 0
    for place in np.flatnonzero(~kept)[::37].tolist():
        ours.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        try:
            found = read_d4rl(ours)
        except DatasetError:
            refused += 1
        else:
            assert (found.fingerprint(), found.metadata.environment) == (whole.fingerprint(), "Pendulum-v1")
            assert (found.extras.keys(), found.metadata.extra.keys()) == ({}.keys(), whole.metadata.extra.keys())
    assert refused > 30


def test_another_recording_in_the_place_of_ours_is_an_error(ours, tmp_path, make_episode, metadata):
    request = ours.with_suffix(".request.json")
    write_json(request, {"recipe": "random", "fingerprint": read_d4rl(ours).fingerprint()})
    assert _errors(read_d4rl(ours)) == []
    write_d4rl(tmp_path / "other.hdf5", [make_episode(np.random.default_rng(1), 9)], metadata)
    shutil.copy(tmp_path / "other.hdf5", ours)
    assert _errors(read_d4rl(ours)) == ["fingerprint"]
    request.write_text("{")
    with pytest.raises(CheckpointError, match=r"ours\.request\.json"):
        read_d4rl(ours)


def test_unchanged_data_are_passed_on(ours, foreign):
    for path in (ours, foreign()):
        dataset = read_d4rl(path)
        assert unchanged(dataset) is dataset


def test_a_request_beside_anothers_file_says_nothing(foreign):
    path = foreign()
    path.with_suffix(".request.json").write_text("to whom it may concern")
    assert read_d4rl(path).stored_fingerprint is None


def test_errors_of_the_disk_are_kept_from_hdf5_and_told_afterwards(tmp_path, monkeypatch, make_episode, metadata):
    """HDF5 would end the process: it writes while it closes, and does not expect that to fail."""
    real, written = os.pwrite, []

    def full(handle, data, place):
        written.append(len(data))
        if sum(written) > 2_000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(handle, data[: max(1, len(data) // 3)], place)  # the system may write less than it was given

    episodes = [make_episode(np.random.default_rng(0), 9)]
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(ResourceError, match=r"new\.hdf5: No space left on device; .* MiB free"):
        write_d4rl(tmp_path / "new.hdf5", episodes, metadata)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(os, "pwrite", lambda handle, data, place: real(handle, data[: max(1, len(data) // 3)], place))
    write_d4rl(tmp_path / "new.hdf5", episodes, metadata)
    assert _errors(read_d4rl(tmp_path / "new.hdf5")) == []


def test_a_sink_is_a_file(tmp_path):
    path = tmp_path / "sink"
    path.write_bytes(b"abc")
    sink = Sink(path)
    assert (sink.seek(0, os.SEEK_END), sink.tell()) == (3, 3)
    assert sink.write(np.arange(2, dtype="<u2").data) == 4
    assert sink.seek(-6, os.SEEK_CUR) == 1
    assert sink.read(9) == b"bc\0\0\1\0\0\0\0"
    sink.truncate(2)
    sink.check()
    sink.close()
    assert path.read_bytes() == b"ab"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (zlib.compress(bytes(100 << 20)), "unpacks to more than the 131072 bytes"),
        (zlib.compress(os.urandom(2**18)), "has a chunk of 262... bytes; expected at most 131072"),
        (zlib.compress(bytes(2**17))[:-9], "cannot be read"),
        (b"not packed at all", "cannot be read"),
    ],
    ids=["bomb", "too large", "cut off", "not packed"],
)
def test_chunks_that_do_not_hold_what_they_declare(foreign, content, message):
    path = foreign()
    with h5py.File(path, "a") as file:
        made = file.create_dataset("extra", (2**17,), "u1", chunks=(2**17,), compression="gzip")
        made.id.write_direct_chunk((0,), content)
    with pytest.raises(DatasetError, match=message):
        read_d4rl(path)


def test_large_chunks_of_lzf_are_refused(foreign):
    """Nothing bounds what LZF unpacks to, so the chunk itself has to be small."""
    path = foreign()
    with h5py.File(path, "a") as file:
        file.create_dataset("extra", data=np.zeros(9 << 20, "u1"), chunks=(9 << 20,), compression="lzf")
    with pytest.raises(DatasetError, match="LZF chunks above 4194304 bytes"):
        read_d4rl(path)


def test_too_many_chunks_are_not_counted(foreign, monkeypatch):
    path = foreign(extra=np.zeros(3))
    monkeypatch.setattr(hdf5.rules, "MAX_CHUNKS", 4)
    with h5py.File(path, "a") as file:
        file.create_dataset("dust", data=np.zeros(4, "u1"), chunks=(1,))
    assert read_d4rl(path).extras["dust"].shape == (4,)
    with h5py.File(path, "a") as file:
        file.create_dataset("more", data=np.zeros(5, "u1"), chunks=(1,))
    with pytest.raises(DatasetError, match="lies in 5 chunks; expected at most 4"):
        read_d4rl(path)


def test_a_chunk_may_be_as_long_as_it_declares(foreign):
    path = foreign(extra=np.zeros(3))
    with h5py.File(path, "a") as file:
        file.create_dataset("noise", data=np.frombuffer(os.urandom(4096), "u1"), chunks=(1024,), compression="gzip")
    assert read_d4rl(path).extras["noise"].shape == (4096,)


def test_what_is_mapped_is_what_was_opened(foreign, tmp_path):
    """The file is opened once: another one renamed into its place between two looks changes nothing."""
    path, other = foreign(), foreign("other.hdf5", rewards=np.full(5, 9, np.float32))
    with hdf5.open_arrays(path) as arrays:
        os.replace(other, path)
        assert hdf5.load(arrays["rewards"]).tolist() == [0, 1, 2, 3, 4]


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.hdf5")
    with pytest.raises(DatasetError, match="no such file"):
        read_d4rl(tmp_path / "pipe.hdf5")


def test_plug_ins_are_off_while_a_file_is_open_and_on_again_after(foreign):
    def places():
        return [h5py.h5pl.get(index) for index in range(h5py.h5pl.size())]

    before = places()
    assert before
    with hdf5.open_arrays(foreign()):
        assert places() == []
    assert places() == before


def test_a_copy_of_what_was_read_is_ours_again(foreign, tmp_path, same):
    dataset = read_d4rl(foreign(metadata__note="any length", extra=np.array([b"a\0b", b""])))
    write_dataset(tmp_path / "copy.hdf5", dataset)
    same(read_d4rl(tmp_path / "copy.hdf5"), dataset)
