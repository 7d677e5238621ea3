"""Numbers in the pages' tables are those of the committed rows."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def rows(name):
    lines = (ROOT / f"benchmarks/results/{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return {row["name"]: row for row in map(json.loads, lines)}


def cells(page, first):
    """Return the cells of the page's table whose head begins with `first`, by their row's name."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    (table,) = re.findall(rf"^\| {re.escape(first)} \|.*\n\|.*\n((?:\|.*\n)+)", text, re.MULTILINE)
    found = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    return {name: [numbers(cell) for cell in others] for name, *others in found}


def numbers(text):
    return [float(number.replace(",", "")) for number in re.findall(r"-?\d[\d,]*(?:\.\d+)?(?!\d)", text)]


def test_imagination():
    table, measured = cells("imagination.md", "part of SAC's replay"), rows("imagination")
    assert [value for ((value, *_),) in table.values() if value] == [
        pytest.approx(measured[f"timesteps {part}, seed 0"]["ours"], abs=0.05)
        for part in ("0 to 999", "19000 to 19999", "0 to 499", "19500 to 19999", "0 to 199")
    ]
    three = [measured[f"timesteps 19000 to 19999, seed {seed}"]["ours"] for seed in range(3)]
    assert table["last 1,000 timesteps, three seeds"] == [pytest.approx(three, abs=0.05)]


def test_optimum():
    table = cells("optimum.md", "angles × velocities, torques")
    assert len(table) == len(rows("optimum"))
    for name, row in rows("optimum").items():
        shown = next(cell for grid, cell in table.items() if numbers(grid) == numbers(name))
        (earned, behind, many, memory), extra = shown, row["extra"]
        assert earned == [pytest.approx(row["ours"], abs=0.05)]
        assert behind == pytest.approx([extra["behind_the_finest"], extra["others_behind_the_finest"]], rel=0.02)
        assert many == [extra["others_more_than_1_behind"]]
        assert memory == [pytest.approx(extra["tables_gib"], rel=0.25)]


def test_error_against_horizon():
    text = (ROOT / "docs/trajectory-transformer.md").read_text(encoding="utf-8")
    for name, row in rows("rollouts").items():
        (line,) = re.findall(rf"^\| {name} \| (.*) \|$", text, re.MULTILINE)
        for shown, errors in zip(map(numbers, line.split("|")), row["extra"]["errors"].values(), strict=True):
            assert shown == pytest.approx([errors[after] for after in ("10", "50", "100")], rel=0.02)
        assert f"{row['ours'] / row['peer']:.2g} times" in text


def test_why_the_report_fell_short():
    from benchmarks.measuring import Row
    from benchmarks.shortfall import line

    text = (ROOT / "docs/why-the-report-fell-short.md").read_text(encoding="utf-8")
    table = [found for found in text.splitlines() if found.startswith("| ")][1:]
    known = {one.name for one in fields(Row)}
    assert table == [
        line(Row(**{key: value for key, value in row.items() if key in known})) for row in rows("shortfall").values()
    ]
