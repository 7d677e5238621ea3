from __future__ import annotations

import copy
import json
import subprocess
import sys

import pytest
from league_helpers import CARDS, MEDIUM_DATA, RANDOM_DATA, make_experiment, make_plan, make_records, without_medium_bc

from foretell.core.errors import CheckpointError
from foretell.core.files import write_json_lines
from foretell.reporting.league import write_league
from foretell.reporting.league_table import build_league, render_league
from foretell.reporting.tables import build_table


def test_a_row_by_hand():
    league = build_league(make_records(), make_experiment(), CARDS)
    medium = league.row("dt", MEDIUM_DATA)
    low, high = medium["regret_ci95"]
    # Regret is one of 10, 20, 30 by seeds plus a resampled mean of 10, 20, 30 by starts: 20 has probability 1/108,
    # 20 + 10/3 has 3/108, so that the 2.5% quantile is the latter.
    assert (low, high) == (pytest.approx(20 + 10 / 3), pytest.approx(60 - 10 / 3))
    assert {key: value for key, value in medium.items() if key not in ("ci95", "regret_ci95")} == {
        "name": "dt",
        "dataset": MEDIUM_DATA,
        "algorithm": "decision-transformer",
        "mean_return": -220.0,
        "iqm": -220.0,
        "difference_to_sac": -20.0,
        "difference_ci95": [-30.0, -10.0],  # start states cancel, seeds remain
        "normalized_score": pytest.approx(100 * (1100 - 220) / (1100 - 200)),
        "training_seeds": [0, 1],
        "episodes": 3,
        "report": -607.84,
        "condition": "return",
        "label": "Decision Transformer",
        "policy": "pendulum-medium",
        "regret": 40.0,
        "regret_by_start": [30.0, 40.0, 50.0],  # of starts 11, 22, 33
        "difference_to_data": 30.0,
    }


def test_rows_are_in_the_leagues_order_with_the_references_first():
    league = build_league(make_records(), make_experiment(), CARDS)
    assert [(row["name"], row["dataset"], row["policy"]) for row in league.rows] == [
        ("random", None, "random"),
        ("sac", None, "sac"),
        ("optimum", None, "optimum"),
        ("dt", RANDOM_DATA, "pendulum-random"),
        ("dt", MEDIUM_DATA, "pendulum-medium"),
        ("bc", RANDOM_DATA, "pendulum-random.bc"),
        ("bc", MEDIUM_DATA, "pendulum-medium.bc"),
    ]
    assert [row["mean_return"] for row in league.rows[:6]] == [-1100.0, -200.0, -180.0, -1100.0, -220.0, -1250.0]
    assert [row["regret"] for row in league.rows[:6]] == [920.0, 20.0, 0.0, 920.0, 40.0, 1070.0]
    assert [row["difference_to_data"] for row in league.rows[:6]] == [None, None, None, None, 30.0, None]
    assert [row["condition"] for row in league.rows] == [None, None, None, "return", "return", None, None]
    assert [row["report"] for row in league.rows[:4]] == [-1228.31, -138.44, None, None]
    optimum = league.rows[2]
    assert (optimum["regret_ci95"], optimum["regret_by_start"]) == ([0.0, 0.0], [0.0, 0.0, 0.0])
    assert league.rows[3]["difference_ci95"] == [-1000.0, -800.0]
    # Better than the optimum from a start state, as a grid's optimum can be; a zero has no sign.
    assert json.dumps(league.rows[6]["regret_by_start"]) == "[0.0, -0.5, 0.5]"
    assert league.rows[6]["regret"] == 0.0


def test_a_policy_of_both_tables_has_the_same_numbers_in_both():
    experiment = make_experiment()
    table = build_table(
        [line for line in make_records() if line["policy"] in ("random", "sac", MEDIUM_DATA)], experiment
    )
    row = build_league(make_records(), experiment, CARDS).row("dt", MEDIUM_DATA)
    same = set(table["rows"][2]) - {"name", "dataset", "algorithm", "condition", "label"}
    assert {key: row[key] for key in same} == {key: table["rows"][2][key] for key in same}
    assert table["rows"][2]["condition"] is None


def test_table_rows_carry_their_condition():
    experiment = make_experiment()
    experiment["rows"][2]["condition"] = "advantage"
    table = build_table(
        [line for line in make_records() if line["policy"] in ("random", "sac", MEDIUM_DATA)], experiment
    )
    assert [row["condition"] for row in table["rows"]] == [None, None, "advantage"]


