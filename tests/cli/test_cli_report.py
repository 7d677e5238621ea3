"""`foretell report` of runs of one's own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

from foretell.cli import report


def test_a_run_and_a_policy_beside_each_other(foretell, run_copy, tmp_path):
    assert foretell("evaluate", run_copy, "--episodes", 3).code == 0
    assert foretell("evaluate", "random", "--environment", "Pendulum-v1", "--episodes", 3, "--out", "r.jsonl").code == 0
    answer = foretell("report", "run", "r.jsonl", "--out", "both")
    assert answer.code == 0, answer.err
    assert "difference to run" in answer.out
    assert "report: both/report.html" in answer.out
    found = json.loads(foretell("report", "run", "r.jsonl", "--out", "both", "--json").out)
    assert found["report"] == "both/report.html"
    assert all((tmp_path / path).stat().st_size for path in found["files"])
    labels = [row["label"] for row in json.loads((tmp_path / "both" / "table.json").read_text())["rows"]]
    assert labels == ["run", "r"]


def test_one_run_is_reported_on_in_its_own_folder(foretell, run_copy):
    assert foretell("evaluate", run_copy, "--episodes", 2).code == 0
    assert "report: run/report.html" in foretell("report", "run").out
    assert foretell("inspect", "run").code == 0  # it is still a run


def test_a_terminal_gets_a_table_that_fits_it(foretell, run_copy, monkeypatch):
    assert foretell("evaluate", run_copy, "--episodes", 2, "--target-returns", -900, -100).code == 0
    verb = report.Report(folder=(Path("run"),))
    result = verb.run()
    assert verb.show(result).startswith("| run | algorithm |")
    monkeypatch.setattr(report.sys, "stdout", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setenv("COLUMNS", "50")
    head, *rows, empty, where = verb.show(result).splitlines()
    assert head.split() == ["run", "asked", "mean", "[95%]"]
    assert [row.split()[:2] for row in rows] == [["run", "-900"], ["run", "-100"]]
    assert max(map(len, (head, *rows))) <= 50
    assert (empty, where) == ("", "report: run/report.html")


def test_seeds_with_their_report_are_still_a_folder_of_seeds(foretell, data):
    train = ("train", data, "--out", "seeds", "--updates", 2, "--evaluate-every", 0, "--width", 8, "--layers", 1)
    assert foretell(*train, "--seeds", "0..1").code == 0
    assert foretell("evaluate", "seeds", "--episodes", 2).code == 0
    answer = foretell("report", "seeds")
    assert "2 × 2" in answer.out
    assert foretell(*train, "--seeds", "0..2").code == 0
    assert foretell("evaluate", "seeds", "--episodes", 2).code == 0
    assert "3 × 2" in foretell("report", "seeds").out


def test_refusals(foretell, run_copy, data, tmp_path):
    foretell("report", "run").refusal(4, "no evaluation records", "foretell evaluate")
    foretell("report", "nowhere").refusal(4, "nowhere", "does not exist")
    foretell("report", data, "--out", "out").refusal(4, "is no run")
    assert foretell("evaluate", run_copy, "--episodes", 2).code == 0
    shutil.copytree(run_copy, tmp_path / "copy")
    foretell("report", "run", "copy").refusal(2, "--out")
    foretell("report", "run/evaluations.jsonl").refusal(2, "--out")
    foretell("report", "run", "--environment", "Car-v0").refusal(2, "Car-v0", "Pendulum-v1")
    (tmp_path / "copy" / "experiment.json").write_text("{}")
    foretell("report", "copy", "run").refusal(2, "alone")
    foretell("report", "copy", "--out", "out").refusal(2, "--out", "leave it out")
