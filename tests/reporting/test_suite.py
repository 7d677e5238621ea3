"""Runs over several environments: the table over tasks, its means and intervals, files and page."""

from __future__ import annotations

import csv
import json
import re

import numpy as np
import pytest
from page_helpers import Page

from foretell.cli.main import main
from foretell.core.checksums import sealed
from foretell.core.errors import UsageError
from foretell.core.files import write_json, write_json_lines
from foretell.core.seeding import stream
from foretell.reporting import suite_figure
from foretell.reporting.comparison_report import write_comparison
from foretell.reporting.run_results import read_results
from foretell.reporting.statistics import interquartile_mean, resampled
from foretell.reporting.suite import build_suite
from foretell.reporting.suite_report import folders_of
from foretell.reporting.suite_statistics import Sample, estimate_suite
from foretell.reporting.suite_text import render_suite, suite_cells, suite_columns, suite_summary

STARTS = range(100, 110)
EASE = np.random.default_rng(0).normal(0, 40, len(STARTS))
ENDS = {"Car-v0": (0.0, 200.0), "Boat-v0": (-100.0, 300.0)}


def records(level, environment, dataset="data", *, seed=0, policy=None, algorithm="decision-transformer", target=None):
    """Return evaluation records of a level, apart by what the start states do to every policy."""
    facts = {"policy": policy or dataset, "algorithm": algorithm, "dataset": dataset, "seed": seed, "target": target}
    return [
        {**facts, "environment": environment, "start": start, "return": float(level + ease), "length": 9}
        for start, ease in zip(STARTS, EASE, strict=True)
    ]


def write_run(path, found, *, condition="return", seed=0, best_share=1.0):
    write_json(path / "config.json", sealed({
        "kind": "sequence", "algorithm": "decision-transformer", "condition": condition, "seed": seed,
        "best_share": best_share, "model": {"width": 8}, "dataset": {"name": "data"},
    }))  # fmt: skip
    write_json_lines(path / "evaluations.jsonl", found)
    return path


@pytest.fixture
def runs(tmp_path):
    """Two methods, two environments, two datasets in the second, of which the second method lacks one."""
    made = [
        ("car-dt", records(100, "Car-v0"), "return"), ("car-bc", records(80, "Car-v0"), "none"),
        ("boat-dt", records(100, "Boat-v0"), "return"), ("boat-bc", records(140, "Boat-v0"), "none"),
        ("lake-dt", records(0, "Boat-v0", "lake"), "return"),
    ]  # fmt: skip
    return [write_run(tmp_path / name, found, condition=condition) for name, found, condition in made]


def test_the_table_against_worked_numbers(runs):
    table = build_suite(read_results(runs), ENDS)
    ease = EASE.mean()
    assert table["protocol"]["tasks"] == [["Car-v0", "data"], ["Boat-v0", "data"], ["Boat-v0", "lake"]]
    assert table["protocol"]["shared_tasks"] == [["Car-v0", "data"], ["Boat-v0", "data"]]
    found = {(row["environment"], row["dataset"], row["method"]): row["normalized_score"] for row in table["rows"]}
    assert found == pytest.approx({
        ("Car-v0", "data", "decision-transformer"): (100 + ease) / 2,
        ("Car-v0", "data", "decision-transformer (told nothing)"): (80 + ease) / 2,
        ("Boat-v0", "data", "decision-transformer"): (200 + ease) / 4,
        ("Boat-v0", "data", "decision-transformer (told nothing)"): (240 + ease) / 4,
        ("Boat-v0", "lake", "decision-transformer"): (100 + ease) / 4,
    })  # fmt: skip
    plain, cloning = table["methods"]
    assert plain["mean_score"] == pytest.approx(50 + 3 * ease / 8)
    assert cloning["mean_score"] == pytest.approx(50 + 3 * ease / 8)
    assert (plain["difference"], plain["difference_ci95"]) == (0, [0, 0])
    # Of one seed the start states alone are drawn, the same for both: what they do cancels, -10 and +10 do too.
    assert cloning["difference"] == pytest.approx(0, abs=1e-6)
    assert cloning["difference_ci95"] == pytest.approx([0, 0], abs=1e-6)


