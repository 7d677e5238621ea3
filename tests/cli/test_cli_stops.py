"""Signals: the update under way is finished and saved, and the same command ends where an undisturbed run would."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from cli_helpers import SMALL

from foretell.core.files import read_json_lines, sha256_of

LONG = (*SMALL[:6], "--updates", 300, "--batch-size", 4, "--log-every", 5, "--checkpoint-every", 100, "--threads", 1)


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "foretell", *map(str, arguments)], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_run_saves_and_continues_bit_for_bit(foretell, data, tmp_path, number):
    assert foretell("train", data, "--out", "whole", *LONG).code == 0
    process = start("train", data, "--out", "stopped", *LONG)
    events = tmp_path / "stopped" / "events.jsonl"
    limit = time.monotonic() + 60
    while not events.exists():
        assert time.monotonic() < limit
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    process.send_signal(number)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 128 + number, said
    assert said.decode().splitlines()[-1] == f"foretell: stopped by signal {number:d}; the same command continues."
    (checkpoint,) = (tmp_path / "stopped" / "checkpoints").iterdir()
    assert 5 <= int(checkpoint.name.removeprefix("update-")) < 300
    assert not (tmp_path / "stopped" / "model.safetensors").exists()
    assert foretell("train", data, "--out", "stopped", *LONG).code == 0
    for name in ("whole", "stopped"):
        assert (tmp_path / name / "model.safetensors").exists()
    assert sha256_of(tmp_path / "whole/model.safetensors") == sha256_of(tmp_path / "stopped/model.safetensors")
    times_aside = [
        [{key: value for key, value in event.items() if key != "wall_seconds"} for event in read_json_lines(path)]
        for path in (tmp_path / "whole/events.jsonl", events)
    ]
    assert times_aside[0] == times_aside[1]


def test_reproduce_stops_its_workers(tmp_path):
    process = start("reproduce", "--quick", "--out", tmp_path / "experiment")
    identity = tmp_path / "experiment" / "runs"
    limit = time.monotonic() + 60
    while not identity.exists():
        assert time.monotonic() < limit
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 143, said
    assert "Traceback" not in said.decode()
