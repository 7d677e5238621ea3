"""Systems that lack what Linux has: every verb works there, and files are as they are elsewhere."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import h5py
import pytest

from core import other_system
from foretell.cli.main import main, replaced
from foretell.core import system
from foretell.core.errors import LockedError, ResourceError, UsageError
from foretell.core.files import write_text
from foretell.core.locks import a_turn, early_lock, folder_lock
from foretell.core.temporaries import make_temporary

SMALL = (
    "--updates", "20", "--checkpoint-every", "10", "--context-length", "3", "--width", "16", "--layers", "1",
    "--batch-size", "16",
)  # fmt: skip


def elsewhere(folder: Path, *arguments: str) -> str:
    """Run a command there; return what it printed."""
    script = Path(__file__).with_name("other_system.py")
    environment = {name: value for name, value in os.environ.items() if name != "FORETELL_MODULES"}
    done = subprocess.run(
        [sys.executable, str(script), *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_step_from_data_to_report_elsewhere(tmp_path):
    collect = "collect", "random", "--environment", "Pendulum-v1", "--steps", "400", "--out"
    elsewhere(tmp_path, *collect, "data.hdf5")
    assert main([*collect, f"{tmp_path}/here.hdf5"]) == 0
    assert (tmp_path / "data.hdf5").read_bytes() == (tmp_path / "here.hdf5").read_bytes()
    with h5py.File(tmp_path / "data.hdf5") as plain, h5py.File(tmp_path / "packed.hdf5", "w") as packed:
        for name in ("observations", "actions", "rewards", "terminals", "timeouts"):
            packed.create_dataset(name, data=plain[name][()], compression="gzip")
    assert "400 timesteps in 2 episodes" in elsewhere(tmp_path, "inspect", "packed.hdf5")
    train = "train", "data.hdf5", "--out", "run", *SMALL
    assert "Next: foretell evaluate run" in elsewhere(tmp_path, *train)
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == [f"update-{10:012d}"]
    weights, events = tmp_path / "run" / "model.safetensors", tmp_path / "run" / "events.jsonl"
    learned = weights.read_bytes()
    assert b"\r" not in events.read_bytes()
    weights.unlink()
    elsewhere(tmp_path, *train)  # from the checkpoint
    assert weights.read_bytes() == learned
    for episodes in ("2", "3"):
        elsewhere(tmp_path, "evaluate", "run", "--episodes", episodes)
    assert "report.html" in elsewhere(tmp_path, "report", "run", "--out", "report")
    left = [path for path in tmp_path.rglob(".*") if path.name != ".lock"]
    assert not left
    assert main(["train", f"{tmp_path}/data.hdf5", "--out", f"{tmp_path}/run", *SMALL]) == 0  # the same run
    assert main(["evaluate", f"{tmp_path}/run", "--episodes", "3"]) == 0


@pytest.fixture
def without_fcntl(monkeypatch, tmp_path_factory):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path_factory.mktemp("temporary")))
    monkeypatch.setattr(system, "fcntl", None)
    monkeypatch.setattr(system, "msvcrt", SimpleNamespace(locking=other_system.locking, LK_NBLCK=3))
    monkeypatch.setattr(system, "OPEN_FILES_STAY", True)
    for name in ("pread", "pwrite"):
        monkeypatch.delattr(system.os, name)


@pytest.mark.usefixtures("without_fcntl")
def test_a_folder_is_one_processs_there_too(tmp_path):
    with folder_lock(tmp_path / "run"):
        with pytest.raises(LockedError), folder_lock(tmp_path / "run"):
            pass
        (tmp_path / "run" / ".lock").read_bytes()
    with folder_lock(tmp_path / "run"):
        pass
    with early_lock(tmp_path / "new" / "run"):
        assert (tmp_path / "new" / "run").is_dir()
    assert not (tmp_path / "new").exists()
    with pytest.raises(UsageError), folder_lock(tmp_path / "theirs"):
        raise UsageError("another's")
    assert not (tmp_path / "theirs" / ".lock").exists()


@pytest.mark.usefixtures("without_fcntl")
def test_turns_are_taken_there_too_and_nothing_is_left(tmp_path):
    order = []

    def second() -> None:
        with a_turn(tmp_path):
            order.append("second")

    with a_turn(tmp_path):
        other = threading.Thread(target=second)
        other.start()
        other.join(0.2)
        order.append("first")
    other.join(10)
    assert order == ["first", "second"]
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("without_fcntl")
def test_files_that_a_killed_process_left_go_and_those_of_others_stay(tmp_path):
    path = tmp_path / "a.json"
    handle, held = make_temporary(path)
    left = tmp_path / held.name.replace(held.stem.split(".")[-1], "killed00")
    left.write_text("half")
    write_text(path, "whole")
    assert not left.exists()
    assert held.exists()
    system.close_and_remove(handle, held)
    assert [one.name for one in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.usefixtures("without_fcntl")
def test_places_of_a_file_are_read_and_written_there_too(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    handle = system.open_bytes(path, os.O_RDWR)
    assert system.write_at(handle, memoryview(b"ab"), 3) == 2
    assert system.read_at(handle, 4, 2) == b"2ab5"
    os.close(handle)


@pytest.mark.usefixtures("without_fcntl")
def test_who_looks_at_a_file_for_a_moment_is_waited_for(tmp_path, monkeypatch):
    plain, refused = os.replace, []

    def busy(*paths: Path) -> None:
        if len(refused) < 3:
            refused.append(paths)
            raise PermissionError(13, "used by another process")
        plain(*paths)

    monkeypatch.setattr(system, "_SECONDS", 0)
    monkeypatch.setattr(os, "replace", busy)
    write_text(tmp_path / "a.json", "whole")
    assert (tmp_path / "a.json").read_text() == "whole"
    assert len(refused) == 3
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(PermissionError(13, "used for ever")))
    with pytest.raises(ResourceError, match="used for ever"):
        write_text(tmp_path / "a.json", "other")
    assert [one.name for one in tmp_path.iterdir()] == ["a.json"]


def test_commands_are_quoted_as_the_shell_reads_them(monkeypatch):
    assert system.command_line(["foretell", "a b"]) == "foretell 'a b'"
    monkeypatch.setattr(system, "fcntl", None)
    assert system.command_line(["foretell", r"runs\dt", "a b"]) == r'foretell runs\dt "a b"'
    assert system.command_line(["foretell", "R&D"]) == 'foretell "R&D"'


def test_a_variable_is_set_before_a_command_as_the_shell_reads_it(monkeypatch):
    assert system.with_variable("MODULES", "a,b c", "foretell x") == "MODULES='a,b c' foretell x"
    monkeypatch.setattr(system, "fcntl", None)
    assert system.with_variable("MODULES", "a,b", "foretell x") == 'set "MODULES=a,b" && foretell x'


def test_a_reader_who_has_left_has_two_names(monkeypatch):
    left, other = OSError(errno.EINVAL, "Invalid argument"), OSError(errno.ENOSPC, "full")
    assert [system.has_left(error) for error in (BrokenPipeError(), left, other)] == [True, False, False]
    monkeypatch.setattr(system, "OPEN_FILES_STAY", True)
    assert [system.has_left(error) for error in (BrokenPipeError(), left, other)] == [True, True, False]


def test_the_processor_has_a_name():
    assert system.processor_name()


def test_what_an_output_cannot_hold_is_replaced(tmp_path):
    with Path(tmp_path / "out").open("w", encoding="cp1252") as stream:
        replaced(stream)
        stream.write("bars: \u2588")
    assert (tmp_path / "out").read_bytes() == b"bars: ?"
    with Path(tmp_path / "out").open("w", encoding="ascii", errors="backslashreplace") as stream:
        replaced(stream)
        stream.write("\u2588")
    assert (tmp_path / "out").read_bytes() == rb"\u2588"
