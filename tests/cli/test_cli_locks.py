"""Two commands on one run folder: the second is told at once, before it has loaded what it would need to work."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from contextlib import contextmanager

from faults.commands import run
from faults.folders import without_privileges
from foretell.core.locks import folder_lock, output_lock

TELL = """
import sys
from foretell.cli.main import main
code = main(sys.argv[1:])
print(code, "torch" in sys.modules)
"""


def _told(*words):
    ended = subprocess.run([sys.executable, "-c", TELL, *words], capture_output=True, text=True, check=False)
    return ended.stdout.split(), ended.stderr


def test_the_second_is_refused_before_torch_is_loaded(tmp_path):
    with folder_lock(tmp_path / "run"):
        told, said = _told("train", str(tmp_path / "data.hdf5"), "--out", str(tmp_path / "run"))
    assert told == ["7", "False"], said
    assert "another process is at work on it" in said


def test_a_command_that_fails_for_another_reason_leaves_nothing(tmp_path):
    told, said = _told("train", str(tmp_path / "data.hdf5"), "--out", str(tmp_path / "runs" / "one"))
    assert told == ["3", "True"], said
    assert os.listdir(tmp_path) == []


def test_a_recording_is_made_by_one_at_a_time(tmp_path):
    """Else the second would take the first one's place, and one's settings stand beside the other's data."""
    with output_lock(tmp_path / "data.hdf5"):
        told, said = _told("collect", "random", "--steps", "200", "--out", str(tmp_path / "data.hdf5"))
    assert told[0] == "7", said
    assert "data.hdf5: another process is at work on it" in said
    assert os.listdir(tmp_path) == []


def test_what_a_link_leads_to_is_written(tmp_path):
    (tmp_path / "scratch").mkdir()
    for name in ("data.hdf5", "records.jsonl"):
        (tmp_path / name).symlink_to(tmp_path / "scratch" / name)
    records = ("evaluate", "random", "--environment", "Pendulum-v1", "--episodes", "2", "--out")
    commands = ("collect", "random", "--steps", "200", "--out"), records
    for words, name in zip(commands, ("data.hdf5", "records.jsonl"), strict=True):
        told, said = _told(*words, str(tmp_path / name))
        assert "0" in told, said
        assert (tmp_path / name).is_symlink()
    assert {"data.hdf5", "records.jsonl"} <= set(os.listdir(tmp_path / "scratch"))


@contextmanager
def _new_files_are(mask):
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def test_a_lock_can_be_opened_by_whom_the_umask_lets(tmp_path):
    """Else a run folder that a group shares is trained in by whoever began it alone."""
    with _new_files_are(0o002), folder_lock(tmp_path):
        pass
    assert stat.S_IMODE((tmp_path / ".lock").stat().st_mode) == 0o664


def test_what_others_left_and_may_not_be_opened_is_in_nobodys_way(tmp_path):
    """In a folder that several people share: what one was killed over is not the other's to open for writing."""
    for name in (".data.hdf5.lock", ".data.hdf5.0a0a0a0a.hdf5"):
        (tmp_path / name).touch(mode=0o444)
    (tmp_path / ".data.hdf5.0b0b0b0b.hdf5").symlink_to("nowhere")
    (tmp_path / ".data.hdf5.0c0c0c0c.hdf5").mkdir()
    words = "collect", "random", "--environment", "Pendulum-v1", "--steps", "200", "--out", tmp_path / "data.hdf5"
    ended = run(words, tmp_path, without_privileges)
    assert ended.code == 0, ended.said
    assert (tmp_path / "data.hdf5").exists()


def test_a_lock_that_may_only_be_read_is_held_all_the_same(tmp_path):
    (tmp_path / ".data.hdf5.lock").touch(mode=0o444)
    words = "collect", "random", "--environment", "Pendulum-v1", "--steps", "200", "--out", tmp_path / "data.hdf5"
    with output_lock(tmp_path / "data.hdf5"):
        ended = run(words, tmp_path, without_privileges)
    assert ended.code == 7, ended.said
