"""Rules of the house that no type and no import contract can hold."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import foretell

SOURCE = Path(foretell.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
TORCH_FREE = ("core", "datasets", "environments", "reporting")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_files_are_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300


def _calls(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_pickle_no_global_seed_and_print_in_cli_only(path):
    calls = _calls(path)
    assert not calls & {
        "torch.load",
        "torch.save",
        "np.random.seed",
        "torch.manual_seed",
        "random.seed",
        "eval",
        "exec",
    }
    if path.relative_to(SOURCE).parts[0] != "cli":
        assert "print" not in calls
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not imported & {"pickle", "dill", "joblib", "cloudpickle", "marshal", "shelve"}
    bare = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler) and node.type is None]
    assert not bare
    if path.name not in ("__init__.py", "__main__.py"):
        future = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "__future__"]
        assert future, "from __future__ import annotations"


def test_what_is_imported_is_declared():
    """What another package brings along today it may leave out tomorrow, or bring in a version that is too old."""
    with (Path(__file__).parents[2] / "pyproject.toml").open("rb") as handle:
        project = tomllib.load(handle)["project"]
    declared = [*project["dependencies"], *project["optional-dependencies"]["minari"]]
    names = {re.split(r"[^A-Za-z0-9_-]", one)[0] for one in declared} | {"foretell", "_typeshed"}
    imported = set()
    for node in (node for path in FILES for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            imported.add(str(node.module).partition(".")[0])
    called = {"PIL": "pillow"}
    assert {called.get(name, name) for name in imported} - set(sys.stdlib_module_names) <= names


def _python(program):
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert found.returncode == 0, found.stderr
    return found.stdout


def test_data_environments_and_reports_do_not_import_torch():
    modules = [
        ".".join(["foretell", *path.relative_to(SOURCE).with_suffix("").parts])
        for room in TORCH_FREE for path in (SOURCE / room).glob("*.py") if path.stem != "__init__"
    ]  # fmt: skip
    program = f"import importlib, json, sys\nfor name in {modules!r}: importlib.import_module(name)\n"
    loaded = json.loads(_python(program + "print(json.dumps('torch' in sys.modules))"))
    assert loaded is False


def test_type_checkers_are_told_to_read_the_annotations():
    assert (SOURCE / "py.typed").is_file()


def test_settings_and_the_names_of_models_do_not_import_torch():
    places = [path.relative_to(SOURCE).with_suffix("").parts for path in SOURCE.rglob("configs.py")]
    modules = [".".join(["foretell", *place]) for place in places]
    assert {"foretell.models.configs", "foretell.models.transformer.configs"} <= set(modules)
    program = f"import importlib, json, sys\nfor name in {modules!r}: importlib.import_module(name)\n"
    program += "from foretell.models.registry import MODELS\n"
    loaded, names = json.loads(_python(program + "print(json.dumps(['torch' in sys.modules, list(MODELS)]))"))
    assert loaded is False
    assert {"decision-transformer", "lstm", "mlp"} <= set(names)


@pytest.mark.parametrize(
    "arguments", [[], ["train"], ["collect"], ["inspect"], ["evaluate"], ["report"], ["reproduce"]]
)
def test_help_answers_without_torch(arguments):
    program = f"""
import contextlib, io, sys
from foretell.cli.main import main
shown = io.StringIO()
with contextlib.redirect_stdout(shown):
    try:
        main({[*arguments, "--help"]!r})
    except SystemExit as end:
        assert end.code in (0, None), end.code
assert "torch" not in sys.modules, "torch was imported"
print(shown.getvalue())
"""
    shown = _python(program)
    assert "usage" in shown.lower()
    if not arguments:
        for verb in ("collect", "inspect", "train", "evaluate", "report", "reproduce"):
            assert verb in shown


def test_the_command_itself_answers():
    environment = {**os.environ, "COLUMNS": "100"}
    found = subprocess.run(
        [sys.executable, "-m", "foretell", "--help"], capture_output=True, text=True, timeout=120, env=environment
    )
    assert found.returncode == 0, found.stderr
    assert "Foretell" in found.stdout


def test_public_names_are_there():
    for name in foretell.__all__:
        assert getattr(foretell, name) is not None
    with pytest.raises(AttributeError, match="nothing_like_it"):
        _ = foretell.nothing_like_it