def test_markdown_by_hand():
    lines = render_league(build_league(make_records(), make_experiment(), CARDS)).split("\n")
    assert lines[:2] == ["| method | pendulum-random | pendulum-medium |", "|:--|--:|--:|"]
    cells = [line.strip("| ").split(" | ") for line in lines[2:8]]
    assert [row[0] for row in cells] == [
        "Decision Transformer", "Cloning \\| all", "random policy", "SAC agent", "optimum", "the data themselves",
    ]  # fmt: skip
    means = [[cell.split(" [")[0] for cell in row[1:]] for row in cells]
    assert means == [
        ["**-1100.0", "-220.0"],
        ["-1250.0", "**-180.0"],
        ["-1100.0", "-1100.0"],
        ["-200.0", "-200.0"],
        ["-180.0", "-180.0"],
        ["—", "-250.0"],
    ]
    assert cells[0][1].endswith("]**<br>-900.0 [-1000.0, -800.0]")
    assert cells[0][2].endswith("]<br>-20.0 [-30.0, -10.0]")
    assert cells[3][1].endswith("]<br>0")
    assert lines[9] == (
        "Pendulum-v1, undiscounted return per episode in reward units; 3 start states shared by all policies, "
        "deterministic acting, last checkpoint; asked return, of the methods that are told one: highest return in the "
        "data. Each cell: mean return [95% interval], below it the difference to SAC, paired by start state [95% "
        "interval]. Intervals: 95%, bootstrap over training seeds and start states, of one seed over start states "
        "alone (4,000 resamples). Bold: the "
        "highest mean of the methods on a dataset. The data themselves: mean return of the dataset's episodes, which "
        "have start states of their own."
    )
    regrets = [line.strip("| ").split(" | ") for line in lines[15:19]]
    assert [row[0] for row in regrets] == ["Decision Transformer", "Cloning \\| all", "random policy", "SAC agent"]
    assert regrets[0][2] == "40.0 [23.3, 56.7]"
    assert [row[1].split(" [")[0] for row in regrets] == ["**920.0", "1070.0", "920.0", "20.0"]


def test_a_cell_without_an_entry_is_a_dash():
    records, experiment = without_medium_bc()
    league = build_league(records, experiment, {})
    assert league.row("bc", MEDIUM_DATA) is None
    text = render_league(league)
    assert [line.endswith(" | — |") for line in text.split("\n") if line.startswith("| Cloning")] == [True, True]
    assert "| the data themselves | — | — |" in text
    assert text.count("**") == 8  # the best of each dataset, in both tables


def test_a_smoke_run_says_first_that_it_is_one():
    assert render_league(build_league(make_records(), make_experiment(quick=True), {})).startswith(
        "**This is a smoke run"
    )


def test_policies_and_entries_must_agree():
    with pytest.raises(CheckpointError, match=r"league\.jsonl: no records of policy 'optimum'"):
        build_league([line for line in make_records() if line["policy"] != "optimum"], make_experiment(), CARDS)
    with pytest.raises(CheckpointError, match=r"league\.jsonl: no records of policy 'pendulum-medium\.bc'"):
        build_league(without_medium_bc()[0], make_experiment(), CARDS)
    with pytest.raises(CheckpointError, match=r"policy 'pendulum-medium\.bc' is no league entry of experiment\.json"):
        build_league(make_records(), without_medium_bc()[1], CARDS)
    with pytest.raises(CheckpointError, match=r"league\.jsonl: holds no records"):
        build_league([], make_experiment(), CARDS)


def test_other_start_states_are_refused():
    records = make_records()
    records[-1]["start"] = 44
    with pytest.raises(CheckpointError, match=r"league\.jsonl: policy 'random', seed 0 has no record for start 44"):
        build_league(records, make_experiment(), CARDS)
    experiment = make_experiment()
    experiment["protocol"]["evaluation_starts"] = 200
    with pytest.raises(CheckpointError, match=r"league\.jsonl: 3 start states; .* says 200"):
        build_league(make_records(), experiment, CARDS)


