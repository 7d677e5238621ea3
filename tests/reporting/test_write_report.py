from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys

import matplotlib
import pytest
from page_helpers import Page

from foretell.core.errors import CheckpointError
from foretell.reporting import asked, experiment, figures
from foretell.reporting.experiment import write_report


@pytest.fixture(scope="module")
def written(tmp_path_factory, write_experiment):
    folder = write_experiment(tmp_path_factory.mktemp("report") / "experiment")
    return folder, write_report(folder)


def test_everything_is_written(written):
    folder, paths = written
    figures = ["headline", "figure-6-sac", "figure-5-pendulum-random", "asked-pendulum-medium"]
    expected = ["table.json", "table.md", "table.csv", "table.tex", "report.html"] + [
        f"figures/{name}.{suffix}" for name in figures for suffix in ("svg", "png")
    ]
    assert {folder / name for name in expected} <= set(paths)
    assert len(paths) == 5 + 2 * (1 + 5 + 4)
    assert all(path.stat().st_size > 0 for path in paths)
    table = json.loads((folder / "table.json").read_text())
    assert [row["name"] for row in table["rows"]][:3] == ["random", "sac", "pendulum-random"]
    assert not list(folder.rglob(".*"))  # no temporary file stays


def test_a_rerun_gives_the_same_bytes_whatever_the_users_matplotlib_settings(written):
    folder, paths = written
    before = {path: path.read_bytes() for path in paths}
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "black", "savefig.transparent": True}):
        write_report(folder)
        assert matplotlib.rcParams["font.size"] == 30
    assert {path: path.read_bytes() for path in paths} == before
    assert b"<dc:date>" not in b"".join(before.values())


def test_page_is_well_formed_and_refers_to_nothing_outside(written):
    folder, _ = written
    text = (folder / "report.html").read_text()
    page = Page(text)
    assert len(page.references) == 10
    assert all(reference.startswith("data:image/svg+xml;base64,") for reference in page.references)
    assert "script" not in page.tags
    assert "url(" not in text
    assert "@import" not in text
    assert "http://" not in text
    assert "https://" not in text
    assert len(set(page.ids)) == len(page.ids) == 10
    assert 'name="viewport"' in text
    assert "prefers-color-scheme: dark" in text


def test_page_says_what_was_run_and_escapes_it(written):
    folder, _ = written
    page = Page((folder / "report.html").read_text())
    assert "Decision Transformer on Pendulum <2021, revisited>" in page.text
    assert "foretell train && echo <done>" in page.text
    assert "done" not in page.tags
    for fact in ("6 min 52 s", "torch 2.9.0", "2 CPU cores, x86_64", "-607.84", '"steps": 200000', "2 × 12"):
        assert fact in page.text
    assert "smoke run" not in page.text


def test_a_page_can_be_read_without_seeing_it_and_printed(written):
    folder, _ = written
    text = (folder / "report.html").read_text()
    page = Page(text)
    assert {"main", "caption"} <= {*page.tags}
    assert 'role="alert"' not in text
    heads = page.row_heads[:6]
    assert len(set(heads)) == 6
    assert "Decision Transformer, pendulum-medium" in heads
    headline, sac = page.alternatives[0], page.alternatives[1]
    assert "pendulum-full-replay −15" in headline
    assert "random −1,3" in headline
    assert re.search(r"training episodes went from −1,\S+ to −1\d\d\.\d in 20,000 environment steps", sac)
    assert any("whatever it was asked for" in one or "asked for −1,600" in one for one in page.alternatives)
    printed = text[text.index("@media print") :]
    assert ".scroll, .wide .image { overflow: visible; }" in printed
    assert "details::details-content { content-visibility: visible" in printed


def test_a_page_says_how_it_was_made(tmp_path, write_experiment):
    folder = write_experiment(tmp_path / "quick", seeds=2, starts=3, targets=2, quick=True)
    content = json.loads((folder / "experiment.json").read_text())
    content["protocol"]["root_seed"] = 7
    commands = [
        "foretell collect x --out 'a \"b'",
        "unclosed '",
        "foretell train --out 'my runs/e/runs/sac/seed-0' --seed 0",
    ]
    (folder / "experiment.json").write_text(json.dumps(content | {"commands": commands}))
    write_report(folder)
    page = Page((folder / "report.html").read_text())
    command = "foretell reproduce --preset pendulum --seeds 2 --quick --root-seed 7 --out 'my runs/e'"
    for said in (command, "measured here, is 100", "deterministic", "last", "foretell 0.1.0"):
        assert said in page.text


