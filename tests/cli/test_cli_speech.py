"""What each verb says: one JSON object for machines, a few lines for people, help with defaults and examples."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import threading
from importlib.metadata import version

import pytest
from cli_helpers import SMALL, parse

from foretell import __version__
from foretell.cli import main as command_line
from foretell.cli.collect import Collect
from foretell.cli.evaluate import Evaluate, _summaries
from foretell.cli.inspect import Inspect
from foretell.cli.progress import Meter, _bar
from foretell.cli.report import Report
from foretell.cli.reproduce import Reproduce
from foretell.cli.train import Train

VERBS = {
    "collect": Collect, "inspect": Inspect, "train": Train, "evaluate": Evaluate, "report": Report,
    "reproduce": Reproduce,
}  # fmt: skip
ANSWERS = {
    "collect": {"path", "steps", "episodes", "mean_return", "fingerprint"},
    "train": {"run", "last", "environment"},
    "evaluate": {"policy", "records", "evaluations"},
}


@pytest.fixture
def commands(data, run_copy):
    return {
        "collect": ("collect", "random", "--steps", 200, "--out", "new.hdf5"),
        "inspect": ("inspect", data),
        "train": ("train", data, "--out", "new", *SMALL),
        "evaluate": ("evaluate", run_copy, "--episodes", 2),
    }


@pytest.mark.parametrize("verb", ["collect", "inspect", "train", "evaluate"])
def test_json_is_one_object_and_nothing_else(foretell, commands, verb):
    answer = foretell(*commands[verb], "--json")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.count("\n") == 1
    found = json.loads(answer.out)
    if verb in ANSWERS:
        assert found.keys() == ANSWERS[verb]
    else:
        assert {"steps", "episodes", "returns", "warnings", "normalized_score", "behaviour_policy"} <= found.keys()


@pytest.mark.parametrize("verb", ["collect", "train", "evaluate"])
def test_people_are_told_where_it_is_and_how_it_went(foretell, commands, verb):
    answer = foretell(*commands[verb])
    assert answer.code == 0
    names = {"collect": "new.hdf5", "train": "foretell evaluate new", "evaluate": "evaluations.jsonl"}
    assert names[verb] in answer.out


@pytest.mark.parametrize(("returns", "said"), [
    ([0.0, 0.0], "earned 0.0 in every episode (2 episodes): no interval can be told from returns that are all alike"),
    ([0.0], "earned 0.0 in one episode"), ([0.0, 2.0], "earned 1.0 on average, 95% interval 0.0 to 2.0 (2 episodes)"),
])  # fmt: skip
def test_returns_that_are_all_alike_have_no_interval(returns, said):
    records = [{"target": None, "seed": 0, "return": one} for one in returns]
    shown = Evaluate(policy="run").show({"records": "records.jsonl", "evaluations": _summaries(records)})
    assert shown.splitlines()[0] == said


def test_a_warning_of_a_library_comes_without_its_colours(foretell):
    answer = foretell("collect", "random", "--environment", "CartPole-v0", "--steps", 20, "--out", "old.hdf5")
    assert answer.code == 0
    assert "foretell: warning: The environment CartPole-v0 is out of date." in answer.err
    assert "\x1b" not in answer.err
    seeds = foretell("train", "old.hdf5", "--out", "several", "--seeds", "0..1", *SMALL)  # by workers
    assert "foretell: warning: The environment CartPole-v0 is out of date." in seeds.err


def test_the_card_for_people(foretell, data):
    out = foretell("inspect", data).out
    for words in (
        "2,000 timesteps in 10 episodes of 200 timesteps",
        "Pendulum-v1",
        "random",
        "normalised score",
        "shape (1,) float32: -",
        "█",
    ):
        assert words in out, words


@pytest.mark.parametrize("verb", VERBS)
def test_help_has_defaults_and_examples(foretell, verb):
    answer = foretell(verb, "--help")
    assert (answer.code, answer.err) == (0, "")
    assert "(default: " in answer.out
    assert f"  foretell {verb}" in answer.out
    assert len(_examples(verb)) >= 1


def test_the_version_comes_with_those_of_what_it_needs(foretell):
    answer = foretell("--version")
    assert answer.code == 0
    lines = answer.out.splitlines()
    assert lines[0] == f"foretell {__version__}"
    assert [line.split()[0] for line in lines[1:]] == ["python", "numpy", "gymnasium", "torch", "h5py", "safetensors"]
    assert f"torch {version('torch')}" in lines


@pytest.mark.parametrize("verb", VERBS)
def test_examples_in_the_help_are_accepted_by_the_parser(verb):
    for example in _examples(verb):
        assert isinstance(parse(example.split()[1:]), VERBS[verb]), example


def _examples(verb):
    lines = [line.strip() for line in VERBS[verb].__doc__.splitlines()]
    return [line for line in lines if line.startswith("foretell ")]


def _processor_seconds(code):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_help_loads_no_number_library_and_answers_soon():
    """A few times what importing Tyro takes, in the same minute: half a second where that takes 70 ms."""
    code = "import sys\nfrom foretell.cli.main import main\ntry: main(['train', '--help'])\nexcept SystemExit: pass\n"
    code += "assert not {'torch', 'numpy', 'h5py', 'gymnasium'} & sys.modules.keys()"
    pairs = [(_processor_seconds(code), _processor_seconds("import tyro")) for _ in range(3)]
    ours, tyro = (min(each) for each in zip(*pairs, strict=True))
    assert ours < 7 * tyro, (ours, tyro)


def test_the_module_and_a_wrong_verb_from_the_shell(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "foretell", "inspect", "none.hdf5"], cwd=tmp_path, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("foretell: none.hdf5: no such file")
    assert done.stderr.count("\n") == 1


def test_a_line_of_progress(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("foretell.cli.progress.time.monotonic", lambda: now[0])
    meter = Meter("train dt")
    meter.update(10, 100, {"loss": 0.5})
    assert meter.line() == "train dt: 10/100 (10%), 0/s, starting, loss 0.5"
    now[0] = 104.0
    meter.update(30, 100, {"loss": 0.25, "mean_return": -150.0})
    assert meter.line() == "train dt: 30/100 (30%), 5/s, 14 s left, loss 0.25, mean return -150"
    meter.update(100, 100, {})
    assert "done" in meter.line()


def test_a_bar_calls_a_folder_by_its_name(capsys):
    """Rich would take brackets for a colour, and leave it to the terminal what else is in it."""
    with _bar("train a[red]\x1b[2Jb") as progress:
        progress(1, 1)
    assert "train a[red]\\x1b[2Jb" in capsys.readouterr().err


def test_work_that_was_done_in_one_piece_has_no_rate():
    meter = Meter("collect random")
    meter.update(200, 200, {})
    assert meter.line() == "collect random: 200/200 (100%), done"


def test_finished_work_is_not_starting(foretell):
    answer = foretell("collect", "random", "--steps", 200, "--out", "new.hdf5")
    assert answer.err.splitlines()[-1].startswith("collect random: 200/200 (100%)")
    assert "starting" not in answer.err


@pytest.mark.parametrize(("error", "shown"), [(OSError("disk full"), False), (ValueError("a fault of ours"), True)])
def test_what_a_thread_could_not_write_is_said_where_it_is_noticed(error, shown, capfd):
    """TensorBoard's thread keeps its error for whoever writes next: a trace beside our sentence would be the second."""
    thread = threading.current_thread()
    command_line._show_thread_error(threading.ExceptHookArgs((type(error), error, None, thread)))
    assert ("a fault of ours" in capfd.readouterr().err) == shown


