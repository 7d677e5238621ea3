"""Memory that runs out is told, with what was asked for and what the limit is."""

from __future__ import annotations

import errno
import resource

import h5py
import numpy as np
import pytest
import torch

import foretell
from foretell.cli import main as command_line
from foretell.cli.inspect import Inspect
from foretell.core import containers, memory, system
from foretell.core.errors import ResourceError
from foretell.datasets import hdf5
from foretell.training.checkpoints import load_tensors, save_tensors

LARGE = foretell.TrainingConfig(updates=1, batch_size=10**14)


def _raised(kind, function):
    with pytest.raises(kind) as caught:
        function()
    return caught.value


@pytest.mark.parametrize(
    ("error", "asked"),
    [
        (_raised(MemoryError, lambda: np.empty(10**15)), "7.11 PiB at once"),
        (_raised(RuntimeError, lambda: torch.empty(10**15)), "4000000000000000 bytes at once"),
        (MemoryError(), "more than there is"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "more than there is"),
        (RuntimeError("can't start new thread"), "more than there is"),
        (ImportError("libx.so: failed to map segment from shared object"), "more than there is"),
        (RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0"), "20.00 MiB at once"),
        (RuntimeError("shapes do not fit"), None),
        (OSError(errno.ENOSPC, "No space left on device"), None),
        (ImportError("no such module"), None),
        (ValueError("cannot allocate memory"), None),
    ],
)
def test_what_was_asked_for(error, asked):
    assert memory.asked_for(error) == asked
    expected = ResourceError if asked else type(error)
    with pytest.raises(expected, match="memory is full: .* was asked for" if asked else None), memory.memory_errors():
        raise error


def test_a_gpus_memory_is_told_apart():
    short = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has 12 MiB free")
    said = r"^the GPU's memory is full: 20\.00 MiB at once"
    with pytest.raises(ResourceError, match=said) as caught, memory.memory_errors():
        raise short
    assert "limits this process" not in str(caught.value)


def test_a_command_that_needs_too_much_says_so(pendulum_random, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    data, out = str(pendulum_random.path), str(tmp_path / "run")
    code = command_line.main(["train", data, "--out", out, "--target", "-800", "--batch-size", str(10**14)])
    said = capsys.readouterr().err.splitlines()
    assert (code, said[-1].startswith("foretell: memory is full: 728. TiB at once was asked for")) == (6, True), said


def test_a_verb_that_needs_too_much_says_so(capsys, monkeypatch):
    def run(verb):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8000 bytes.")

    monkeypatch.setattr(Inspect, "run", run)
    assert command_line.main(["inspect", "any.hdf5"]) == 6
    assert capsys.readouterr().err.startswith("foretell: memory is full: 8000 bytes at once was asked for")


SHORT = "^(seed 0: )?memory is full: .* was asked for"


@pytest.mark.parametrize("learn", ["train", "train_seeds", "train_iql", "train_sac"])
def test_training_from_python_says_so(learn, pendulum_random, tmp_path):
    given = {
        "train": lambda: foretell.train(pendulum_random, tmp_path / "run", training=LARGE),
        "train_seeds": lambda: foretell.train_seeds(pendulum_random, tmp_path / "run", [0], training=LARGE),
        "train_iql": lambda: foretell.train_iql(
            pendulum_random, tmp_path / "run", values=foretell.IQLConfig(updates=1, batch_size=10**14)
        ),
        "train_sac": lambda: foretell.train_sac(
            "Pendulum-v1", tmp_path / "run", config=foretell.SACConfig(total_steps=10**14)
        ),
    }  # fmt: skip
    with pytest.raises(ResourceError, match=SHORT) as caught:
        given[learn]()
    assert isinstance(caught.value.__cause__, MemoryError | RuntimeError | ResourceError)


def test_the_least_limit_is_named(monkeypatch):
    monkeypatch.setattr(memory, "limits", lambda: {"ulimit -v": 1 << 30, "the control group": 1 << 29})
    with pytest.raises(ResourceError, match="the control group allows 512 MiB"), memory.memory_errors():
        raise MemoryError


GROUPS = {
    "4:memory:/jobs/one\n1:cpu:/jobs/one\n": {"memory/jobs/memory.limit_in_bytes": "1048576\n"},
    "0::/jobs/one\n": {"jobs/one/memory.max": "max\n", "jobs/memory.max": "1048576\n"},
    "0::/../outside\n": {"memory.max": "1048576\n"},
}


@pytest.mark.parametrize("own", GROUPS)
def test_the_limit_of_a_control_group_is_found(own, tmp_path):
    (tmp_path / "own").write_text(own)
    assert memory.container_limit(tmp_path / "root", tmp_path / "own") is None
    for name, text in GROUPS[own].items():
        (path := tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert memory.container_limit(tmp_path / "root", tmp_path / "own") == 1 << 20
    path.write_text(str(1 << 62))  # what version 1 says where there is no limit
    assert memory.container_limit(tmp_path / "root", tmp_path / "own") is None
    assert memory.container_limit(tmp_path / "root", tmp_path / "none") is None


@pytest.mark.parametrize(
    ("own", "files", "cores"),
    [
        ("4:cpu,io:/jobs/one\n", {"cpu/jobs/cpu.cfs_quota_us": "150000", "cpu/jobs/cpu.cfs_period_us": "100000"}, 2),
        ("4:cpu:/one\n", {"cpu/one/cpu.cfs_quota_us": "-1\n", "cpu/one/cpu.cfs_period_us": "100000\n"}, None),
        ("0::/jobs/one\n", {"jobs/one/cpu.max": "max 100000\n", "jobs/cpu.max": "300000 100000\n"}, 3),
        ("0::/one\n", {"one/cpu.max": "50000 100000\n"}, 1), ("0::/one\n", {}, None),
    ],
)  # fmt: skip
def test_the_cores_of_a_control_group_are_found(own, files, cores, tmp_path, monkeypatch):
    (tmp_path / "own").write_text(own)
    for name, text in files.items():
        (path := tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert containers.container_cores(tmp_path / "root", tmp_path / "own") == cores
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(2), raising=False)
    monkeypatch.setattr(system, "container_cores", lambda: cores)
    assert system.cores() == min(cores or 2, 2)


@pytest.mark.parametrize(("container", "before", "after"), [
    (1 << 30, (resource.RLIM_INFINITY, resource.RLIM_INFINITY), 15 << 26), (None, (resource.RLIM_INFINITY, 5), None),
    (1 << 30, (1 << 20, 1 << 40), None), (1 << 30, (resource.RLIM_INFINITY, 1 << 29), 1 << 29),
])  # fmt: skip
def test_a_process_stays_within_its_control_group(monkeypatch, tmp_path, container, before, after):
    """One sixteenth is left to the kernel; a limit that somebody set stays; with a GPU nothing is done."""
    set_to = []
    monkeypatch.setattr(memory, "container_limit", lambda: container)
    monkeypatch.setattr(resource, "getrlimit", lambda kind: before)
    monkeypatch.setattr(resource, "setrlimit", lambda kind, to: set_to.append((kind, to)))
    monkeypatch.setattr(memory, "GPUS", (tmp_path,))
    memory.keep_within_the_container()
    assert set_to == []
    monkeypatch.setattr(memory, "GPUS", (tmp_path / "none",))
    memory.keep_within_the_container()
    assert set_to == ([(resource.RLIMIT_DATA, (after, before[1]))] if after else [])


def test_a_file_is_not_blamed_for_memory_that_is_missing(tmp_path, monkeypatch):
    """Nor is a checkpoint; where there is memory, the same words of HDF5 are the file's fault."""
    save_tensors(tmp_path / "a.safetensors", {"weight": torch.ones(3)})
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["rewards"] = np.ones(3)

    def fail(*_, **__):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 12 bytes")

    monkeypatch.setattr("foretell.training.checkpoints.read_safetensors", fail)
    with pytest.raises(RuntimeError, match="tried to allocate"):
        load_tensors(tmp_path / "a.safetensors")
    for short, kind in ((True, MemoryError), (False, hdf5.DatasetError)):
        monkeypatch.setattr(hdf5, "is_short", lambda short=short: short)
        with pytest.raises(kind), hdf5.open_arrays(tmp_path / "a.hdf5"):
            raise RuntimeError("Can't insert property (memory allocation failed for chunk)")
    with pytest.raises(MemoryError), hdf5.open_arrays(tmp_path / "a.hdf5"):
        raise OSError(errno.ENOMEM, "Cannot allocate memory")
    assert not memory.is_short()
