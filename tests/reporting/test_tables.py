from __future__ import annotations

from typing import Any

import pytest

from foretell.core.errors import CheckpointError
from foretell.reporting.tables import build_table, markdown_table, render_markdown

RETURNS = {
    ("random", None): [-1200.0, -1300.0],
    ("sac", 0): [-100.0, -200.0],
    ("pendulum-medium", 0): [-110.0, -210.0],
    ("pendulum-medium", 1): [-130.0, -230.0],
}


def _records() -> list[dict[str, Any]]:
    return [
        {
            "policy": policy,
            "algorithm": policy if policy in ("random", "sac") else "decision-transformer",
            "dataset": None if policy in ("random", "sac") else policy,
            "seed": seed,
            "start": start,
            "target": None if policy in ("random", "sac") else -100.0,
            "return": value,
            "length": 200,
        }
        for (policy, seed), values in RETURNS.items()
        for start, value in zip((11, 22), values)
    ]


def _experiment(*, quick: bool = False) -> dict[str, Any]:
    protocol = {
        "environment": "Pendulum-v1",
        "root_seed": 0,
        "evaluation_starts": 2,
        "training_seeds": [0, 1],
        "checkpoint": "last",
        "acting": "deterministic",
        "target_rule": "highest return in the data",
        "bootstrap_samples": 10000,
    }
    rows = [
        {"name": "random", "algorithm": "random", "dataset": None, "report": -1228.31},
        {"name": "sac", "algorithm": "sac", "dataset": None, "report": -138.44},
        {"name": "pendulum-medium", "algorithm": "decision-transformer", "dataset": "pendulum-medium", "report": None},
    ]
    return {"quick": quick, "protocol": protocol, "rows": rows}


def test_rows_by_hand():
    table = build_table(_records(), _experiment())
    assert set(table) == {"protocol", "rows"}
    assert table["protocol"] == {**_experiment()["protocol"], "quick": False}
    random, sac, medium = table["rows"]
    assert medium == {
        "name": "pendulum-medium",
        "dataset": "pendulum-medium",
        "algorithm": "decision-transformer",
        "mean_return": -170.0,
        "ci95": [-230.0, -110.0],  # four cells of two-by-two: every extreme has probability 1/16
        "iqm": -170.0,
        "difference_to_sac": -20.0,
        "difference_ci95": [-30.0, -10.0],  # start states cancel, seeds remain
        "normalized_score": pytest.approx(100 * (1250 - 170) / (1250 - 150)),
        "training_seeds": [0, 1],
        "episodes": 2,
        "report": None,
        "condition": None,
        "label": None,
    }
    assert (sac["difference_to_sac"], sac["difference_ci95"], sac["normalized_score"]) == (0.0, [0.0, 0.0], 100.0)
    assert (random["normalized_score"], random["training_seeds"], random["report"]) == (0.0, [], -1228.31)


def test_order_of_records_does_not_matter_and_a_rerun_is_identical():
    assert build_table(_records(), _experiment()) == build_table(_records()[::-1], _experiment())


def test_markdown_exactly():
    assert render_markdown(build_table(_records(), _experiment())) == (
        "| policy | trained on | mean return [95% interval] | difference to SAC [95%] | IQM | normalised "
        "| report (2021) | seeds × episodes |\n"
        "|:--|:--|--:|--:|--:|--:|--:|--:|\n"
        "| random policy | — | -1250.0 [-1300.0, -1200.0] | -1100.0 [-1100.0, -1100.0] | -1250.0 | 0.0 | -1228.31 "
        "| 1 × 2 |\n"
        "| SAC agent | — | -150.0 [-200.0, -100.0] | 0 | -150.0 | 100.0 | -138.44 | 1 × 2 |\n"
        "| Decision Transformer | pendulum-medium | -170.0 [-230.0, -110.0] | -20.0 [-30.0, -10.0] | -170.0 | 98.2 | — "
        "| 2 × 2 |\n"
        "\n"
        "Pendulum-v1, undiscounted return per episode in reward units; 2 start states shared by all policies, "
        "deterministic acting, last checkpoint; asked return: highest return in the data. Intervals: 95%, bootstrap "
        "over training seeds and start states, of one seed over start states alone (10,000 resamples); difference "
        "paired by start state; IQM: interquartile "
        "mean of the training seeds' means; normalised: random 0, SAC 100.\n"
    )


def test_a_smoke_run_says_first_that_it_is_one():
    text = render_markdown(build_table(_records(), _experiment(quick=True)))
    assert text.startswith(
        "**This is a smoke run (`--quick`): it shows that everything works, its numbers mean nothing.**"
    )


def test_a_start_state_that_is_missing_or_there_twice_is_refused():
    with pytest.raises(CheckpointError, match=r"'pendulum-medium', seed 1 has no record for start 22"):
        build_table(_records()[:-1], _experiment())
    with pytest.raises(CheckpointError, match=r"'sac', seed 0, start 11 is there twice"):
        build_table([*_records(), _records()[2]], _experiment())


def test_other_start_states_are_refused():
    records = _records()
    records[-1]["start"] = 33
    with pytest.raises(CheckpointError, match="start 33"):
        build_table(records, _experiment())


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("return", float("nan"), "nan"),
        ("return", None, "None"),
        ("return", "-1", "'-1'"),
        ("start", 1.5, "whole number"),
    ],
)
def test_a_record_that_holds_no_number_is_refused(key, value, message):
    records = _records()
    records[3][key] = value
    with pytest.raises(CheckpointError, match=rf"record 4: .*{message}"):
        build_table(records, _experiment())


def test_a_record_without_a_key_is_refused():
    records = _records()
    del records[0]["length"]
    with pytest.raises(CheckpointError, match="record 1: lacks 'length'"):
        build_table(records, _experiment())


def test_policies_and_rows_must_agree():
    records = _records()
    with pytest.raises(CheckpointError, match="no records of policy 'sac'"):
        build_table([line for line in records if line["policy"] != "sac"], _experiment())
    experiment = _experiment()
    experiment["rows"].pop()
    with pytest.raises(CheckpointError, match="'pendulum-medium' is no row"):
        build_table(records, experiment)
    experiment = _experiment()
    experiment["protocol"]["evaluation_starts"] = 200
    with pytest.raises(CheckpointError, match=r"2 start states; the protocol in experiment\.json says 200"):
        build_table(records, experiment)
    with pytest.raises(CheckpointError, match="holds no records"):
        build_table([], _experiment())


def test_equal_baselines_leave_no_scale():
    records = _records()
    for line in records:
        line["return"] = -100.0
    with pytest.raises(CheckpointError, match="without a scale"):
        build_table(records, _experiment())


def test_a_missing_training_seed_is_an_error():
    records = [record for record in _records() if (record["policy"], record["seed"]) != ("pendulum-medium", 1)]
    with pytest.raises(CheckpointError, match=r"'pendulum-medium' has records of the training seeds 0; .* says 0, 1"):
        build_table(records, _experiment())


def test_names_are_written_as_they_are():
    lines = markdown_table(["run", "to [x](y) [95%]"], [["<b>*a*`", "1.0 [0.5, 2.0]"]], text_columns=1)
    assert lines[0] == "| run | to [x\\](y) [95%] |"
    assert lines[2] == "| \\<b>\\*a\\*\\` | 1.0 [0.5, 2.0] |"


def test_a_name_of_several_lines_is_one_cell():
    assert markdown_table(["a\nb"], [["c\n\n| d"]], text_columns=1) == ["| a b |", "|:--|", "| c \\| d |"]
