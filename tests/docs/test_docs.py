"""What the docs say of the code is true: names, flags, tests, keys, links."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from foretell.agents.configs import SACConfig
from foretell.core import errors
from foretell.core.files import write_json_lines
from foretell.evaluation.configs import ChunkingConfig, PlanningConfig
from foretell.models.configs import (
    DecisionTransformerConfig,
    EncoderDecoderConfig,
    LSTMConfig,
    MLPConfig,
    TrajectoryTransformerConfig,
)
from foretell.sequences.batch import SequenceBatch
from foretell.training.configs import TrainingConfig

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))
PAGES = [page for page in PAGES if ".tmp." not in page.name] + [ROOT / "CHANGELOG.md"]


def read(name):
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def anchors(text):
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]*(?:#[^)\s]*)?)\)", page.read_text(encoding="utf-8")):
        if target.startswith("http"):
            continue
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file.read_text(encoding="utf-8")), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tables_are_whole(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for block in re.findall(r"(?:^\|.*\|$\n?)+", text, re.MULTILINE):
        rows = [re.sub(r"`[^`]*`", "", line) for line in block.strip().splitlines()]
        assert len({row.count("|") - row.count("\\|") for row in rows}) == 1, block


def test_benchmarks_that_miss_a_bound_are_named():
    told = read("performance.md").split("The committed rows miss these bounds:")[1].split("\n\n")[1]
    named = set(re.findall(r"^- `(\w+)`", told, re.MULTILINE))
    missed = {
        row["benchmark"]
        for path in (ROOT / "benchmarks/results").glob("*.jsonl")
        for row in map(json.loads, path.read_text(encoding="utf-8").splitlines())
        if row["holds"] is False
    }
    assert named == missed


def test_every_benchmark_is_described():
    from benchmarks.__main__ import DEFAULT, LONG

    measured = read("performance.md").split("## What each measures")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", measured, re.MULTILINE)) == {*DEFAULT, *LONG}


def test_every_named_pitfall_test_exists_and_every_row_is_named():
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests/conformance").glob("*.py"))
    named = re.findall(r"`(test_\w+)`", read("pitfalls.md"))
    existing = set(re.findall(r"^def (test_\w+)\(", sources, re.MULTILINE))
    assert set(named) <= existing
    rows = {name[:11] for name in existing if name.startswith("test_row_")}
    assert rows == {name[:11] for name in named if name.startswith("test_row_")}
    for row in rows:
        assert any(name.startswith(row) and "notices" in name for name in existing), row


def test_the_layers_are_those_of_the_import_contract():
    with (ROOT / "pyproject.toml").open("rb") as handle:
        contracts = tomllib.load(handle)["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    assert "\n".join(layers) in read("architecture.md")


def test_every_room_is_in_the_picture():
    rooms = {path.name for path in (ROOT / "src/foretell").iterdir() if (path / "__init__.py").exists()}
    for room in rooms:
        assert f"\n  {room}/" in read("architecture.md"), room


@pytest.mark.parametrize(
    ("page", "section", "settings"),
    [
        ("decision-transformer.md", "Settings", DecisionTransformerConfig),
        ("decision-transformer.md", "Settings", TrainingConfig),
        ("soft-actor-critic.md", "Settings", SACConfig),
        ("baselines.md", "LSTM", LSTMConfig),
        ("baselines.md", "MLP", MLPConfig),
        ("trajectory-transformer.md", "Settings", TrajectoryTransformerConfig),
        ("trajectory-transformer.md", "Planning", PlanningConfig),
        ("encoder-decoder.md", "Settings", EncoderDecoderConfig),
        ("encoder-decoder.md", "Settings", ChunkingConfig),
    ],
)
def test_defaults_in_the_tables_are_the_codes(page, section, settings):
    text, defaults = read(page).split(f"\n## {section}\n")[1].split("\n## ")[0], settings()
    found = 0
    for names, values in re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| ([^|]+) \|", text, re.MULTILINE):
        ours = [name for name in re.findall(r"\w+", names) if hasattr(defaults, name)]
        shown = re.sub(r"(?<=\d),(?=\d{3}\b)", "", values.replace("`", "")).split(", ")
        expected = [value for name in ours for value in _shown(getattr(defaults, name))]
        if ours:
            assert shown == expected, (names, values)
            found += len(ours)
    assert found >= min(6, len(fields(settings)))


def _shown(value):
    return [str(item) for item in value] if isinstance(value, tuple) else [str(value)]


@pytest.mark.parametrize(
    ("page", "acting", "last", "name"),
    [
        ("trajectory-transformer.md", {"horizon": 2, "beam_width": 8}, "further", "further ahead"),
        ("encoder-decoder.md", {"actions_taken": 2}, "every_timestep", "one of four"),
    ],
)
def test_the_example_runs_and_acts_as_it_says(page, acting, last, name, tmp_path):
    (example,) = re.findall(r"^```python\n(.*?)^```$", read(page), re.DOTALL | re.MULTILINE)
    example = example.replace("updates=20", "updates=2").replace("2_000", "400")
    shown = f"import json\nprint(json.dumps([str(run), {last}]))\n"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", example + shown], cwd=tmp_path, env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    run, records = json.loads(done.stdout)
    kept = json.loads((tmp_path / run / "config.json").read_text(encoding="utf-8"))["acting"]
    assert {key: kept[key] for key in acting} == acting
    assert [record["policy"] for record in records] == [name, name]
    assert all(record["length"] == 200 and -2000 < record["return"] < 0 for record in records)


def test_the_glossary_has_every_part_of_a_batch():
    for field in fields(SequenceBatch):
        assert f"`{field.name}`" in read("glossary.md") or f"`SequenceBatch.{field.name}`" in read("glossary.md")


def test_exit_codes_are_the_codes():
    kinds = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.ForetellError)
    ]
    shown = dict(re.findall(r"^\| (\d+) \|.*\| `(\w+)` \|$", read("command-line.md"), re.MULTILINE))
    assert {kind.__name__: str(kind.exit_code) for kind in kinds} == {name: code for code, name in shown.items()}


def test_the_keys_of_a_run_s_cards_are_the_docs(pendulum_run, tmp_path):
    from foretell.facade.attention import draw_run_attention
    from foretell.facade.evaluation import evaluate
    from foretell.facade.run_card import run_card

    run = shutil.copytree(pendulum_run, tmp_path / "run")
    write_json_lines(run / "evaluations.jsonl", evaluate(run, episodes=1))
    cards = {"`inspect` of a run": run_card(run), "`inspect --attention`": draw_run_attention(run)}
    for row, card in cards.items():
        (shown,) = re.findall(rf"^\| {re.escape(row)} \| (.*) \|$", read("command-line.md"), re.MULTILINE)
        outer = re.sub(r"\([^)]*\)", "", shown)
        assert re.findall(r"`(\w+)`", outer) == list(card), row
        for key in {"evaluations", "maps", "episode"} & card.keys():
            within = card[key][0] if isinstance(card[key], list) else card[key]
            (named,) = re.findall(rf"`{key}` \(([^)]*)\)", shown)
            assert set(re.findall(r"`(\w+)`", named)) == set(within), key


def test_what_is_logged_is_described(pendulum_run, tmp_path):
    from foretell import facade
    from foretell.training.run_folder import read_events

    settings = {
        "total_steps": 520,
        "learning_starts": 400,
        "hidden_sizes": (4,),
        "batch_size": 4,
        "evaluate_every": 500,
    }
    runs = {"decision-transformer.md": [pendulum_run], "soft-actor-critic.md": []}
    for form in ("value", "twin-q"):
        config = SACConfig(form=form, **settings)
        runs["soft-actor-critic.md"].append(facade.train_sac("Pendulum-v1", tmp_path / form, config=config))
    for page, folders in runs.items():
        logged = read(page).split("## What is logged")[1].split("\n## ")[0]
        for folder in folders:
            for event in read_events(folder):
                assert f"`{event.pop('event')}`" in logged
                for key in event:
                    assert f"`{key}`" in logged, key


def test_the_file_format_is_the_files(pendulum_random):
    import h5py

    with h5py.File(pendulum_random.path) as file:
        names = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    for name in names:
        assert f"`{name}`" in read("datasets.md"), name


def test_every_check_of_the_doctor_is_described():
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src/foretell/datasets").glob("*.py"))
    checks = set(re.findall(r'(?:error|warning|make|Finding)\((?:severity="\w+", check=)?"(\w+)"', sources)) | {
        "reading"
    }
    text = read("datasets.md").split("## The card")[1]
    assert set(re.findall(r"^\| `(\w+)` \| (?:error|warning)", text, re.MULTILINE)) == checks


def test_every_verb_flag_in_the_docs_is_a_flag(capsys):
    import tyro

    from foretell.cli import main

    known = {"--help", "--version"}
    for verb in ("collect", "inspect", "train", "evaluate", "report", "reproduce"):
        with pytest.raises(SystemExit):
            tyro.cli(main.Verb, prog="foretell", args=[verb, "--help"])
        known |= set(re.findall(r"--[\w.-]+", capsys.readouterr().out))
    known |= {"--standalone", "--nproc_per_node", "--logdir"}  # torchrun's, TensorBoard's
    for script in (ROOT / "benchmarks").glob("*.py"):
        known |= set(re.findall(r'add_argument\(\s*"(--[\w-]+)"', script.read_text(encoding="utf-8")))
    for page in PAGES:
        lines = [line for line in page.read_text(encoding="utf-8").splitlines() if "pip" not in line]
        for flag in re.findall(r"(?<![\w-])--[a-z][\w.-]*\w", "\n".join(lines)):
            assert flag in known, (page.name, flag)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_name_of_the_package_in_the_docs_is_there(page):
    for name in re.findall(r"`(foretell(?:\.[A-Za-z_]\w*)+)", page.read_text(encoding="utf-8")):
        found, path = importlib.import_module("foretell"), name.split(".")[1:]
        for place, part in enumerate(path):
            if not hasattr(found, part):
                assert importlib.util.find_spec(".".join(["foretell", *path[: place + 1]])), (page.name, name)
                importlib.import_module(".".join(["foretell", *path[: place + 1]]))
            found = getattr(found, part)
