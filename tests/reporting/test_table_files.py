"""`table.csv`, `table.tex`, and tables on a terminal."""

from __future__ import annotations

import csv
import io

import pytest

from foretell.reporting.table_files import aligned_table, csv_text, short_columns, tex_text, write_tables

HEAD = ("run", "asked", "mean return [95% interval]", "difference to a_b [95%]", "IQM")
ROWS = [
    ("a_b", "—", "-1.5 [-2.0, -1.0]", "0", "-1.5"),
    ("x & {y}, 100% $z$\\\n#~^<>[", "-5", "-2.5 [-3.0, -2.0]", "-1.0 [-1.5, +0.5]", "-2.5"),
]


def test_a_table_comes_back_from_its_file(tmp_path):
    rows = [
        {"label": 'a, "b"', "mean_return": -1.25, "ci95": [-2.0, -1.0], "report": None, "training_seeds": [0, 2]},
        {"label": "c", "mean_return": 1e-07, "ci95": [0.0, 1.0], "settings": {"model.width": 8, "values": [4, 4]}},
    ]
    paths = write_tables(tmp_path, {"rows": rows}, HEAD, ROWS, text_columns=1, caption="What it is.")
    assert [path.name for path in paths] == ["table.csv", "table.tex"]
    first, second = csv.DictReader(io.StringIO(paths[0].read_text()))
    assert first == {
        "label": 'a, "b"', "mean_return": "-1.25", "ci95_low": "-2.0", "ci95_high": "-1.0", "report": "",
        "training_seeds": "0 2", "settings.model.width": "", "settings.values": "",
    }  # fmt: skip
    assert (float(second["mean_return"]), second["settings.values"], second["report"]) == (1e-07, "4 4", "")


@pytest.mark.parametrize("name", ["=cmd|' /C calc'!A0", "+1", "@SUM(1)", "-2+3", "\t=1"])
def test_a_spreadsheet_computes_no_text_of_a_strangers_records(name):
    """Each of these ran a command, or anything else, when the file was opened."""
    [row] = csv.DictReader(io.StringIO(csv_text([{"label": name, "settings": {"values": [name]}, "iqm": -1.5}])))
    assert row == {"label": f"'{name}", "settings.values": f"'{name}", "iqm": "-1.5"}


def test_lists_of_numbers_and_dashes_inside_stay_as_they_are():
    [row] = csv.DictReader(io.StringIO(csv_text([{"label": "a-b = c", "values": [-0.5, 3], "x": "-1"}])))
    assert row == {"label": "a-b = c", "values": "-0.5 3", "x": "-1"}


def test_what_would_steer_a_terminal_is_spelled_out(tmp_path):
    name = "a\x1b[2J\u202eb"
    paths = write_tables(
        tmp_path, {"rows": [{"label": name}]}, ("run", "n"), [(name, "1")], text_columns=1, caption=name
    )
    table, tex = (path.read_text() for path in paths)
    assert table == "label\na\\x1b[2J\\u202eb\n"
    assert r"a\textbackslash{}x1b{[}2J\textbackslash{}u202eb & 1" in tex
    assert (table + tex).replace("\n", "").isprintable()


def test_a_table_for_tex_has_minus_signs_and_names_as_they_are():
    lines = tex_text(HEAD, ROWS, text_columns=1, caption="What\nit is.").splitlines()
    assert lines[0] == "% What it is."
    assert lines[2] == r"\begin{tabular}{lrrrr}"
    assert lines[4].startswith(r"run & asked & mean return {[}95\% interval{]} & difference to a\_b {[}95\%{]} & IQM")
    assert lines[6] == r"a\_b & --- & $-$1.5 {[}$-$2.0, $-$1.0{]} & 0 & $-$1.5 \\"
    name = r"x \& \{y\}, 100\% \$z\$\textbackslash{} \#\textasciitilde{}\textasciicircum{}\textless{}\textgreater{}{[}"
    assert lines[7].startswith(name + " & $-$5 & ")
    assert lines[-2:] == [r"\bottomrule", r"\end{tabular}"]


@pytest.mark.parametrize("width", [45, 60, 80, 200])
def test_a_table_fits_the_terminal(width):
    names = [("n" * 50 + str(n), *row[1:]) for n, row in enumerate(ROWS)]
    head, rows = short_columns(HEAD, names)
    assert head == ["run", "asked", "mean [95%]", "difference [95%]"]
    lines = aligned_table(head, rows, width=width, text_columns=1).splitlines()
    assert max(map(len, lines)) <= width
    assert len({len(line) for line in lines}) == 1
    assert [line.split()[0][-1] for line in lines[1:]] == ["0", "1"]
    assert ("difference" in lines[0]) == (width >= 80)


def test_a_name_that_begins_with_a_star_is_no_argument_of_the_row_before():
    lines = tex_text(HEAD, [("*c", *ROWS[0][1:])], text_columns=1, caption="").splitlines()
    assert lines[6].startswith("{*}c & ")


def test_what_nobody_was_asked_is_no_column():
    head, rows = short_columns(HEAD, [ROWS[0]])
    assert head == ["run", "mean [95%]", "difference [95%]"]
    assert rows == [["a_b", "-1.5 [-2.0, -1.0]", "0"]]
