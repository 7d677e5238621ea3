"""Two commands on one run folder: the second is told at once, before it has loaded what it would need to work."""

from __future__ import annotations

import os
import subprocess
import sys

from foretell.core.locks import folder_lock

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
