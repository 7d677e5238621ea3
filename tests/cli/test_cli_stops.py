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


def test_nobody_who_listens_ends_the_work(data, tmp_path):
    """A full log, a reader who left, an output that was closed: the run is trained all the same."""
    words = [*map(str, (sys.executable, "-m", "foretell", "train", data, *LONG, "--out"))]
    with open("/dev/full", "w") as full:
        assert subprocess.run([*words, tmp_path / "full"], stderr=full, stdout=full, check=False).returncode == 6
        assert (
            subprocess.run([*words, tmp_path / "log"], stderr=full, stdout=subprocess.PIPE, check=False).returncode == 0
        )
    reader, writer = os.pipe()
    os.close(reader)
    try:
        assert subprocess.run([*words, tmp_path / "left"], stderr=writer, stdout=writer, check=False).returncode == 0
    finally:
        os.close(writer)
    closing = (
        "import os, sys; [os.close(n) for n in (0, 1, 2)]; os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    )
    alone = [words[0], "-c", closing, *words[1:]]
    assert subprocess.run([*alone, str(tmp_path / "closed")], check=False).returncode == 0
    place = alone.index("--threads")
    several = [*alone[:place], *alone[place + 2 :], str(tmp_path / "several"), "--seeds", "0..1", "--workers", "2"]
    assert subprocess.run(several, check=False).returncode == 0
    weights = [
        sha256_of(tmp_path / name / "model.safetensors") for name in ("full", "log", "left", "closed", "several/seed-0")
    ]
    assert len(set(weights)) == 1


def test_a_reader_who_has_read_enough_is_no_error(data):
    reader, writer = os.pipe()
    os.close(reader)
    try:
        for words in (("inspect", data), ("train", "--help")):
            done = subprocess.run(
                [sys.executable, "-m", "foretell", *map(str, words)], stdout=writer, stderr=subprocess.PIPE, check=False
            )
            assert (done.returncode, done.stderr) == (0, b"")
    finally:
        os.close(writer)


def test_a_stop_during_validation_saves_and_the_next_start_measures_it(foretell, data, tmp_path):
    """As long as validation may take, a stop does not wait for it; the events are those of a run in one piece."""
    settings = (*LONG[:-8], "--updates", 4, "--batch-size", 4, "--log-every", 1, "--threads", 1, "--evaluate-every", 2)
    assert foretell("train", data, "--out", "whole", *settings, "--validation-episodes", 3000).code == 0
    for update in (2, 4):
        process = start("train", data, "--out", "stopped", *settings, "--validation-episodes", 3000)
        events, limit = tmp_path / "stopped" / "events.jsonl", time.monotonic() + 60
        while not events.exists() or f'"training", "update": {update},' not in events.read_text():
            assert time.monotonic() < limit
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.005)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=20)
        assert process.returncode == 143, said
        assert (tmp_path / "stopped" / "checkpoints" / f"update-{update:012d}").exists()
        assert f'"evaluation", "update": {update},' not in events.read_text()
    assert foretell("train", data, "--out", "stopped", *settings, "--validation-episodes", 3000).code == 0
    assert sha256_of(tmp_path / "whole/model.safetensors") == sha256_of(tmp_path / "stopped/model.safetensors")
    times_aside = [
        [{key: value for key, value in event.items() if key != "wall_seconds"} for event in read_json_lines(path)]
        for path in (tmp_path / "whole/events.jsonl", events)
    ]
    assert times_aside[0] == times_aside[1]
    assert [event["update"] for event in times_aside[0] if event["event"] == "evaluation"] == [2, 4]


def test_what_is_opened_for_closed_outputs_is_workers_too(tmp_path):
    """Else the first file that a worker opens is what is printed to."""
    code = (
        "import os; [os.close(n) for n in (0, 1, 2)]\n"
        "from foretell.cli import main; main._open_what_is_closed()\n"
        f"open({str(tmp_path / 'found')!r}, 'w').write(str([os.get_inheritable(n) for n in (0, 1, 2)]))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert (tmp_path / "found").read_text() == "[True, True, True]"