def test_means_stand_below_their_methods(tmp_path):
    """Where tasks of one environment have not the same methods, in whatever order these come."""
    levels = {"first": 10, "second": 20, "third": 30}
    data = {"first": "data", "second": "lake", "third": "data"}
    runs = [
        write_run(tmp_path / f"{name}-{environment}", records(level, environment, of, policy=name))
        for name, level in levels.items()
        for environment, of in (("Boat-v0", data[name]), ("Car-v0", "data"))
    ]
    table = build_suite(read_results(runs), ENDS)
    assert table["protocol"]["shared_tasks"] == [["Car-v0", "data"]]
    assert [row["method"] for row in table["methods"]] == list(suite_columns(table)[2:])
    *_, car, mean, _ = suite_cells(table)
    assert car[0] == "Car-v0"
    assert [cell.split()[0] for cell in mean[2:]] == [cell.split()[0] for cell in car[2:]]


def test_rows_are_those_of_each_environments_own_report(runs, tmp_path):
    write_comparison(runs, tmp_path / "out", references=ENDS)
    table = json.loads((tmp_path / "out" / "table.json").read_text())
    for name in ENDS:
        own = json.loads((tmp_path / "out" / name / "table.json").read_text())["rows"]
        beside = [row for row in table["rows"] if row["environment"] == name]
        assert len(own) == len(beside) == (2 if name == "Car-v0" else 3)
        for row in beside:
            (same,) = [one for one in own if one["label"] == row["label"]]
            keys = ("mean_return", "ci95", "iqm", "normalized_score", "training_seeds", "episodes", "dataset")
            assert {key: row[key] for key in keys} == {key: same[key] for key in keys}


def _slowly(methods, samples):
    """Return `[(means, iqms)]` of each method, one resample after the other, by repeating what was drawn."""
    environments = list(dict.fromkeys(one.environment for method in methods for one in method))
    starts = {
        name: resampled(next(o for m in methods for o in m if o.environment == name).scores.shape[1], samples,
                        stream(3, f"suite/starts/{number}"))
        for number, name in enumerate(environments)
    }  # fmt: skip
    seeds = {}
    for one in [one for method in methods for one in method]:
        if one.networks not in seeds:
            seeds[one.networks] = resampled(len(one.scores), samples, stream(3, f"suite/seeds/{len(seeds)}"))
    found = []
    for method in methods:
        means, middles = [], []
        for number in range(samples):
            drawn = [
                np.repeat(np.repeat(one.scores, seeds[one.networks][number], 0), starts[one.environment][number], 1)
                for one in method
            ]
            means.append(np.mean([one.mean() for one in drawn]))
            middles.append(interquartile_mean(np.concatenate([one.mean(axis=1) for one in drawn])))
        found.append((np.array(means), np.array(middles)))
    return found


def test_intervals_over_tasks_against_a_slow_loop():
    rng = np.random.default_rng(1)

    def method(shift):
        return [
            Sample(environment="a", networks=f"{shift} a", scores=rng.normal(shift, 9, (3, 7))),
            Sample(environment="a", networks="everywhere", scores=rng.normal(20, 3, (3, 7))),
            Sample(environment="b", networks=f"{shift} b", scores=rng.normal(2 * shift, 5, (3, 4))),
        ]

    methods = [method(10.0), method(30.0)]
    found = estimate_suite(methods, samples=300, root_seed=3)
    slow = _slowly(methods, 300)
    for one, (means, middles) in zip(found, slow, strict=True):
        for estimate, resamples in ((one.mean, means), (one.iqm, middles), (one.difference, means - slow[0][0])):
            assert [estimate.low, estimate.high] == pytest.approx(np.quantile(resamples, [0.025, 0.975]), abs=1e-8)
    by_hand = np.mean([one.scores.mean() for one in methods[1]])
    assert found[1].mean.value == pytest.approx(by_hand)
    pooled = np.concatenate([one.scores.mean(axis=1) for one in methods[1]])
    assert found[1].iqm.value == pytest.approx(interquartile_mean(pooled))


