"""Environments with keywords on the command line."""

from __future__ import annotations

import json


def test_data_runs_and_records_carry_it(tmp_path, foretell):
    """From the command line; keywords in another order are the same environment."""
    data, run = tmp_path / "lake.hdf5", tmp_path / "run"
    collect = ["collect", "random", "--steps", 400, "--out", data, "--environment"]
    assert foretell(*collect, "FrozenLake-v1,map_name=8x8,is_slippery=False").code == 0
    again = foretell(*collect, "FrozenLake-v1,is_slippery=false,map_name=8x8")
    assert again.code == 0
    name = "FrozenLake-v1,is_slippery=false,map_name=8x8"
    assert f"environment        {name}" in foretell("inspect", data).out
    small = ["--updates", 2, "--context-length", 1, "--width", 8, "--layers", 1, "--threads", 1]
    assert foretell("train", data, "--out", run, *small).code == 0
    assert json.loads((run / "config.json").read_text())["environment"]["name"] == name
    assert foretell("evaluate", run, "--episodes", 3).code == 0
    there = foretell("evaluate", "random", "--environment", "FrozenLake-v1,map_name=8x8,is_slippery=false",
                     "--episodes", 3, "--out", tmp_path / "random.jsonl")  # fmt: skip
    assert there.code == 0
    report = foretell("report", run, tmp_path / "random.jsonl", "--out", tmp_path / "out", "--environment",
                      "FrozenLake-v1,map_name=8x8,is_slippery=false")  # fmt: skip
    assert report.code == 0
    assert json.loads((tmp_path / "out" / "table.json").read_text())["protocol"]["environment"] == name


def test_a_colon_among_the_keywords_is_no_module(tmp_path, foretell):
    refused = foretell("evaluate", "random", "--environment", "Pendulum-v1,g=os:path", "--out", tmp_path / "x.jsonl")
    refused.refusal(2, "'g=os:path' behind the id", "expected KEY=VALUE")


def test_a_keyword_of_the_wrong_kind_is_a_sentence(tmp_path, foretell):
    named = ("--environment", "Pendulum-v1,g=abc")
    refused = foretell("evaluate", "random", *named, "--episodes", 2, "--out", tmp_path / "x.jsonl")
    refused.refusal(2, "'Pendulum-v1,g=abc' fails at its first step", "made with g='abc'", "It takes g.")
    assert not list(tmp_path.iterdir())
