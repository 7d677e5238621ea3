"""The benchmarks' own arithmetic: what a ratio means, in which order sides are timed, whose memory is counted."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from importlib.metadata import version

import pytest
from benchmarks.__main__ import DEFAULT, LONG, show
from benchmarks.floor import products
from benchmarks.measuring import Comparison, Row, alternate
from benchmarks.process_tree import tree, tree_memory

from benchmarks import process_tree
from foretell.models.configs import DecisionTransformerConfig


@pytest.mark.parametrize(("higher_is_better", "expected"), [(True, (2.0, 1.0, 3.0)), (False, (0.5, 1 / 3, 1.0))])
def test_a_ratio_above_one_means_that_ours_is_better(higher_is_better, expected):
    fields = Comparison(ours=[2.0, 6.0, 4.0], peer=[2.0, 2.0, 2.0], higher_is_better=higher_is_better).fields()
    assert (fields["ratio"], fields["ratio_min"], fields["ratio_max"]) == pytest.approx(expected)
    assert (fields["ours"], fields["peer"], fields["repetitions"]) == (4.0, 2.0, 3)


def test_without_a_peer_there_is_no_ratio():
    assert Comparison(ours=[1.0, 3.0], peer=[], higher_is_better=True).fields() == {"ours": 2.0, "repetitions": 2}


def test_the_two_sides_are_timed_in_turn():
    order: list[str] = []

    def side(name):
        return lambda: order.append(name) or 1.0

    alternate(side("ours"), side("peer"), 3, higher_is_better=True)
    assert order == ["ours", "peer"] * 3


def test_a_row_names_machine_versions_and_commit(capsys):
    row = json.loads(show(Row(benchmark="b", name="n", setting={"k": 1}, unit="s", ours=1.23456)))
    assert row["ours"] == 1.235
    assert row["versions"]["torch"] == version("torch")  # of a build for CUDA, less than `torch.__version__`
    assert row["machine"]["cores"] >= 1
    assert row["peer"] is None
    assert "commit" in row
    assert "1.235 s" in capsys.readouterr().out


@pytest.mark.parametrize("name", DEFAULT + LONG)
def test_every_name_is_a_benchmark(name):
    assert callable(importlib.import_module(f"benchmarks.{name}").rows)


def test_the_floor_counts_the_products_of_the_network():
    """One block of width w on n tokens, of which m are wanted: m(w·w) queries, n(w·2w) keys and values, ..."""
    config = DecisionTransformerConfig(context_length=2, width=8, layers=1, heads=2)
    found = sum(p.batch * p.rows * p.inner * p.columns for p in products(config, 3))
    wanted, tokens = 3 * 2, 3 * 6
    attention = 2 * 3 * 2 * 6 * 8  # scores and weighted values: batch, wanted, tokens, width
    assert found == wanted * 64 + tokens * 128 + wanted * 64 + 2 * wanted * 256 + attention


def test_memory_cannot_be_measured_without_proc(monkeypatch, tmp_path):
    monkeypatch.setattr(process_tree, "PROC", tmp_path / "proc")
    with pytest.raises(SystemExit, match="on Linux alone"):
        tree_memory(1)


def test_memory_of_a_tree_counts_grandchildren():
    grandchild = "import sys; block = bytearray(60_000_000); print('ready', flush=True); sys.stdin.read()"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {grandchild!r}])"
    with subprocess.Popen([sys.executable, "-c", child], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        assert len(tree(process.pid)) == 2
        resident, proportional = tree_memory(process.pid)
        process.stdin.close()
        process.wait(timeout=10)
    assert 60 < proportional <= resident < 200