def test_a_task_with_more_seeds_weighs_no_more():
    many = Sample(environment="a", networks="1", scores=np.full((9, 2), 80.0))
    few = Sample(environment="b", networks="2", scores=np.full((1, 2), 20.0))
    (one,) = estimate_suite([[many, few]], samples=20, root_seed=0)
    assert (one.mean.value, one.iqm.value) == (50, 50)


def test_intervals_over_tasks_hold_the_truth_as_often_as_they_say():
    """Of ten tasks, six seeds and thirty start states, whose effects are of one size, in 200 repetitions."""
    rng, held, repetitions = np.random.default_rng(5), 0, 200
    for _ in range(repetitions):
        tasks = []
        for number in range(10):
            noise = rng.normal(0, 5, (6, 1)) + rng.normal(0, 5, (1, 30)) + rng.normal(0, 5, (6, 30))
            tasks.append(Sample(environment=str(number), networks=str(number), scores=50.0 + noise))
        (one,) = estimate_suite([tasks], samples=200, root_seed=0)
        held += one.mean.low <= 50 <= one.mean.high
    assert 0.85 <= held / repetitions <= 1


def test_seeds_of_one_run_are_drawn_together_however_and_wherever_they_act(tmp_path):
    """What the seeds do to a run and to its greedy acting cancels; to its acting in two environments it does not."""
    found = [
        record
        for seed in range(4)
        for name, (low, high) in ENDS.items()
        for policy, shift in (("data", 0.0), ("data-greedy", 8.0))
        for record in records(100 + seed * (high - low) / 2 + shift, name, seed=seed, policy=policy)
    ]
    for seed in range(4):
        write_run(tmp_path / "run" / f"seed-{seed}", [], seed=seed)
    write_json_lines(tmp_path / "run" / "evaluations.jsonl", found)
    plain, greedy = build_suite(read_results([tmp_path / "run"]), ENDS)["methods"]
    assert greedy["difference_ci95"] == pytest.approx([3, 3])
    # Of four seeds, 50 apart in both environments; were each drawn by itself, the mean would vary by less.
    drawn = resampled(4, 10_000, stream(0, "suite/seeds/0")) @ np.arange(4) * 50 / 4
    expected = np.ptp(np.quantile(drawn, [0.025, 0.975]))
    assert plain["mean_ci95"][1] - plain["mean_ci95"][0] == pytest.approx(expected, rel=0.1)


def test_a_policy_without_data_stands_in_every_task_of_its_environment(runs, tmp_path):
    found = records(7, "Boat-v0", None, policy="random", algorithm="random")
    write_json_lines(tmp_path / "random.jsonl", found)
    rows = build_suite(read_results([*runs, tmp_path / "random.jsonl"]), ENDS)["rows"]
    own = [row for row in rows if row["method"] == "random"]
    assert [row["dataset"] for row in own] == ["data", "lake"]
    assert own[0]["mean_return"] == own[1]["mean_return"]


def test_environments_of_policies_without_data_are_tasks_too(tmp_path):
    paths = [tmp_path / f"{name}.jsonl" for name in ENDS]
    for path, name in zip(paths, ENDS, strict=True):
        write_json_lines(path, records(5, name, None, policy="random", algorithm="random"))
    table = build_suite(read_results(paths), ENDS)
    assert table["protocol"]["tasks"] == [["Car-v0", None], ["Boat-v0", None]]
    assert [cells[1] for cells in suite_cells(table)] == ["—", "—", "2 tasks", "2 tasks"]


def test_where_start_states_are_not_shared_is_said(runs, tmp_path):
    fewer = write_run(tmp_path / "fewer", records(60, "Boat-v0", policy="fewer")[2:])
    with pytest.warns(UserWarning, match=r"Boat-v0: only 8 start states .* of up to 10"):
        write_comparison([*runs, fewer], tmp_path / "out", references=ENDS)
    table = json.loads((tmp_path / "out" / "table.json").read_text())
    assert "Car-v0: 10 start states; Boat-v0: 8 start states, 2 left out that some lack." in render_suite(table)
    none = [{**one, "start": one["start"] + 50} for one in records(60, "Boat-v0", policy="none")]
    with pytest.raises(UsageError, match=r"records of Boat-v0 share no start state"):
        write_comparison([*runs, write_run(tmp_path / "none", none)], tmp_path / "out", references=ENDS)


