"""The README holds: its example is short and runs, its table is the committed one."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_example_is_at_most_ten_lines_and_runs(tmp_path, monkeypatch):
    (example,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len([line for line in example.splitlines() if line.strip()]) <= 10
    smaller = example.replace("100_000", "2_000").replace("updates=200", "updates=2")
    assert smaller != example
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(smaller, names)
    assert (tmp_path / "runs/dt/model.safetensors").exists()
    assert np.isfinite(names["observation"]).all()


def test_the_table_is_the_committed_one():
    table = (ROOT / "docs/results/table.md").read_text(encoding="utf-8").strip()
    for page in ("README.md", "docs/experiments.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        between = text.split("<!-- results:begin", 1)[1].split("\n", 1)[1].split("<!-- results:end -->")[0]
        assert between.strip() == table, page


def test_the_league_is_the_committed_one():
    text = (ROOT / "docs/experiments.md").read_text(encoding="utf-8")
    between = text.split("<!-- league:begin", 1)[1].split("\n", 1)[1].split("<!-- league:end -->")[0]
    assert between.strip() == (ROOT / "docs/results/league.md").read_text(encoding="utf-8").strip()
