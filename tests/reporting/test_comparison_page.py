"""The page of runs beside each other."""

from __future__ import annotations

import pytest
from page_helpers import Page
from test_comparison import STARTS, records, write_run

from foretell.core.files import write_json_lines
from foretell.reporting.comparison_report import write_comparison


def page_of(paths, out, *more) -> Page:
    write_comparison(paths, out, *more)
    return Page((out / "report.html").read_text())


def test_a_page_begins_with_what_the_table_says(tmp_path):
    page = page_of([write_run(tmp_path / "a", records(-300.0)), write_run(tmp_path / "b", records(-250.0))], tmp_path)
    assert "b earned 50.0 more than a, from each of 20 start states." in page.text


def test_rows_of_one_name_are_headed_by_what_was_asked(tmp_path):
    asked = records(-250.0) + records(-700.0, target=-600.0) + records(-300.0, target=-200.0)
    page = page_of(
        [write_run(tmp_path / "dt", asked), write_run(tmp_path / "one", records(-1.0, target=5.0))], tmp_path
    )
    assert page.row_heads[:4] == ["dt", "dt, asked -600", "dt, asked -200", "one"]


def test_start_states_that_were_left_out_are_said_on_the_page(tmp_path):
    few = write_run(tmp_path / "few", records(-300.0, starts=STARTS[:1]))
    with pytest.warns(UserWarning, match="1 start state that"):
        page = page_of([few, write_run(tmp_path / "all", records(-200.0))], tmp_path)
    assert "Only 1 start state that all rows have are compared: 19 of up to 20 are left out." in page.text


def test_figures_say_what_they_show(tmp_path):
    asked = records(-299.0, target=-600.0) + records(-300.0, target=-200.0)
    page = page_of([write_run(tmp_path / "dt", asked)], tmp_path / "out")
    returns, learning, achieved = page.alternatives
    assert "dt asked -600 −31" in returns
    assert learning.endswith("Returns: dt from −900.0 at update 1,000 to −300.0 at update 2,000.")
    assert achieved.endswith("whatever it was asked for (−600 to −200).")


def test_a_page_says_how_it_was_made(tmp_path):
    write_json_lines(
        tmp_path / "random.jsonl", [r | {"algorithm": "random"} for r in records(-1200.0, policy="random")]
    )
    paths = [write_run(tmp_path / "my run", records(-300.0)), tmp_path / "random.jsonl"]
    page = page_of(paths, tmp_path / "out", "Pendulum-v1", (-1300.0, -100.0))
    command = (
        f"foretell report '{tmp_path}/my run' {tmp_path}/random.jsonl --out {tmp_path}/out --environment Pendulum-v1 "
        "--references -1300.0 -100.0"
    )
    acting = "run folders: deterministic acting, last checkpoint; the random policy: random acting"
    for said in (
        command,
        acting,
        "random -1300 is 0, expert -100 is 100; given by --references",
        "evaluation records only",
    ):
        assert said in page.text
    alone = page_of([tmp_path / "my run"], tmp_path / "my run")
    assert f"foretell report '{tmp_path}/my run'acting" in alone.text.replace("\n", "").replace("Foretell0.1.0", "")
    assert "20,000 uniform random episodes" in alone.text