def test_methods_are_called_as_they_were_named_else_by_what_they_are_told(tmp_path):
    made = [
        (records(1, "Car-v0"), "advantage", 1.0),
        (records(1, "Car-v0"), "value", 1.0),
        (records(1, "Boat-v0"), "none", 0.1),
        (records(1, "Boat-v0", policy="mine"), "return", 1.0),
        (records(1, "Boat-v0", policy="data-greedy"), "return", 1.0),
    ]
    runs = [
        write_run(tmp_path / str(number), found, condition=condition, best_share=share)
        for number, (found, condition, share) in enumerate(made)
    ]
    assert list(dict.fromkeys(row["method"] for row in build_suite(read_results(runs), None)["rows"])) == [
        "decision-transformer (told advantages)", "decision-transformer (told relabelled returns)",
        "decision-transformer (told nothing, best 10% of the episodes)", "mine", "decision-transformer (greedy)",
    ]  # fmt: skip


def test_one_method_twice_on_a_task_is_refused(runs, tmp_path):
    again = write_run(tmp_path / "again", records(60, "Car-v0"))
    with pytest.raises(
        UsageError, match=r"car-dt and .*again: are both 'decision-transformer' on Car-v0, data;.*--name"
    ):
        build_suite(read_results([*runs, again]), ENDS)


def test_the_runs_own_rule_counts_and_several_asked_returns_without_it_are_refused(runs, tmp_path):
    asked = write_run(tmp_path / "asked", records(60, "Car-v0", "x", target=5.0) + records(70, "Car-v0", "x"))
    rows = build_suite(read_results([*runs, asked]), ENDS)["rows"]
    (own,) = [row for row in rows if row["label"] == "asked"]
    assert (own["target_return"], own["mean_return"]) == (None, pytest.approx(70 + EASE.mean()))
    once = write_run(tmp_path / "once", records(60, "Car-v0", "y", target=5.0))
    rows = build_suite(read_results([*runs, once]), ENDS)["rows"]
    assert [row["target_return"] for row in rows if row["label"] == "once"] == [5.0]
    twice = write_run(
        tmp_path / "twice", records(60, "Car-v0", "z", target=5.0) + records(70, "Car-v0", "z", target=6.0)
    )
    with pytest.raises(UsageError, match=r"twice: was asked for 2 returns, and not evaluated by its own rule"):
        build_suite(read_results([*runs, twice]), ENDS)


def test_several_asked_returns_under_another_name_are_left_out(runs, tmp_path):
    probed = [record for target in (5.0, 6.0) for record in records(60, "Car-v0", policy="probe", target=target)]
    both = write_run(tmp_path / "both", records(70, "Car-v0", "x") + probed)
    rows = build_suite(read_results([*runs, both]), ENDS)["rows"]
    (own,) = [row for row in rows if row["label"].startswith("both")]
    assert (own["target_return"], own["mean_return"]) == (None, pytest.approx(70 + EASE.mean()))


def test_several_asked_returns_of_another_policy_in_the_file_are_refused(runs, tmp_path):
    asked = [record for target in (5.0, 6.0) for record in records(60, "Car-v0", policy="probe", target=target)]
    write_json_lines(tmp_path / "both.jsonl", records(70, "Car-v0", policy="other") + asked)
    with pytest.raises(UsageError, match=r"both\.jsonl: was asked for 2 returns"):
        build_suite(read_results([*runs, tmp_path / "both.jsonl"]), ENDS)


def test_without_references_there_are_returns_and_no_means(runs, tmp_path):
    table = build_suite(read_results(runs), {"Car-v0": (0.0, 200.0)})
    assert table["methods"] == []
    assert all(row["normalized_score"] is None and row["normalized_ci95"] is None for row in table["rows"])
    said = render_suite(table)
    assert "not known of Boat-v0: give them with --references" in said
    assert "Mean undiscounted return per episode in reward units" in said
    files = write_comparison(runs, tmp_path / "out")
    assert not (tmp_path / "out" / "figures").exists()
    assert all(path.exists() for path in files)


def test_where_no_task_has_all_methods_there_is_no_mean(runs):
    table = build_suite(read_results([runs[0], runs[3]]), ENDS)
    assert table["methods"] == []
    assert "No task has all of them" in suite_summary(table)
    assert "—" in suite_cells(table)[0]


