"""What the docs promise of failures: each promise names its check, each check is named, and limits are the code's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from faults import memory as measured
from faults.harness import load_checks
from foretell.core import memory
from foretell.core.files import MAX_JSON_BYTES
from foretell.datasets import hdf5, hdf5_rules
from foretell.training.checkpoints import KEPT

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/reliability.md").read_text(encoding="utf-8")


def test_every_promise_has_its_check_and_every_check_its_promise():
    table = TEXT.split("## What is promised")[1].split("\n## ")[0]
    words = [word.strip('"') for cell in re.findall(r"\| ([^|]+) \|$", table, re.MULTILINE)[1:]
             for word in re.findall(r"`([^`]+)`", cell)]  # fmt: skip
    checks = list(load_checks())
    for word in words:
        assert any(check.startswith(word) for check in checks), word
    assert [check for check in checks if not check.startswith(tuple(words))] == []


@pytest.mark.parametrize(
    "said",
    [
        f"at most {measured.BOUND} MiB", f"{hdf5_rules.MAX_EXPANSION} times the file's",
        f"or {hdf5_rules.FREE_EXPANSION_BYTES >> 20} MiB if that is more",
        f"{hdf5.MAX_OBJECTS:,}, {hdf5.MAX_DEPTH}, {hdf5_rules.MAX_CHUNKS:,}", f"| {MAX_JSON_BYTES >> 20} MiB;",
        ", ".join(sorted(hdf5_rules.FILTERS.values(), key=["gzip", "lzf", "shuffle", "fletcher32"].index)),
    ],
)  # fmt: skip
def test_limits_are_the_codes(said):
    assert said in TEXT


def test_numbers_in_words_are_the_codes():
    assert memory.RESERVE == 1 / 16
    assert "leaves a sixteenth to the kernel" in TEXT
    assert KEPT == 3
    assert "the three newest stay" in TEXT


@pytest.mark.parametrize("page", ["SECURITY.md", "README.md", "docs/reliability.md"])
def test_links_of_the_front_pages_lead_somewhere(page):
    path = ROOT / page
    for target in re.findall(r"\]\(([^)#\s]+)", path.read_text(encoding="utf-8")):
        assert target.startswith("http") or (path.parent / target).exists(), target


def test_make_faults_runs_what_the_page_says():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "python -m faults --out ../results/faults.json" in makefile
    assert "results/faults.json" in TEXT