def test_the_command_looks_at_young_objects_less_often_than_a_library_may_and_at_its_end_at_none(foretell, data):
    shown = "print(gc.get_threshold()[0], gc.get_freeze_count() > 0)"
    code = f"import gc, atexit; atexit.register(lambda: {shown}); from foretell.cli.main import {{}}"
    usual = subprocess.run([sys.executable, "-c", f"import gc; {shown}"], capture_output=True, text=True, check=True)
    for name, expected in (("entry; entry()", f"{command_line.YOUNG} True"), ("main; main()", usual.stdout.strip())):
        done = subprocess.run(
            [sys.executable, "-c", code.format(name), "inspect", str(data)], capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert done.stdout.splitlines()[-1] == expected


def test_what_to_do_next_can_be_pasted(foretell, data):
    for words in (
        ("collect", "random", "--steps", 200, "--out", "a file.hdf5"),
        ("train", data, "--out", "a run", *SMALL),
    ):
        said = foretell(*words).out.strip()
        assert said.endswith(f"'{words[words.index('--out') + 1]}'"), said


def test_a_notebooks_backend_of_figures_need_not_be_here():
    """Its kernel sets it for whatever its cells start, which may be another environment's."""
    code = "import sys; from foretell.cli.main import entry; sys.argv = ['foretell', '--version']; import atexit; " \
           "atexit.register(lambda: __import__('matplotlib')); entry()"  # fmt: skip
    environment = os.environ | {"MPLBACKEND": "module://nowhere.inline"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    kept = os.environ | {"MPLBACKEND": "svg"}
    code = code.replace("__import__('matplotlib')", "print(__import__('matplotlib').rcParams['backend'])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=kept)
    assert done.stdout.endswith("svg\n")