@pytest.mark.parametrize(
    "wrong", [{"Car-v0": 5}, {"Car-v0": "ab"}, {"Car-v0": None, 1: (2.0, 3.0)}, {"Car-v0": (1.0, "x")}, "ab", 5]
)
def test_references_that_are_no_numbers_are_refused_in_words(runs, tmp_path, wrong):
    for some in (runs, runs[:2]):
        if some == runs or isinstance(wrong, dict):
            with pytest.raises(UsageError, match=r"reference"):
                write_comparison(some, tmp_path / "out", references=wrong)
    assert not (tmp_path / "out").exists()


def test_an_environment_that_is_no_text_is_refused_in_words(runs, tmp_path):
    with pytest.raises(UsageError, match=r"--environment 3: the records are of Car-v0"):
        write_comparison(runs[:2], tmp_path / "out", environment=3)


def test_references_that_fit_nothing_are_refused(runs, tmp_path):
    with pytest.raises(UsageError, match=r"references of Plane-v0: the records are of Car-v0, Boat-v0"):
        write_comparison(runs, tmp_path / "out", references={**ENDS, "Plane-v0": (0.0, 1.0)})
    with pytest.raises(UsageError, match=r"by each environment's name"):
        write_comparison(runs, tmp_path / "out", references=(0.0, 1.0))
    with pytest.raises(UsageError, match=r"expected finite mean returns"):
        write_comparison(runs, tmp_path / "out", references={**ENDS, "Car-v0": (2.0, 1.0)})
    assert not (tmp_path / "out").exists()


def test_references_of_other_environments_alone_are_refused(runs, tmp_path):
    with pytest.raises(UsageError, match=r"references of Boat-v0: the records are of Car-v0\."):
        write_comparison(runs[:2], tmp_path / "out", references={"Boat-v0": (0.0, 1.0)})
    assert not (tmp_path / "out").exists()


def test_references_are_of_an_environment_however_its_keywords_are_written(tmp_path):
    names = {"Lake-v0,deep=true,wide=2": "Lake-v0,wide=2,deep=True", "Car-v0": "Car-v0"}
    runs = [write_run(tmp_path / str(number), records(5, name)) for number, name in enumerate(names)]
    words = [word for name in names.values() for word in (name, "0", "100")]
    assert main(["report", *map(str, runs), "--out", str(tmp_path / "out"), "--references", *words]) == 0
    table = json.loads((tmp_path / "out" / "table.json").read_text())
    assert [one["expert_score"] for one in table["protocol"]["environments"].values()] == [100, 100]


def test_references_by_name_serve_a_single_environment(runs, tmp_path):
    write_comparison(runs[:2], tmp_path / "out", references=ENDS)
    table = json.loads((tmp_path / "out" / "table.json").read_text())
    assert (table["protocol"]["random_score"], table["protocol"]["expert_score"]) == (0, 200)


def test_the_files_and_the_page(runs, tmp_path):
    out = tmp_path / "out"
    files = write_comparison(runs, out, references=ENDS)
    assert files[0] == out / "table.json"
    assert len({*files}) == len(files)
    assert all(path.is_file() for path in files)
    before = {path: path.read_bytes() for path in files}
    assert write_comparison(runs, out, references=ENDS) == files
    assert {path: path.read_bytes() for path in files} == before
    page = Page((out / "report.html").read_text())
    links = [one for one in page.references if not one.startswith("data:")]
    assert links == ["Car-v0/report.html", "Boat-v0/report.html"]
    assert all((out / link).is_file() for link in links)
    head, *lines = (out / "table.md").read_text().splitlines()
    assert head == ("| environment | trained on | decision-transformer | decision-transformer (told nothing) |")
    assert re.fullmatch(r"\| Boat-v0 \| lake \| .* \| — \|", lines[3])
    assert lines[4].startswith("| mean | 2 tasks | ")
    with (out / "table.csv").open(newline="") as file:
        rows = [*csv.DictReader(file)]
    assert len(rows) == 5
    assert {"environment", "dataset", "method", "normalized_score", "normalized_ci95_low"} <= {*rows[0]}
    assert r"decision-transformer (told nothing) \\" in (out / "table.tex").read_text()


