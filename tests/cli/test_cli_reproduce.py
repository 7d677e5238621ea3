"""`foretell reproduce --quick`, the whole program in one command, as a process of its own."""

from __future__ import annotations

import errno
import json
import os
import shlex
import shutil
import subprocess
import sys

import pytest
from cli_helpers import contents, parse

from foretell.core.files import read_json, read_json_lines

pytestmark = pytest.mark.slow
ROW_KEYS = {
    "name", "dataset", "algorithm", "mean_return", "ci95", "iqm", "difference_to_sac", "difference_ci95",
    "normalized_score", "training_seeds", "episodes", "report", "condition", "label",
}  # fmt: skip
DATASETS = {"pendulum-random", "pendulum-medium-replay", "pendulum-full-replay", "pendulum-medium"}
STEERED = {f"{dataset}.decision-transformer-advantage" for dataset in DATASETS}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("experiment") / "quick"
    done = subprocess.run(
        [sys.executable, "-m", "foretell", "reproduce", "--quick", "--out", str(folder)], capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder, done


@pytest.fixture
def folder(finished):
    return finished[0]


def test_it_writes_what_it_promises(folder):
    found = contents(folder)
    assert {
        "table.md",
        "table.json",
        "report.html",
        "experiment.json",
        "evaluations.jsonl",
        "asked.jsonl",
    } <= found.keys()
    for ending in ("svg", "png"):
        names = {path.stem for path in (folder / "figures").glob(f"*.{ending}")}
        assert {"figure-5", "figure-6", "figure-7", "figure-8"} <= {"-".join(name.split("-")[:2]) for name in names}
        assert {f"asked-{dataset}" for dataset in DATASETS} <= names
    assert {path.stem for path in (folder / "cards").iterdir()} == DATASETS
    hidden = [name for name in found if name.rsplit("/", 1)[-1].startswith(".")]
    assert hidden == []


def test_the_table_has_exactly_the_promised_keys(folder):
    table = read_json(folder / "table.json")
    assert table.keys() == {"protocol", "rows"}
    assert [row["name"] for row in table["rows"]][:2] == ["random", "sac"]
    assert {row["name"] for row in table["rows"]} == {"random", "sac", *DATASETS, *STEERED}
    assert all(row.keys() == ROW_KEYS for row in table["rows"])
    report = {row["name"]: row["report"] for row in table["rows"] if row["name"] not in STEERED}
    assert report == {
        "random": -1228.31, "sac": -138.44, "pendulum-random": -1235.27, "pendulum-medium-replay": -1025.76,
        "pendulum-full-replay": None, "pendulum-medium": -607.84,
    }  # fmt: skip


def test_a_smoke_run_says_that_it_is_one(finished):
    folder, done = finished
    assert "smoke run" in done.stdout.splitlines()[0]
    assert "smoke run" in (folder / "table.md").read_text().splitlines()[0]
    assert "smoke run" in (folder / "report.html").read_text()
    assert read_json(folder / "table.json")["protocol"]["quick"] is True


def test_progress_and_warnings_are_said_in_our_words(finished):
    _, done = finished
    assert any("% after" in line for line in done.stderr.splitlines())
    assert ".py:" not in done.stderr  # Python's own form of a warning shows a line of our source


def test_all_records_are_there_from_the_same_starts(folder):
    records = read_json_lines(folder / "evaluations.jsonl")
    starts = {name: [r["start"] for r in records if r["policy"] == name] for name in {r["policy"] for r in records}}
    assert starts.keys() == {"random", "sac", *DATASETS, *STEERED}
    assert {tuple(values) for values in starts.values()} == {tuple(starts["sac"])}
    assert len(set(starts["sac"])) == read_json(folder / "table.json")["protocol"]["evaluation_starts"]


def test_a_second_run_does_nothing_again(foretell, folder):
    heavy = [path for part in ("runs", "datasets", "cards") for path in (folder / part).rglob("*") if path.is_file()]
    written = {path: path.stat().st_mtime_ns for path in heavy if path.name != ".lock"}
    table, before = (folder / "table.json").read_bytes(), contents(folder)
    answer = foretell("reproduce", "--quick", "--out", folder, "--json")
    assert answer.code == 0
    assert json.loads(answer.out).keys() == {"files", "report", "folder"}
    assert {path: path.stat().st_mtime_ns for path in written} == written
    assert (folder / "table.json").read_bytes() == table
    after = contents(folder)
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert changed <= {"experiment.json", "report.html", "elapsed.json"}  # the seconds that it took


@pytest.mark.parametrize("change", [("--root-seed", 1), ("--preset", "report_2021")])
def test_another_experiment_is_refused_in_the_same_folder(foretell, folder, change):
    before = contents(folder)
    foretell("reproduce", "--quick", "--out", folder, *change).refusal(2, "holds another experiment")
    foretell("reproduce", "--out", folder).refusal(2, "holds another experiment")
    assert contents(folder) == before


@pytest.mark.parametrize("free", [1000, None])
def test_without_room_for_its_datasets_nothing_begins(foretell, tmp_path, monkeypatch, free):
    def usage(_):
        if free is None:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        return usage_here._replace(free=free)

    usage_here = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", usage)
    foretell("reproduce", "--quick", "--out", tmp_path / "experiment").refusal(6, str(tmp_path / "experiment"))
    assert not contents(tmp_path)


def test_the_report_is_made_of_the_folder_alone(foretell, folder):
    before = contents(folder)
    answer = foretell("report", folder, "--json")
    assert answer.code == 0
    assert json.loads(answer.out).keys() == {"files", "report"}
    assert contents(folder) == before


def test_printed_commands_are_commands_and_give_the_same_again(foretell, folder):
    commands = [shlex.split(command) for command in read_json(folder / "experiment.json")["commands"]]
    assert {command[0] for command in commands} == {"foretell"}
    for command in commands:
        parse(command[1:])
    collect = next(command for command in commands if command[1:3] == ["collect", "random"])
    answer = foretell(*collect[1:-1], "again.hdf5", "--json")
    assert json.loads(answer.out)["fingerprint"] == read_json(folder / "cards" / "pendulum-random.json")["fingerprint"]