def test_a_smoke_run_is_marked_everywhere(tmp_path, write_experiment, monkeypatch):
    titles = []
    set_title = figures.set_title
    for module in (figures, asked):
        monkeypatch.setattr(
            module,
            "set_title",
            lambda figure, title, width: titles.append(title) or set_title(figure, title, width=width),
        )
    folder = write_experiment(tmp_path / "quick", seeds=1, starts=3, targets=2, quick=True)
    write_report(folder)
    assert len(titles) == 10
    assert all(title.startswith("SMOKE RUN, numbers mean nothing: ") for title in titles)
    assert 'class="banner"' in (folder / "report.html").read_text()
    assert (folder / "table.md").read_text().startswith("**This is a smoke run")
    assert json.loads((folder / "table.json").read_text())["protocol"]["quick"] is True


def test_figures_without_inputs_are_left_out_and_the_page_says_so(tmp_path, write_experiment):
    folder = write_experiment(tmp_path / "partial", seeds=1, starts=3, targets=2)
    (folder / "asked.jsonl").unlink()
    shutil.rmtree(folder / "cards")
    (folder / "runs/sac/seed-0/events.jsonl").unlink()
    paths = write_report(folder)
    assert len(paths) == 5 + 2 * (1 + 4)
    page = Page((folder / "report.html").read_text())
    assert "Left out: figure-6-sac: runs/sac/seed-0/events.jsonl is not there" in page.text
    assert page.text.count("asked.jsonl has no records of this policy") == 4
    assert "No dataset cards were found" in page.text


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("experiment.json", None, r"experiment\.json: no such file; .* Make it with `foretell reproduce`"),
        ("evaluations.jsonl", None, r"evaluations\.jsonl: no such file; .* Make it with `foretell evaluate`"),
        ("experiment.json", "{", r"experiment\.json: not readable as JSON"),
        ("experiment.json", "{}", r"experiment\.json: lacks 'title'"),
        ("experiment.json", "[]", r"experiment\.json: holds a list; expected an object"),
        ("evaluations.jsonl", "{}\n", r"evaluations\.jsonl: record 1: lacks 'policy'"),
        ("evaluations.jsonl", "nonsense\n{}\n", r"evaluations\.jsonl: line 1 is not JSON"),
        ("asked.jsonl", "[1]\n", r"asked\.jsonl: record 1: holds a list; expected an object"),
        ("runs/sac/seed-0/events.jsonl", '{"event": "episode"}\n', r"event 1: lacks 'step'"),
        ("cards/pendulum-medium.json", "3", r"pendulum-medium\.json: holds 3; expected an object"),
    ],
)
def test_damaged_inputs_are_named_and_nothing_is_written(experiment_folder, name, content, message):
    if content is None:
        (experiment_folder / name).unlink()
    else:
        (experiment_folder / name).write_text(content)
    with pytest.raises(CheckpointError, match=message):
        write_report(experiment_folder)
    assert not (experiment_folder / "report.html").exists()
    assert not (experiment_folder / "figures").exists()


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ({}, "validation_levels lacks 'random'"),
        ({"random": None, "sac": -1.0}, r"validation_levels\.random is None; expected a finite number"),
        ({"random": -2.0}, "validation_levels lacks 'sac'"),
    ],
)
def test_levels_that_curves_cannot_be_drawn_with_are_named(experiment_folder, levels, message):
    content = json.loads((experiment_folder / "experiment.json").read_text())
    (experiment_folder / "experiment.json").write_text(json.dumps(content | {"validation_levels": levels}))
    with pytest.raises(CheckpointError, match=message):
        write_report(experiment_folder)
    assert not (experiment_folder / "figures").exists()


def test_a_figure_cannot_be_written_outside_its_folder(experiment_folder):
    path = experiment_folder / "experiment.json"
    experiment = json.loads(path.read_text())
    experiment["curves"][0]["figure"] = "../../escaped"
    path.write_text(json.dumps(experiment))
    with pytest.raises(CheckpointError, match="names a file"):
        write_report(experiment_folder)


def test_reporting_needs_no_torch():
    program = "import sys, foretell.reporting.experiment; sys.exit('torch' in sys.modules or 'h5py' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_the_reports_value_is_drawn_for_the_row_that_has_it(tmp_path, write_experiment, monkeypatch):
    """Of two methods on one dataset the report knows one."""
    folder = write_experiment(tmp_path / "experiment")
    content = json.loads((folder / "experiment.json").read_text())
    plain = next(curve for curve in content["curves"] if curve["dataset"] is not None)
    content["curves"] = [plain, {**plain, "policy": "another-method", "figure": "learning-another-method"}]
    (folder / "experiment.json").write_text(json.dumps(content))
    drawn = {}
    draw = experiment.draw_learning_curve
    monkeypatch.setattr(
        experiment,
        "draw_learning_curve",
        lambda stem, *args, **more: drawn.update({stem.name: more}) or draw(stem, *args, **more),
    )
    write_report(folder)
    row = next(row for row in content["rows"] if row["name"] == plain["dataset"])
    assert row["report"] is not None
    assert [more["report"] for more in drawn.values()] == [row["report"], None]
