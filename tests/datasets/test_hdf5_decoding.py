"""Arrays that HDF5's library has to decode are decoded in a process of their own, and are what they were."""

from __future__ import annotations

import os
import signal
import time

import h5py
import numpy as np
import pytest

from conformance.checks import notices
from foretell.collection.recipes import collect_random
from foretell.core.errors import DatasetError
from foretell.datasets import hdf5, hdf5_decoding
from foretell.datasets.registry import open_dataset

COLUMNS = {
    "floats": np.linspace(-1, 1, 999, dtype=np.float32).reshape(333, 3),
    "flags": np.arange(333) % 3 == 0,
    "big-endian": np.arange(5, dtype=">i8"),
    "nothing": np.zeros((0, 4), np.float32),
}


@pytest.fixture
def path(tmp_path):
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        for name, values in COLUMNS.items():
            file.create_dataset(name, data=values, chunks=True, maxshape=(None, *values.shape[1:]), compression="gzip")
        file["text"] = "schön"
    return tmp_path / "a.hdf5"


def check_decoded_apart(path):
    """What kills the process that decodes is an error of the data here."""
    said = ""
    try:
        with hdf5.open_arrays(path):
            pass
    except DatasetError as error:
        said = str(error)
    assert "ended by signal 11 while decoding it" in said


def _dying(self, what):
    os.kill(os.getpid(), signal.SIGSEGV)


def test_arrays_are_what_they_were(path):
    with hdf5.open_arrays(path) as arrays:
        found = {name: hdf5.load(array) for name, array in arrays.items()}
    assert found.pop("text").tobytes().decode() == "schön"
    assert found.keys() == COLUMNS.keys()
    for name, values in COLUMNS.items():
        np.testing.assert_array_equal(found[name], values, strict=name != "big-endian")


def test_a_crash_of_the_library_is_an_error_of_the_data(path, monkeypatch):
    monkeypatch.setattr(h5py.Dataset, "__getitem__", _dying)
    check_decoded_apart(path)


def test_a_process_that_the_system_killed_wanted_memory(path, monkeypatch):
    monkeypatch.setattr(h5py.Dataset, "__getitem__", lambda self, what: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(MemoryError, match="memory may be short"), hdf5.open_arrays(path):
        pass


def test_decoding_here_is_noticed(path, monkeypatch):
    monkeypatch.setattr(hdf5, "decoded", lambda arrays, where: {name: array[()] for name, array in arrays.items()})
    notices(check_decoded_apart, path)


def test_decoding_without_end_is_an_error_of_the_data(path, monkeypatch):
    monkeypatch.setattr(h5py.Dataset, "__getitem__", lambda self, what: time.sleep(60))
    monkeypatch.setattr(hdf5_decoding, "PATIENCE", 1)
    begun = time.monotonic()
    with pytest.raises(DatasetError, match="did not end within 1 s"), hdf5.open_arrays(path):
        pass
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize(("error", "kind", "words"), [
    (OSError("inflate() failed"), DatasetError, "cannot be read .inflate.. failed"),
    (MemoryError("too large"), MemoryError, "too large"), (OSError(12, "no memory"), MemoryError, "no memory to read"),
])  # fmt: skip
def test_what_the_library_raises_is_raised_here(path, monkeypatch, error, kind, words):
    def failing(self, what):
        raise error

    monkeypatch.setattr(h5py.Dataset, "__getitem__", failing)
    with pytest.raises(kind, match=words), hdf5.open_arrays(path):
        pass


def test_what_lies_in_one_piece_needs_no_process(tmp_path, monkeypatch):
    collect_random("Pendulum-v1", 400, 0, tmp_path / "ours.hdf5")
    monkeypatch.setattr(os, "fork", None)
    assert open_dataset(tmp_path / "ours.hdf5").num_steps == 400


def test_who_is_interrupted_leaves_no_process_behind(path, monkeypatch):
    children, fork = [], os.fork

    def noted():
        children.append(fork())
        return children[-1]

    monkeypatch.setattr(os, "fork", noted)
    monkeypatch.setattr(hdf5_decoding, "_decode", lambda *_: time.sleep(60) or os._exit(0))
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with pytest.raises(KeyboardInterrupt), hdf5.open_arrays(path):
            pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    with pytest.raises(ChildProcessError):
        os.waitpid(children[0], os.WNOHANG)
