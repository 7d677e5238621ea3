"""Runs of one's own beside each other: table, figures and page."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from page_helpers import Page

from foretell.cli.evaluate import _summaries
from foretell.core.checksums import sealed
from foretell.core.errors import CheckpointError, UsageError
from foretell.core.files import write_json, write_json_lines
from foretell.reporting import comparison_figures
from foretell.reporting.comparison import build_comparison, places
from foretell.reporting.comparison_report import write_comparison
from foretell.reporting.comparison_text import (
    comparison_cells,
    comparison_sentence,
    render_comparison,
    summary_sentence,
)
from foretell.reporting.run_results import read_results
from foretell.reporting.style import color_of

ENVIRONMENT = "Pendulum-v1"
STARTS = range(100, 120)
EASE = np.random.default_rng(0).normal(0, 80, len(STARTS))
"""What a start state does to every policy."""


def records(level, *, policy="data", seed=0, target=None, starts=STARTS, environment=ENVIRONMENT, spread=0.0):
    """Return evaluation records of about a level, of which the start states explain all but `spread`."""
    noise = np.random.default_rng(seed + 1).normal(0, 1, len(STARTS)) * spread
    by_start = dict(zip(STARTS, level + EASE + noise))
    facts = {"policy": policy, "algorithm": "decision-transformer", "dataset": "data", "seed": seed}
    return [
        {**facts, "environment": environment, "start": start, "target": target,
         "return": float(by_start.get(start, level)), "length": 200}
        for start in starts
    ]  # fmt: skip


def write_run(
    path, found, *, seed=0, condition="return", width=8, events=True, environment=None, kind="sequence"
) -> Path:
    """Write a run folder as training and evaluation leave it, as far as a report looks at it."""
    data = {"name": "data", "lowest_return": -1500.0, "highest_return": -200.0}
    write_json(path / "config.json", sealed({
        "kind": kind, "algorithm": "decision-transformer", "condition": condition, "seed": seed,
        "model": {"width": width}, "dataset": data, **({"environment": {"name": environment}} if environment else {}),
    }))  # fmt: skip
    if events:
        learned, counter = [(1_000, -900.0 + seed), (2_000, -300.0 + seed)], "step" if kind == "sac" else "update"
        write_json_lines(path / "events.jsonl", [
            {"event": "evaluation", counter: at, "mean_return": mean} for at, mean in learned
        ])  # fmt: skip
    if found:
        write_json_lines(path / "evaluations.jsonl", found)
    return path


def write_seeds(path, level, *, seeds=3, together=True) -> Path:
    found = [records(level + seed, seed=seed) for seed in range(seeds)]
    for seed in range(seeds):
        write_run(path / f"seed-{seed}", [] if together else found[seed], seed=seed)
    if together:
        write_json_lines(path / "evaluations.jsonl", [record for some in found for record in some])
    return path


@pytest.fixture
def runs(tmp_path):
    return [write_seeds(tmp_path / "seeds", -300.0), write_run(tmp_path / "other", records(-250.0, spread=10.0))]


def test_the_table_against_worked_numbers(runs):
    first, other = build_comparison(read_results(runs))["rows"]
    assert first["mean_return"] == pytest.approx(-299 + EASE.mean())
    assert first["training_seeds"] == [0, 1, 2]
    assert first["iqm"] == pytest.approx(-299 + EASE.mean())
    assert (first["difference"], first["difference_ci95"]) == (0, [0, 0])
    noise = np.random.default_rng(1).normal(0, 1, len(STARTS)) * 10
    assert other["difference"] == pytest.approx(49 + noise.mean())
    random, expert = -1230.5, -136.9  # of the task table
    assert other["normalized_score"] == pytest.approx(100 * (other["mean_return"] - random) / (expert - random))


def test_a_difference_is_paired_by_start_state(runs):
    """The start states, which spread returns by 80, are the same for both and drop out."""
    rows = build_comparison(read_results(runs))["rows"]
    widths = [np.ptp(rows[1][key]) for key in ("ci95", "difference_ci95")]
    assert widths[1] < widths[0] / 4
    low, high = rows[1]["difference_ci95"]
    assert low < rows[1]["difference"] < high


def test_rows_come_in_the_order_given_and_own_rules_first(tmp_path):
    asked = records(-250.0, target=-200.0) + records(-300.0) + records(-400.0, target=-900.0)
    results = read_results([write_run(tmp_path / "b", asked), write_run(tmp_path / "a", records(-1.0))])
    table = build_comparison(results)
    found = [(row["label"], row["target_return"]) for row in table["rows"]]
    assert found == [("b", None), ("b", -900.0), ("b", -200.0), ("a", None)]
    assert table["protocol"]["against"] == "b"


def test_policies_of_one_file_are_told_apart(tmp_path):
    found = records(-250.0, policy="one") + records(-300.0, policy="two")
    write_json_lines(tmp_path / "both.jsonl", found)
    rows = build_comparison(read_results([tmp_path / "both.jsonl"]))["rows"]
    assert [row["label"] for row in rows] == ["both: one", "both: two"]


def test_runs_of_one_name_are_called_by_their_paths(tmp_path):
    paths = [write_run(tmp_path / folder / "dt", records(-300.0)) for folder in "ab"]
    assert [one.label for one in read_results(paths)] == list(map(str, paths))


def test_only_shared_start_states_are_compared_and_that_is_said(tmp_path):
    few = write_run(tmp_path / "few", records(-300.0, starts=STARTS[:5]))
    with pytest.warns(UserWarning, match="5 start states.*of up to 20"):
        table = build_comparison(read_results([few, write_run(tmp_path / "all", records(-200.0))]))
    assert (table["protocol"]["evaluation_starts"], table["protocol"]["starts_left_out"]) == (5, 15)
    said = "Only 5 start states that all rows have are compared: 15 of up to 20 are left out"
    assert render_comparison(table).startswith(f"**{said}")
    assert "5 start states shared by all, 15 left out that some lack" in comparison_sentence(table)
    assert table["rows"][1]["mean_return"] == pytest.approx(-200 + EASE[:5].mean())
    assert table["rows"][1]["difference"] == pytest.approx(100)


def test_a_start_state_that_one_seed_lacks_is_shared_by_none(tmp_path):
    found = records(-300.0, seed=0) + records(-300.0, seed=1, starts=STARTS[1:])
    with pytest.warns(UserWarning, match="19 start states"):
        (row,) = build_comparison(read_results([write_run(tmp_path / "run", found)]))["rows"]
    assert row["episodes"] == 19


def test_no_start_state_in_common_is_refused(tmp_path):
    paths = [
        write_run(tmp_path / "a", records(-300.0, starts=STARTS[:5])),
        write_run(tmp_path / "b", records(-300.0, starts=STARTS[5:])),
    ]
    with pytest.raises(UsageError, match=r"share no start state.*--root-seed"):
        build_comparison(read_results(paths))


def test_several_environments_are_compared_one_at_a_time(tmp_path):
    path = write_run(tmp_path / "run", records(-300.0) + records(-10.0, environment="Car-v0"))
    with pytest.raises(UsageError, match=r"Pendulum-v1, Car-v0.*--environment"):
        build_comparison(read_results([path]))
    (row,) = build_comparison(read_results([path]), "Car-v0")["rows"]
    assert row["mean_return"] == pytest.approx(-10 + EASE.mean())
    assert row["normalized_score"] is None  # nobody knows the ends of that task
    with pytest.raises(UsageError, match="Nope-v0"):
        build_comparison(read_results([path]), "Nope-v0")
    only = write_run(tmp_path / "only", records(-10.0))
    with pytest.raises(UsageError, match=r"only: has no records of Car-v0"):
        build_comparison(read_results([path, only]), "Car-v0")
    table = build_comparison(read_results([path, only]))  # the only one that both have
    assert table["protocol"]["environment"] == ENVIRONMENT
    elsewhere = write_run(tmp_path / "elsewhere", records(-1.0, environment="Car-v0"))
    with pytest.raises(UsageError, match=r"several environments.*Pendulum-v1, Car-v0"):
        build_comparison(read_results([only, elsewhere]))


def test_settings_that_differ_are_in_the_table(tmp_path):
    paths = [write_run(tmp_path / f"w{width}", records(-300.0), width=width) for width in (8, 16)]
    paths.append(write_run(tmp_path / "untold", records(-300.0), condition="none"))
    write_json_lines(tmp_path / "by-hand.jsonl", records(-200.0))
    rows = build_comparison(read_results([*paths, tmp_path / "by-hand.jsonl"]))["rows"]
    assert [row["settings"] for row in rows] == [
        {"condition": "return", "model.width": 8}, {"condition": "return", "model.width": 16},
        {"condition": "none", "model.width": 8}, {},
    ]  # fmt: skip
    write_comparison(paths, tmp_path / "report")
    lines = list(csv.DictReader((tmp_path / "report" / "table.csv").open()))
    assert [line["settings.model.width"] for line in lines] == ["8", "16", "8"]
    assert [float(line["ci95_low"]) for line in lines] == [row["ci95"][0] for row in rows[:3]]


def test_a_setting_that_an_older_run_meant_is_no_difference(tmp_path):
    older, newer = (write_run(tmp_path / name, []) for name in ("older", "newer"))
    config = json.loads((newer / "config.json").read_text())
    config["model"] |= {"action_loss": "squared", "timestep_embedding": "learned"}
    write_json(newer / "config.json", sealed({key: value for key, value in config.items() if key != "checksum"}))
    for run in (older, newer):  # lines are sealed with their run's configuration
        write_json_lines(run / "evaluations.jsonl", records(-300.0))
        (run / "events.jsonl").unlink()
    assert [row["settings"] for row in build_comparison(read_results([older, newer]))["rows"]] == [{}, {}]


def test_seeds_of_several_datasets_name_all_of_them(tmp_path):
    found = [{**one, "dataset": f"data-{seed}"} for seed in (0, 1) for one in records(-300.0, seed=seed)]
    write_json_lines(tmp_path / "seeds.jsonl", found)
    (row,) = build_comparison(read_results([tmp_path / "seeds.jsonl"]))["rows"]
    assert row["dataset"] == "data-0, data-1"


def test_seeds_evaluated_one_by_one_are_the_same_as_together(tmp_path):
    paths = [write_seeds(tmp_path / "together", -300.0), write_seeds(tmp_path / "each", -300.0, together=False)]
    first, second = build_comparison(read_results(paths))["rows"]
    assert first["mean_return"] == second["mean_return"]
    assert second["difference"] == 0


def test_one_seed_of_several_has_what_was_recorded_beside_all(runs):
    (row,) = build_comparison(read_results([runs[0] / "seed-2"]))["rows"]
    assert row["training_seeds"] == [2]
    assert row["mean_return"] == pytest.approx(-298 + EASE.mean())


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("missing", CheckpointError, "missing: does not exist.*run folder"),
        ("empty", CheckpointError, "empty: is no run"),
        ("unmeasured", CheckpointError, "no evaluation records.*foretell evaluate"),
        ("unlike", UsageError, "model.width"),
    ],
)
def test_what_cannot_be_compared_is_refused(tmp_path, name, error, words):
    (tmp_path / "empty").mkdir()
    write_run(tmp_path / "unmeasured", [])
    write_seeds(tmp_path / "unlike", -300.0)
    write_run(tmp_path / "unlike" / "seed-3", [], seed=3, width=16)
    with pytest.raises(error, match=words):
        read_results([tmp_path / name])


def test_a_run_given_twice_is_refused(runs):
    with pytest.raises(UsageError, match="twice"):
        read_results([runs[0], runs[0] / ".." / runs[0].name])
    with pytest.raises(UsageError, match="no runs"):
        write_comparison([], "anywhere")


def test_runs_may_be_any_several(runs, tmp_path):
    expected = [path.name for path in write_comparison(runs, tmp_path / "listed")]
    for number, given in enumerate((iter(runs), dict.fromkeys(runs, 0).keys())):
        assert [path.name for path in write_comparison(given, tmp_path / str(number))] == expected


def test_a_run_that_was_only_seen_greedy_says_so(tmp_path):
    write_run(tmp_path / "values", records(-200.0, policy="iql-greedy"))
    write_run(tmp_path / "other", records(-300.0))
    rows = build_comparison(read_results([tmp_path / "values", tmp_path / "other"]))["rows"]
    assert [row["label"] for row in rows] == ["values: iql-greedy", "other"]


def test_everything_is_written_and_again_to_the_same_bytes(runs, tmp_path):
    write_json_lines(tmp_path / "random.jsonl", records(-1200.0, policy="random"))
    given = [*runs, tmp_path / "random.jsonl"]
    paths = write_comparison(given, tmp_path / "out")
    names = {path.relative_to(tmp_path / "out").as_posix() for path in paths}
    figures = {f"figures/{name}.{suffix}" for name in ("returns", "learning") for suffix in ("svg", "png")}
    assert names == {"table.json", "table.md", "table.csv", "table.tex", "report.html"} | figures
    before = [path.read_bytes() for path in paths]
    assert [path.read_bytes() for path in write_comparison(given, tmp_path / "out")] == before


def test_the_page_is_whole_and_asks_nothing_of_the_network(runs, tmp_path):
    write_comparison(runs, tmp_path / "out")
    page = Page((tmp_path / "out" / "report.html").read_text())
    assert page.references
    assert all(one.startswith("data:") for one in page.references)
    assert "script" not in page.tags
    for words in ("difference to seeds [95%]", "own rule chose", '"width": 8', "3 × 20"):
        assert words in page.text


def test_figures_of_an_earlier_report_go(runs, tmp_path):
    asked = records(-700.0, target=-600.0) + records(-300.0, target=-250.0)
    out = tmp_path / "out"
    first = write_comparison([write_run(tmp_path / "told", asked)], out)
    stray = [out / "figures" / "mine.png", out / "figures" / "asked-mine.png", out / "notes.md"]
    for path in stray:
        path.write_text("mine")
    second = write_comparison([runs[0]], out)
    assert {path for path in out.rglob("*") if path.is_file()} == {*second, *stray}
    assert {path.name for path in {*first} - {*second}} == {"asked-told.svg", "asked-told.png"}


@pytest.mark.parametrize("table", ["{", "[]", '{"figures": 3}', '{"figures": ["../notes.md"]}', '{"figures": [4]}'])
def test_what_a_report_did_not_make_stays(runs, tmp_path, table):
    out = tmp_path / "out"
    (out / "figures").mkdir(parents=True)
    (out / "table.json").write_text(table)
    (out / "notes.md").write_text("mine")
    write_comparison(runs, out)
    assert (out / "notes.md").read_text() == "mine"


def test_asked_against_achieved_is_drawn_where_returns_were_asked_for(tmp_path):
    asked = records(-700.0, target=-600.0) + records(-300.0, target=-250.0)
    drawn = write_comparison([write_run(tmp_path / "told", asked)], tmp_path / "told")
    assert tmp_path / "told" / "figures" / "asked-told.png" in drawn
    quantiles = records(-700.0, target=0.1) + records(-300.0, target=0.9)
    advantages = write_run(tmp_path / "advantages", quantiles, condition="advantage")
    drawn = write_comparison([advantages], advantages)
    assert [path.stem for path in drawn if path.suffix == ".png"] == ["returns", "learning"]


def test_runs_that_were_never_evaluated_while_they_learned_have_no_curve(tmp_path):
    run = write_run(tmp_path / "run", records(-300.0), events=False)
    assert not [path for path in write_comparison([run], run) if path.stem == "learning"]


def test_an_experiments_folder_keeps_its_own_report(runs, tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "experiment.json").write_text("{}")
    with pytest.raises(UsageError, match="experiment's own report"):
        write_comparison(runs, tmp_path / "experiment")


def test_a_report_loads_no_torch(runs, tmp_path):
    code = (
        "import sys, json; from foretell.reporting.comparison_report import write_comparison;"
        "write_comparison(json.loads(sys.argv[1]), sys.argv[2]); sys.exit('torch' in sys.modules)"
    )
    given = json.dumps(list(map(str, runs)))
    subprocess.run([sys.executable, "-c", code, given, str(tmp_path / "out")], check=True)


def test_rows_of_one_run_are_the_same_networks(tmp_path):
    """Seeds that differ by 40 say nothing of what asking for more brings, if it brings 1 with each of them."""
    found = []
    for seed, level in enumerate((-300.0, -280.0, -260.0)):
        found += records(level, seed=seed) + records(level + 1, seed=seed, target=-100.0)
    path = tmp_path / "seeds"
    for seed in range(3):
        write_run(path / f"seed-{seed}", [], seed=seed)
    write_json_lines(path / "evaluations.jsonl", found)
    asked = build_comparison(read_results([path]))["rows"][1]
    assert asked["difference_ci95"] == pytest.approx([1, 1])
    other = write_run(tmp_path / "other", records(-279.0))  # of other networks, which seeds it has is chance
    compared = build_comparison(read_results([path, other]))["rows"][2]
    assert np.ptp(compared["difference_ci95"]) > 10


def test_policies_of_one_file_may_be_of_different_runs(tmp_path):
    found = []
    for seed, level in enumerate((-300.0, -280.0, -260.0)):
        found += records(level, seed=seed, policy="one") + records(level + 1, seed=seed, policy="two")
    write_json_lines(tmp_path / "both.jsonl", found)
    assert np.ptp(build_comparison(read_results([tmp_path / "both.jsonl"]))["rows"][1]["difference_ci95"]) > 10


def test_small_returns_have_their_decimals(tmp_path):
    small = [{**record, "return": record["return"] / 1e5} for record in records(-300.0)]
    write_comparison([write_run(tmp_path / "run", small)], tmp_path / "run")
    assert f"| {(EASE.mean() - 300) / 1e5:.5f} [-0.00" in (tmp_path / "run" / "table.md").read_text()


def test_a_table_has_the_digits_that_its_intervals_need(tmp_path, monkeypatch):
    """Of two runs near 1 that differ by 0.06, and in the figure the same numbers as in the table."""
    found = [[{**one, "return": one["return"] / 8e3} for one in records(level)] for level in (8_200.0, 7_700.0)]
    table = build_comparison(read_results([write_run(tmp_path / name, some) for name, some in zip("ab", found)]))
    cells = [row[4].split()[0] for row in comparison_cells(table)]
    assert cells == [f"{(level + EASE.mean()) / 8e3:.4f}" for level in (8_200.0, 7_700.0)]
    axes = []
    monkeypatch.setattr(
        comparison_figures, "write_figure", lambda stem, size, paint: axes.append(_painted(paint)) or []
    )
    comparison_figures.draw_returns(tmp_path / "returns", table, [0, 1])
    assert [text.get_text() for text in axes[0].texts] == cells


def test_large_returns_have_a_power_of_ten(tmp_path):
    found = [{**one, "return": one["return"] * 1e10} for one in records(-300.0)]
    (row,) = comparison_cells(build_comparison(read_results([write_run(tmp_path / "run", found)])))
    assert row[4].startswith(f"{(EASE.mean() - 300) / 100:.2f}e12 [-3.")


def test_equal_records_have_equal_intervals_whatever_they_are_called(tmp_path):
    paths = [write_run(tmp_path / name, records(level, spread=9.0)) for name, level in (("a", 0.0), ("b", -9.0))]
    paths.append(write_run(tmp_path / "c", [one | {"policy": "other"} for one in records(-9.0, spread=9.0)]))
    _, second, third = build_comparison(read_results(paths))["rows"]
    for key in ("ci95", "difference_ci95"):
        assert second[key] == third[key]


def test_an_interval_is_the_one_that_evaluate_prints(tmp_path):
    """Which draws in the order of the start states as they were acted from."""
    order = [*reversed(STARTS[::2]), *STARTS[1::2]]
    found = [record for seed in (0, 1) for record in records(-300.0, seed=seed, spread=30.0, starts=order)]
    for seed in (0, 1):
        write_run(tmp_path / "seeds" / f"seed-{seed}", [], seed=seed)
    write_json_lines(tmp_path / "seeds" / "evaluations.jsonl", found)
    (row,) = build_comparison(read_results([tmp_path / "seeds"]))["rows"]
    (printed,) = _summaries(found)
    assert row["ci95"] == printed["ci95"]


def test_a_sentence_says_which_differences_are_more_than_chance(runs, tmp_path):
    table = build_comparison(read_results(runs))
    low, high = table["rows"][1]["difference_ci95"]
    value = table["rows"][1]["difference"]
    said = f"other earned {value:.1f} more than seeds [{low:.1f} more, {high:.1f} more]."
    assert summary_sentence(table) == said
    near = write_run(tmp_path / "near", records(-299.0, spread=30.0))
    both = build_comparison(read_results([runs[0], near]))
    assert summary_sentence(both).endswith(" more]: not told apart by 20 start states.")
    same = write_run(tmp_path / "same", records(-250.0, spread=10.0))
    assert summary_sentence(build_comparison(read_results([runs[1], same]))) == "same earned what other earned."
    alone = summary_sentence(build_comparison(read_results([near])))
    assert alone.startswith(f"near earned {-299 + (EASE + noise_of(30.0)).mean():.1f} on average [")
    asked = [record for target in range(5) for record in records(-250.0 - 10 * (target % 2), target=float(target))]
    several = build_comparison(read_results([runs[0], write_run(tmp_path / "asked", asked)]))
    assert summary_sentence(several).startswith("Of 5 others 5 earned more than seeds and 0 less; 0 are not told apart")
    assert summary_sentence(several).endswith("is that of asked asked 0.")


def noise_of(spread):
    return np.random.default_rng(1).normal(0, 1, len(STARTS)) * spread


def test_names_that_look_alike_as_files_have_figures_of_their_own(tmp_path):
    asked = records(-700.0, target=-600.0) + records(-300.0, target=-250.0)
    paths = [write_run(tmp_path / name, asked) for name in ("a b", "a-b", "日本", "中国")]
    drawn = write_comparison(paths, tmp_path / "out")
    figures = [path for path in drawn if path.name.startswith("asked") and path.suffix == ".svg"]
    assert len(set(figures)) == 4
    page = Page((tmp_path / "out" / "report.html").read_text())
    assert len(set(page.ids)) == len(page.ids)


@pytest.mark.parametrize("name", ["a$b_{$c", "a$x$", "_hidden", "long-" * 30])
def test_any_name_of_a_folder_can_be_drawn(tmp_path, name):
    paths = [write_run(tmp_path / name, records(-300.0)), write_run(tmp_path / "other", records(-200.0))]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = write_comparison(paths, tmp_path / "out")
    assert all(path.stat().st_size for path in drawn)


def test_labels_take_two_lines_at_most_and_keep_dollars():
    (label,) = comparison_figures.in_lines(["word " * 40], [""])
    assert label.count("\n") == 1
    assert comparison_figures.in_lines(["lr$10^{-3}$"], [""]) == [r"lr\$10^{-3}\$"]


def test_labels_keep_what_tells_them_apart():
    """What was asked stands at the end of a long name; of long paths the middle may be all that differs."""
    long = comparison_figures.in_lines(["a-long-name-of-a-run" * 4] * 2, [", asked 10", ", asked 20"])
    assert [label.endswith(asked) for label, asked in zip(long, (", asked 10", ", asked 20"))] == [True, True]
    assert all(label.count("\n") == 1 for label in long)
    paths = [f"/experiments/2026/a-sweep-of-{name}/with-all-the-other-settings/final" for name in ("rates", "widths")]
    labels = comparison_figures.in_lines([*paths, "short"], [""] * 3)
    assert len(set(labels)) == 3
    assert ["rates" in labels[0], "widths" in labels[1]] == [True, True]


def test_curves_say_where_they_were_measured(tmp_path, monkeypatch):
    """A run evaluated elsewhere than where it learned."""
    run, axes = write_run(tmp_path / "run", records(-300.0), environment="Other-v1"), []
    monkeypatch.setattr(
        comparison_figures, "write_figure", lambda stem, size, paint: axes.append(_painted(paint)) or []
    )
    for environment in (ENVIRONMENT, "Other-v1"):
        comparison_figures.draw_curves(tmp_path / "learning", read_results([run]), environment)
    assert [one.lines[0].get_label().strip() for one in axes] == ["run, on Other-v1", "run"]


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"settings": "b"}, "with other settings"),
        ({"data": "d"}, "on other data of the same name"),
        ({"settings": "b", "data": "d"}, "with other settings, on other data of the same name"),
        ({"dataset": "data-of-seed-1", "data": "d"}, None),
    ],
)
def test_seeds_of_other_runs_are_warned_of(tmp_path, other, said):
    own = {"settings": "a", "data": "c"}
    found = [record | own for record in records(-300.0)]
    found += [record | own | other for record in records(-200.0, seed=1)]
    write_json_lines(tmp_path / "both.jsonl", found)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        (row,) = build_comparison(read_results([tmp_path / "both.jsonl"]))["rows"]
    assert [f"differently ({said})" in str(one.message) for one in caught] == [True] * (said is not None)
    assert row["training_seeds"] == [0, 1]


def test_records_without_settings_go_with_any(tmp_path):
    """Those that older versions wrote."""
    found = records(-300.0) + [{**record, "settings": "a"} for record in records(-200.0, seed=1)]
    write_json_lines(tmp_path / "both.jsonl", found)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build_comparison(read_results([tmp_path / "both.jsonl"]))


def test_several_algorithms_are_no_seeds_of_one_policy(tmp_path):
    found = records(-300.0) + [{**record, "algorithm": "mlp"} for record in records(-200.0, seed=1)]
    write_json_lines(tmp_path / "both.jsonl", found)
    with pytest.raises(CheckpointError, match=r"policy 'data' are of decision-transformer, mlp; .*--name"):
        build_comparison(read_results([tmp_path / "both.jsonl"]))


def test_one_episode_has_no_interval(tmp_path):
    paths = [
        write_run(tmp_path / name, records(level, starts=STARTS[:1])) for name, level in (("a", -3e2), ("b", -2e2))
    ]
    rows = comparison_cells(build_comparison(read_results(paths)))
    assert [row[4] for row in rows] == [f"{-300 + EASE[0]:.1f}", f"{-200 + EASE[0]:.1f}"]
    assert [row[5] for row in rows] == ["0", "+100.0"]


def test_returns_that_are_all_alike_have_no_interval(tmp_path):
    """Five episodes without a success are no proof that there are none: resampling them finds no spread."""
    found = [[{**one, "return": level} for one in records(0.0, starts=STARTS[:5])] for level in (0.0, 1.0)]
    paths = [write_run(tmp_path / name, some) for name, some in zip("ab", found)]
    table = build_comparison(read_results(paths))
    first, second = comparison_cells(table)
    assert (first[4], second[4], second[5]) == ("0.0 [all alike]", "1.0 [all alike]", "+1.0 [all alike]")
    assert summary_sentence(table) == "b earned 1.0 more than a, from each of 5 start states."
    assert "all alike: the same from every start state" in comparison_sentence(table)
    alone = build_comparison(read_results(paths[:1]))
    assert summary_sentence(alone) == "a earned 0.0 in each of 5 episodes."
    spread = build_comparison(read_results([write_run(tmp_path / "c", records(0.0))]))
    assert "alike" not in comparison_sentence(spread)


def test_returns_that_are_tiny_are_kept(tmp_path):
    """Nothing is rounded to 0 that is not: not of returns of 1e-10, either."""
    found = [
        [{**record, "return": record["return"] * 1e-12} for record in records(level)] for level in (-300.0, -200.0)
    ]
    paths = [write_run(tmp_path / name, some) for name, some in zip("ab", found)]
    first, second = build_comparison(read_results(paths))["rows"]
    assert first["mean_return"] == pytest.approx((-300 + EASE.mean()) * 1e-12, rel=1e-8)
    assert second["difference"] == pytest.approx(1e-10, rel=1e-8)
    assert first["ci95"][0] < first["mean_return"] < first["ci95"][1]


def test_seeds_without_records_are_named(tmp_path):
    path = write_seeds(tmp_path / "seeds", -300.0, seeds=2)
    write_run(path / "seed-2", [], seed=2)
    with pytest.warns(UserWarning, match="no records of seed-2.*foretell evaluate"):
        (row,) = build_comparison(read_results([path]))["rows"]
    assert row["training_seeds"] == [0, 1]


def test_curves_are_of_the_seeds_that_have_records(tmp_path):
    path = write_seeds(tmp_path / "b", -200.0, seeds=2)
    write_run(path / "seed-2", [], seed=2)
    with pytest.warns(UserWarning, match="the report is of the others alone"):
        (results,) = read_results([path])
    assert [events[0]["mean_return"] for events in results.events] == [-900.0, -899.0]


def test_a_file_without_records_is_refused(tmp_path):
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(CheckpointError, match="holds no evaluation records"):
        read_results([tmp_path / "empty.jsonl"])


def test_one_run_may_be_given_by_itself(tmp_path):
    run = write_run(tmp_path / "run", records(-300.0))
    assert write_comparison(str(run), tmp_path / "out") == write_comparison([run], tmp_path / "out")


def test_figures_are_of_the_shared_start_states_too(tmp_path):
    """Of a start that one target lacks there is a table, and there are figures."""
    asked = records(-700.0, target=-600.0) + records(-300.0, target=-250.0, starts=STARTS[1:])
    with pytest.warns(UserWarning, match="19 start states"):
        drawn = write_comparison([write_run(tmp_path / "run", asked)], tmp_path / "run")
    assert tmp_path / "run" / "figures" / "asked-run.png" in drawn


def test_what_is_drawn_is_what_the_table_says(tmp_path, monkeypatch):
    """Points, intervals and lines, in the order of the rows."""
    paths = [write_run(tmp_path / "a", records(-300.0)), write_seeds(tmp_path / "b", -200.0)]
    table, axes = build_comparison(read_results(paths)), []
    monkeypatch.setattr(
        comparison_figures, "write_figure", lambda stem, size, paint: axes.append(_painted(paint)) or []
    )
    comparison_figures.draw_returns(tmp_path / "returns", table, [0, 1])
    comparison_figures.draw_curves(tmp_path / "learning", read_results(paths), ENVIRONMENT)
    bars = [line.get_xdata() for line in axes[0].lines if len(line.get_xdata()) == 2 and line.get_linewidth() == 3]
    points = [line.get_xdata()[0] for line in axes[0].lines if line.get_marker() == "o"]
    assert [list(bar) for bar in bars] == [row["ci95"] for row in table["rows"]]
    assert points == [row["mean_return"] for row in table["rows"]]
    assert [label.get_text() for label in axes[0].get_yticklabels()] == ["a", "b"]
    learned = [(list(line.get_xdata()), list(line.get_ydata())) for line in axes[1].lines]
    assert learned == [([1000, 2000], [-900, -300]), ([1000, 2000], [-899, -299])]


def test_thirty_curves_are_told_apart_without_colours(tmp_path, painted):
    results = read_results([write_run(tmp_path / f"run-{n}", records(-300.0)) for n in range(30)])
    comparison_figures.draw_curves(tmp_path / "learning", results, ENVIRONMENT)
    lines = painted[0].axes[0].lines
    assert len({(line.get_marker(), line._unscaled_dash_pattern[1]) for line in lines}) == 30


def test_what_learns_by_steps_has_an_axis_of_its_own(tmp_path, painted):
    agent = write_run(tmp_path / "agent", records(-200.0), kind="sac")
    results = read_results([write_run(tmp_path / "a", records(-300.0)), agent])
    comparison_figures.draw_curves(tmp_path / "learning", results, ENVIRONMENT)
    assert [panel.get_xlabel() for panel in painted[0].axes] == ["updates", "environment steps"]
    assert [[line.get_label() for line in panel.lines] for panel in painted[0].axes] == [[" a"], [" agent"]]
    unmeasured = write_run(tmp_path / "unmeasured", records(-200.0), kind="sac", events=False)
    drawn = comparison_figures.draw_curves(
        tmp_path / "learning", read_results([tmp_path / "a", unmeasured]), ENVIRONMENT
    )
    assert [panel.get_xlabel() for panel in painted[1].axes] == ["updates"]
    assert "Without a curve, since not evaluated while learning: unmeasured." in drawn.caption


def test_a_run_has_one_colour_in_all_figures(tmp_path, painted):
    """By its place in the report, also where one before it has no curve, or several rows."""
    asked = records(-700.0, target=-600.0) + records(-300.0, target=-250.0)
    write_run(tmp_path / "a", asked, events=False)
    write_run(tmp_path / "b", records(-300.0))
    results = read_results([tmp_path / "a", tmp_path / "b"])
    rows = places(results, ENVIRONMENT)
    assert rows == [0, 0, 1]
    comparison_figures.draw_returns(tmp_path / "returns", build_comparison(results), rows)
    comparison_figures.draw_curves(tmp_path / "learning", results, ENVIRONMENT)
    points = [line.get_color() for line in painted[0].axes[0].lines if line.get_marker() == "o"]
    assert points == [color_of(0), color_of(0), color_of(1)]
    assert [line.get_color() for line in painted[1].axes[0].lines] == [color_of(1)]


@pytest.fixture
def painted(monkeypatch):
    """The figures that are drawn, kept instead of written."""
    figures = []
    monkeypatch.setattr(
        comparison_figures, "write_figure", lambda stem, size, paint: figures.append(_painted(paint).figure) or []
    )
    return figures


def _painted(paint):
    figure = Figure()
    axes = figure.add_subplot()
    paint(figure, axes)
    return axes if axes.figure is not None else figure.axes[0]
