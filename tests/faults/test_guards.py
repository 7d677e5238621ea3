"""The table of guards fits the sources: each stands where it says, and the tests that it names are there."""

from __future__ import annotations

import ast
import subprocess

import pytest

from faults import guards
from faults.guards import GUARDS, ROOT

NAMES = {path: {node.name for node in ast.walk(ast.parse((ROOT / "tests" / path).read_text(encoding="utf-8")))
                if isinstance(node, ast.FunctionDef)} for one in GUARDS for path in {test.partition("::")[0]
                for test in one.tests}}  # fmt: skip


@pytest.mark.parametrize("one", GUARDS, ids=lambda one: one.name)
def test_a_guard_stands_where_the_table_says(one):
    source = (ROOT / "src/foretell" / one.file).read_text(encoding="utf-8")
    without = one.removed(source)
    assert ast.dump(ast.parse(without)) != ast.dump(ast.parse(source))
    assert one.tests
    for test in one.tests:
        path, _, name = test.partition("::")
        assert not name or name.partition("[")[0] in NAMES[path], test


def test_there_are_as_many_as_promised():
    assert len({one.name for one in GUARDS}) == len(GUARDS) > 60


def test_a_guard_that_nobody_misses_is_counted(monkeypatch, tmp_path):
    """Two guards, of which a test notices one: two of three cases pass, the first being the whole."""
    (tmp_path / "src/foretell").mkdir(parents=True)
    (tmp_path / "src/foretell/__init__.py").write_text("GOOD = 1\nOTHER = 2\n")

    def run_tests(folder, tests):
        good = "GOOD = 1" in (folder / "src/foretell/__init__.py").read_text()
        return subprocess.CompletedProcess([], int(not good), "", "")

    monkeypatch.setattr(guards, "copy", lambda folder: None)
    monkeypatch.setattr(guards, "run_tests", run_tests)
    table = [guards.Guard(name=word, file="__init__.py", text=f"{word} = ", instead=f"{word} = 5 + ",
                          tests=("test_it.py",)) for word in ("GOOD", "OTHER")]  # fmt: skip
    monkeypatch.setattr(guards, "GUARDS", table)
    assert guards.each_in_turn(guards.Scale(full=True, folder=tmp_path)) == (2, 3)