@pytest.mark.parametrize(
    ("part", "place", "key", "value", "message"),
    [
        ("methods", 0, "name", "../dt", r"league\.methods: '\.\./dt' names a file"),
        ("methods", 0, "name", "optimum", r"league\.methods: 'optimum' is the name of two"),
        ("methods", 1, "label", "Decision Transformer", r"league\.methods\[1\] has label 'Decision Transformer'"),
        ("methods", 1, "label", 3, r"league\.methods\[1\] has label 3"),
        ("datasets", 1, None, "a/b", r"league\.datasets: 'a/b' names a file"),
        ("datasets", 1, None, RANDOM_DATA, r"league\.datasets: 'pendulum-random' is the name of two"),
        ("datasets", 1, None, "other", r"league\.entries\[0\] has dataset 'pendulum-medium'; expected .* other"),
        ("entries", 2, "method", "tt", r"league\.entries\[2\] has method 'tt'; expected one of dt, bc"),
        ("entries", 1, "dataset", MEDIUM_DATA, r"league\.entries\[1\]: 'bc' on 'pendulum-medium' is there twice"),
        ("entries", 1, "policy", "sac", r"league\.entries: 'sac' is the name of two"),
        ("entries", 1, None, 7, r"league\.entries\[1\] lacks 'policy'"),
        ("entries", None, None, [], r"league\.entries is \[\]; expected a list with at least one"),
        ("methods", None, None, {}, r"league\.methods is \{\}"),
    ],
)
def test_a_plan_that_is_not_whole_is_refused(part, place, key, value, message):
    plan = make_plan()
    if place is None:
        plan[part] = value
    elif key is None:
        plan[part][place] = value
    else:
        plan[part][place][key] = value
    with pytest.raises(CheckpointError, match=message):
        build_league(make_records(), make_experiment(plan=plan), CARDS)


def test_a_plan_that_is_not_there_is_refused():
    experiment = make_experiment()
    del experiment["league"]
    with pytest.raises(CheckpointError, match=r"experiment\.json: league lacks 'methods'"):
        build_league(make_records(), experiment, CARDS)
    plan = make_plan()
    del plan["methods"][1]["condition"]
    with pytest.raises(CheckpointError, match=r"league\.methods\[1\] lacks 'condition'"):
        build_league(make_records(), make_experiment(plan=plan), CARDS)


@pytest.fixture
def league_folder(tmp_path, write_experiment):
    folder = write_experiment(tmp_path / "experiment", seeds=2, starts=3, targets=2)
    experiment = json.loads((folder / "experiment.json").read_text())
    (folder / "experiment.json").write_text(json.dumps({**experiment, "league": make_plan()}))
    write_json_lines(folder / "league.jsonl", make_records())
    return folder


def test_everything_is_written_and_a_rerun_gives_the_same_bytes(league_folder):
    paths = write_league(league_folder)
    names = [
        "league.json",
        "league.md",
        *(f"figures/{n}.{s}" for n in ("league", "league-regret") for s in ("svg", "png")),
    ]
    assert paths == [league_folder / name for name in names]
    written = json.loads(paths[0].read_text())
    assert set(written) == {"protocol", "rows"}
    assert written["protocol"]["quick"] is False
    assert [row["name"] for row in written["rows"]] == ["random", "sac", "optimum", "dt", "dt", "bc", "bc"]
    assert written["rows"][3]["difference_to_data"] == -800.0  # the card says -300
    assert paths[1].read_text().startswith("| method | pendulum-random | pendulum-medium |\n")
    assert paths[3].read_bytes().startswith(b"\x89PNG")
    before = {path: path.read_bytes() for path in paths}
    write_league(league_folder)
    assert {path: path.read_bytes() for path in paths} == before


def test_missing_or_damaged_records_are_named_and_nothing_is_written(league_folder):
    (league_folder / "league.jsonl").write_text('{"policy": "sac"}\n')
    with pytest.raises(CheckpointError, match=r"league\.jsonl: record 1: lacks 'algorithm'"):
        write_league(league_folder)
    (league_folder / "league.jsonl").unlink()
    with pytest.raises(CheckpointError, match=r"league\.jsonl: no such file; .* `foretell reproduce --league`"):
        write_league(league_folder)
    assert not (league_folder / "league.json").exists()
    assert not (league_folder / "figures").exists()


def test_inputs_are_left_as_they_were():
    records, experiment = make_records(), make_experiment()
    before = copy.deepcopy((records, experiment))
    build_league(records, experiment, CARDS)
    assert (records, experiment) == before


def test_the_league_needs_no_torch():
    program = "import sys, foretell.reporting.league; sys.exit('torch' in sys.modules or 'h5py' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
