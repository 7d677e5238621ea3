"""The ends of the normalised score: of the task table, or given."""

from __future__ import annotations

import json

import pytest

from foretell.core.errors import UsageError
from foretell.core.files import write_json_lines
from foretell.core.scores import normalized_score
from foretell.environments.tasks import TASKS
from foretell.reporting.comparison import build_comparison
from foretell.reporting.comparison_report import write_comparison
from foretell.reporting.comparison_text import comparison_columns, comparison_sentence
from foretell.reporting.run_results import read_results


@pytest.fixture
def records(tmp_path):
    def made(environment, *returns):
        path = tmp_path / f"{environment}.jsonl"
        facts = {"policy": "own", "algorithm": "sac", "dataset": None, "seed": 0, "target": None, "length": 9}
        write_json_lines(path, [
            {**facts, "environment": environment, "start": start, "return": earned}
            for start, earned in enumerate(returns)
        ])  # fmt: skip
        return path

    return made


@pytest.mark.parametrize(("environment", "earned", "score"), [
    ("Hopper-v4", 3234.3, 100.0), ("Hopper-v2", -20.272305, 0.0), ("HalfCheetah-v4", 5000.0, 42.530),
    ("Walker2d-v4", 4592.3 / 2, 49.982), ("Ant-v2", 3879.7, 100.0),
])  # fmt: skip
def test_d4rls_references_against_worked_numbers(environment, earned, score):
    task = TASKS[environment]
    assert normalized_score(earned, random=task.random_score, expert=task.expert_score) == pytest.approx(
        score, abs=1e-3
    )
    assert "infos.py" in task.source


def test_given_ends_are_used_said_and_kept(records, tmp_path):
    path = records("Car-v0", 10.0, 30.0)
    table = build_comparison(read_results([path]), references=(-10.0, 50.0))
    assert [row["normalized_score"] for row in table["rows"]] == [50.0]
    assert (table["protocol"]["random_score"], table["protocol"]["expert_score"]) == (-10.0, 50.0)
    assert "normalised: random, -10, is 0 and expert, 50, is 100" in comparison_sentence(table)
    write_comparison([path], tmp_path / "out", references=(-10.0, 50.0))
    assert json.loads((tmp_path / "out/table.json").read_text())["rows"][0]["normalized_score"] == 50.0


def test_without_ends_there_is_no_such_column(records):
    table = build_comparison(read_results([records("Car-v0", 10.0)]))
    assert table["rows"][0]["normalized_score"] is None
    assert "normalised" not in comparison_columns(table)
    assert "normalised" not in comparison_sentence(table)


def test_given_ends_go_before_those_of_the_task(records):
    table = build_comparison(read_results([records("Hopper-v4", 10.0)]), references=(0.0, 20.0))
    assert table["rows"][0]["normalized_score"] == 50.0


@pytest.mark.parametrize("references", [(1.0, 1.0), (2.0, 1.0), (0.0, float("nan")), (1.0,), 3.0, ("a", 2.0)])
def test_what_are_no_ends_is_refused(references, records):
    with pytest.raises(UsageError, match="expected"):
        build_comparison(read_results([records("Car-v0", 10.0)]), references=references)
