"""What is given to readers and writers in the place of what they take: a sentence, and nothing written."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from foretell.core.errors import UsageError
from foretell.datasets.d4rl_writer import write_d4rl, write_dataset
from foretell.datasets.dataset import DatasetMetadata
from foretell.datasets.registry import open_dataset
from foretell.facade.seeds import train_seeds
from foretell.facade.source import Source


@pytest.fixture
def episode(make_episode):
    return make_episode(np.random.default_rng(0), 4)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            lambda one: {"observations": one.observations},
            "episodes are dict; expected a list of Episode.*write_dataset",
        ),
        (lambda one: [{"observations": one.observations}], "episodes are of type dict; expected a list of Episode"),
        (lambda one: [one, one.rewards], "episodes are of type ndarray; expected a list"),
        (lambda one: 5, "episodes are int; expected a list of Episode"),
    ],
    ids=["columns", "dicts", "an array among them", "a number"],
)
def test_write_d4rl_takes_episodes(episode, given, words, tmp_path):
    with pytest.raises(UsageError, match=words):
        write_d4rl(tmp_path / "x.hdf5", given(episode), DatasetMetadata())
    assert not list(tmp_path.iterdir())


def test_write_d4rl_and_write_dataset_name_each_other(episode, tmp_path):
    write_d4rl(tmp_path / "x.hdf5", (one for one in [episode]), DatasetMetadata())
    dataset = open_dataset(tmp_path / "x.hdf5")
    with pytest.raises(UsageError, match=r"episodes are a Dataset.*write_dataset writes it"):
        write_d4rl(tmp_path / "y.hdf5", dataset, DatasetMetadata())
    for given, kind in (([episode], "list"), (None, "NoneType"), (dataset.columns(), "dict")):
        with pytest.raises(UsageError, match=rf"the dataset is of type {kind}; expected a Dataset\. write_d4rl writes"):
            write_dataset(tmp_path / "y.hdf5", given)
    assert [path.name for path in tmp_path.iterdir()] == ["x.hdf5"]


@pytest.mark.parametrize("name", ["y.npz", "y", "y.hdf5.gz"])
def test_a_dataset_is_written_under_a_name_that_it_is_opened_by(episode, name, tmp_path):
    write_d4rl(tmp_path / "x.hdf5", [episode], DatasetMetadata())
    with pytest.raises(UsageError, match=r"expected one that ends in \.hdf5 or \.h5"):
        write_dataset(tmp_path / name, open_dataset(tmp_path / "x.hdf5"))
    assert [path.name for path in tmp_path.iterdir()] == ["x.hdf5"]
    write_dataset(tmp_path / "Y.H5", open_dataset(tmp_path / "x.hdf5"))
    assert open_dataset(tmp_path / "Y.H5").num_steps == 4


@pytest.mark.parametrize("given", [None, 5, b"x.hdf5", ["x.hdf5"]])
def test_open_dataset_takes_names(given):
    words = f"dataset is of type {type(given).__name__}; expected a path that ends in .hdf5 or .h5, minari:ID, or a"
    with pytest.raises(UsageError, match=words):
        open_dataset(given)
    with pytest.raises(UsageError, match=f"dataset is of type {type(given).__name__}; expected"):
        train_seeds(given, "runs", [0])
    with pytest.raises(UsageError, match=f"dataset is of type {type(given).__name__}; expected"):
        Source.of(given, None, None, None)


def test_an_open_file_of_h5py_is_no_name(episode, tmp_path):
    write_d4rl(tmp_path / "x.hdf5", [episode], DatasetMetadata())
    with h5py.File(tmp_path / "x.hdf5") as file, pytest.raises(UsageError, match="dataset is of type File"):
        open_dataset(file)


class _Named:
    def __init__(self, path: Path):
        self.path = path

    def __fspath__(self):
        return str(self.path)


def test_whatever_names_a_path_is_one(episode, tmp_path):
    write_d4rl(tmp_path / "x.hdf5", [episode], DatasetMetadata())
    assert open_dataset(_Named(tmp_path / "x.hdf5")).num_steps == 4