@pytest.mark.parametrize(
    ("environments", "folders"),
    [
        (["a-b-2", "a/b", "a-b"], ["a-b-2", "a-b", "a-b-3"]),
        (["Figures", "table.json", "a", "A"], ["Figures-2", "table.json-2", "a", "A-2"]),
        (["...", "環境"], ["environment", "environment-2"]),
        ([f"a-v0,b={'x' * 247}", f"a-v0,b={'x' * 246}"], ["a-v0-b-" + "x" * 193, "a-v0-b-" + "x" * 193 + "-2"]),
    ],
)
def test_every_environment_has_a_folder_of_its_own(environments, folders):
    assert folders_of(environments) == dict(zip(environments, folders, strict=True))


def test_the_report_of_an_experiment_stays(runs, tmp_path):
    own = tmp_path / "out" / "Boat-v0"
    own.mkdir(parents=True)
    (own / "experiment.json").write_text("{}")
    with pytest.raises(UsageError, match=r"Boat-v0: holds an experiment's own report"):
        write_comparison(runs, tmp_path / "out", references=ENDS)
    assert [path.name for path in (tmp_path / "out").rglob("*.*")] == ["experiment.json"]


def test_figures_of_an_earlier_report_go(runs, tmp_path):
    out = tmp_path / "out"
    write_comparison(runs[:2], out, references=ENDS)
    assert (out / "figures" / "returns.png").exists()
    write_comparison(runs, out, references=ENDS)
    assert sorted(path.name for path in (out / "figures").iterdir()) == ["scores.png", "scores.svg"]
    write_comparison(runs[:2], out, references=ENDS)
    assert sorted(path.name for path in (out / "figures").iterdir()) == ["returns.png", "returns.svg"]


@pytest.mark.parametrize("left", [slice(0, 2), slice(2, None)])
def test_reports_of_environments_that_are_reported_no_more_go(left, runs, tmp_path):
    out = tmp_path / "out"
    write_comparison(runs, out, references=ENDS)
    (out / "Boat-v0" / "notes.txt").write_text("mine")
    (out / "Boat-v0" / "figures" / "mine.png").write_bytes(b"")
    write_comparison(runs[left], out, references=ENDS)
    assert sorted(path.name for path in (out / "Boat-v0").rglob("*") if path.is_file()) == ["mine.png", "notes.txt"]
    assert not (out / "Car-v0").exists()
    assert (out / "report.html").exists()


def test_of_three_environments_one_goes(runs, tmp_path):
    out = tmp_path / "out"
    lake = write_run(tmp_path / "lake", records(50, "Lake-v0"))
    write_comparison([*runs, lake], out)
    kept = {path: path.stat().st_mtime_ns for path in runs[0].iterdir()}
    write_comparison(runs, out)
    assert sorted(path.name for path in out.iterdir() if path.is_dir()) == ["Boat-v0", "Car-v0"]
    assert {path: path.stat().st_mtime_ns for path in runs[0].iterdir()} == kept


@pytest.mark.parametrize("change", ["another environment's", "no report", "a link", "an experiment's"])
def test_what_a_report_did_not_write_stays(change, runs, tmp_path):
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    write_comparison(runs, out, references=ENDS)
    own = out / "Boat-v0"
    if change == "another environment's":
        table = json.loads((own / "table.json").read_text())
        table["protocol"]["environment"] = "Lake-v0"
        write_json(own / "table.json", table)
    elif change == "no report":
        (own / "table.json").write_text("[]")
    elif change == "an experiment's":
        (own / "experiment.json").write_text("{}")
    else:
        own.rename(elsewhere)
        own.symlink_to(elsewhere)
    before = {path.name for path in own.rglob("*")}
    write_comparison(runs[:2], out, references=ENDS)
    assert {path.name for path in own.rglob("*")} == before


