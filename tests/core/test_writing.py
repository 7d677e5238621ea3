"""Where files are to be written: what cannot lie there is refused, and what killed writers left is taken away."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import subprocess
import sys

import pytest
import torch

from foretell.core.errors import LockedError, ResourceError, UsageError
from foretell.core.files import atomic_path, make_folder, resource_errors, write_json, write_text
from foretell.core.locks import a_turn, early_lock, folder_lock, output_lock
from foretell.core.space import require_room
from foretell.core.temporaries import make_temporary
from foretell.training.checkpoints import save_tensors


@pytest.mark.parametrize("number", [errno.ENAMETOOLONG, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ELOOP])
def test_a_path_where_nothing_can_lie_is_a_matter_of_usage(tmp_path, number):
    with pytest.raises(UsageError, match="model") as caught, resource_errors(tmp_path / "model"):
        raise OSError(number, os.strerror(number))
    assert os.strerror(number) in str(caught.value)


@pytest.mark.parametrize(("name", "word"), [("missing/../run", "detour"), ("a\udcff", "UTF-8")])
def test_nothing_is_made_for_a_path_that_is_refused(tmp_path, name, word):
    with pytest.raises(UsageError, match=word):
        make_folder(tmp_path / name)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "there").mkdir()
    make_folder(tmp_path / "there" / ".." / "run")
    assert (tmp_path / "run").is_dir()


def test_what_a_killed_writer_left_goes_and_what_is_being_written_stays(tmp_path):
    path = tmp_path / "a.json"
    handle, left = make_temporary(path)
    with atomic_path(path) as under_way:
        assert left.exists()
        os.close(handle)  # as when its process is killed
        write_json(path, 1)
        assert not left.exists()
        assert under_way.exists()
        under_way.write_text("2")
    assert path.read_text() == "2"
    assert os.listdir(tmp_path) == ["a.json"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_files_of_another_name_are_not_taken_for_left_behind(tmp_path):
    names = {".b.json.abcdefgh.json", ".a.json.abc.json", ".a.json.abcdefgh.txt", "a.json.abcdefgh.json"}
    for name in names:
        (tmp_path / name).touch()
    write_json(tmp_path / "a.json", 1)
    assert set(os.listdir(tmp_path)) == names | {"a.json"}


def test_room_is_asked_for_in_bytes(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    require_room(tmp_path, 1000)
    with pytest.raises(ResourceError, match="MiB free; expected"):
        require_room(tmp_path, 1001)
    assert os.listdir(tmp_path) == []


def test_where_free_space_is_not_told_nothing_begins(tmp_path, monkeypatch):
    def unknown(_):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(shutil, "disk_usage", unknown)
    with pytest.raises(ResourceError, match="free space unknown"):
        require_room(tmp_path, 1)


def test_no_lock_stays_in_a_folder_of_somebody_else(tmp_path):
    def refuse():
        with folder_lock(tmp_path):
            raise UsageError("not ours")

    with pytest.raises(UsageError, match="not ours"):
        refuse()
    assert os.listdir(tmp_path) == []
    with folder_lock(tmp_path):
        pass
    with pytest.raises(UsageError, match="not ours"):
        refuse()
    assert os.listdir(tmp_path) == [".lock"]


def locked_elsewhere(folder):
    """Whether another process is refused."""
    words = "import sys; from foretell.core.locks import folder_lock\nwith folder_lock(sys.argv[1]): pass"
    ended = subprocess.run([sys.executable, "-c", words, str(folder)], capture_output=True, text=True, check=False)
    return "LockedError" in ended.stderr


def test_an_early_lock_is_taken_over_once(tmp_path):
    folder = tmp_path / "a" / "run"
    with early_lock(folder):
        assert locked_elsewhere(folder)
        with folder_lock(folder):
            assert locked_elsewhere(folder)
            with pytest.raises(LockedError), folder_lock(folder):
                pass
        assert not locked_elsewhere(folder)
    assert os.listdir(folder) == [".lock"]


def test_of_an_early_lock_that_nobody_takes_over_nothing_stays(tmp_path):
    with pytest.raises(ZeroDivisionError), early_lock(tmp_path / "a" / "run"):
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == []
    with early_lock(tmp_path):
        (tmp_path / "file").touch()
    assert os.listdir(tmp_path) == ["file"]
    with folder_lock(tmp_path):
        pass
    with early_lock(tmp_path):
        pass
    assert sorted(os.listdir(tmp_path)) == [".lock", "file"]


def test_an_early_lock_in_a_folder_of_somebody_else_leaves_nothing(tmp_path):
    with pytest.raises(UsageError), early_lock(tmp_path), folder_lock(tmp_path):
        raise UsageError("not ours")
    assert os.listdir(tmp_path) == []


def test_a_lock_file_that_was_removed_meanwhile_is_not_held(tmp_path, monkeypatch):
    """Opened by one process, removed by the other that held it: the first has to make a new one."""
    plain, removed = fcntl.flock, []

    def late(handle, operation):
        if not removed:
            removed.append(os.fstat(handle).st_ino)
            (tmp_path / ".lock").rename(tmp_path / "gone")
        plain(handle, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with folder_lock(tmp_path):
        assert (tmp_path / ".lock").stat().st_ino != removed[0]
        assert locked_elsewhere(tmp_path)


def test_a_file_that_was_taken_for_abandoned_before_it_was_locked_is_made_again(tmp_path, monkeypatch):
    plain, taken = fcntl.flock, []

    def late(handle, operation):
        if not taken:
            (entry,) = tmp_path.iterdir()
            taken.append(entry)
            entry.unlink()
        plain(handle, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    write_text(tmp_path / "a.json", "whole")
    assert taken
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_where_there_are_no_locks_work_goes_on(tmp_path, monkeypatch, number):
    """On a network's file system that was mounted without them."""
    path = tmp_path / "a.json"
    handle, others = make_temporary(path)

    def refused(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refused)
    write_json(path, 1)
    assert path.read_text() == "1\n"
    assert others.exists()  # who knows whether somebody is at work on it
    os.close(handle)
    with a_turn(tmp_path), pytest.warns(UserWarning, match="without locks"), folder_lock(tmp_path):
        pass
    with pytest.warns(UserWarning, match="without locks"), output_lock(path):
        pass


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_who_may_read_a_file_is_the_users_to_say(tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        write_text(tmp_path / "a.json", "whole")
        save_tensors(tmp_path / "a.safetensors", {"one": torch.ones(1)})
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {mode}


def test_an_output_is_held_by_one_and_leaves_nothing(tmp_path):
    output = tmp_path / "data" / "a.hdf5"
    with output_lock(output):
        with pytest.raises(LockedError, match=r"a\.hdf5: another process"), output_lock(output):
            pass
        with output_lock(output.with_name("b.hdf5")):
            pass
    assert list(tmp_path.iterdir()) == []