def test_on_the_command_line(runs, tmp_path, capsys):
    words = ["report", *map(str, runs), "--out", str(tmp_path / "out")]
    references = ["--references", "Car-v0", "0", "200", "Boat-v0", "-100", "300"]
    assert main([*words, *references]) == 0
    shown = capsys.readouterr().out
    assert "Mean score over 2 tasks: decision-transformer " in shown
    page = (tmp_path / "out" / "report.html").read_text()
    assert "--references Car-v0 0.0 200.0 Boat-v0 -100.0 300.0" in page
    own = (tmp_path / "out" / "Car-v0" / "report.html").read_text()
    assert f"--out {tmp_path / 'out' / 'Car-v0'} --environment Car-v0 --references 0.0 200.0" in own
    for wrong in (["1"], ["Car-v0", "0"], ["Car-v0", "0", "200", "Boat-v0"], ["Car-v0", "a", "1"], ["x", "1"]):
        assert main([*words, "--references", *wrong]) == 2
        assert "expected two mean returns" in capsys.readouterr().err
    assert main(["report", *references, *words[1:]]) == 2
    assert "Folders come before it." in capsys.readouterr().err


def test_a_terminal_has_a_line_for_each_method(runs, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "70")
    assert main(["report", *map(str, runs), "--out", str(tmp_path / "out")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["environment", "trained", "on", "method", "mean", "[95%]"]
    assert max(map(len, lines[:7])) <= 70
    assert sum("nothing)" in line for line in lines[:7]) == 3


def test_columns_are_the_methods(runs):
    table = build_suite(read_results(runs), ENDS)
    assert suite_columns(table)[2:] == ("decision-transformer", "decision-transformer (told nothing)")
    assert all(len(cells) == 4 for cells in suite_cells(table))


def test_returns_that_are_all_alike_have_no_interval(runs, tmp_path):
    found = [{**one, "return": 50.0} for one in records(0, "Car-v0")]
    alike = write_run(tmp_path / "alike", found)
    table = build_suite(read_results([alike, *runs[2:]]), ENDS)
    assert suite_cells(table)[0][2] == "25.0 [all alike]"
    assert "all alike: the same from every start state" in render_suite(table)
    assert "alike" not in render_suite(build_suite(read_results(runs), ENDS))


def _mean_over_tasks(tmp_path, levels, episodes):
    """Return the table of runs that earn their level in every episode of two environments."""
    runs = [
        write_run(tmp_path / f"{name}-{environment}", [
            {**one, "return": level} for one in records(0, environment, policy=name)[:episodes]
        ])
        for name, level in levels.items() for environment in ENDS
    ]  # fmt: skip
    return build_suite(read_results(runs), dict.fromkeys(ENDS, (0.0, 100.0)))


def test_means_over_tasks_that_are_all_alike_have_no_interval(tmp_path):
    table = _mean_over_tasks(tmp_path, {"one": 10.0, "two": 15.0, "three": 10.0}, episodes=5)
    for line in suite_cells(table)[-2:]:
        assert line[2:] == ("10.0 [all alike]", "15.0 [all alike]", "10.0 [all alike]")
    assert suite_summary(table) == (
        "Mean score over 2 tasks: one 10.0 [all alike]; two 15.0 [all alike], 5.0 more [all alike]; "
        "three 10.0 [all alike], as much."
    )


def test_means_over_tasks_of_one_episode_have_no_interval(tmp_path):
    table = _mean_over_tasks(tmp_path, {"one|": 10.0, "two": 15.0}, episodes=1)
    assert [line[2:] for line in suite_cells(table)] == [("10.0", "15.0")] * 4
    assert r"Mean score over 2 tasks: one\| 10.0; two 15.0, 5.0 more." in render_suite(table)


def test_keywords_are_not_broken_in_the_figure_and_tasks_are_told_apart(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(suite_figure, "finish_rows", lambda axes, labels: seen.extend(labels))
    names = ["FrozenLake-v1,is_slippery=false", *(f"Car-v0,a_long_keyword_of_it={n * 'x'}" for n in (29, 30))]
    runs = [write_run(tmp_path / str(n), records(n, name)) for n, name in enumerate(names)]
    table = build_suite(read_results(runs), dict.fromkeys(names, (0.0, 1.0)))
    suite_figure.draw_scores(tmp_path / "scores", table)
    assert seen[0] == "FrozenLake-v1,\nis_slippery=false, data"
    assert len({*seen}) == len(seen) == 4
