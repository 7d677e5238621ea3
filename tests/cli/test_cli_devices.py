"""`--device` and `--precision` on the command line, and what torchrun may not start."""

from __future__ import annotations

import json

import pytest
import torch
from cli_helpers import SMALL, parse

from foretell.cli import main as command_line
from foretell.training.configs import ComputeConfig


def test_a_gpu_that_is_not_there_is_refused_before_anything_is_written(foretell, data, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    foretell("train", data, "--out", "run", "--device", "cuda:1", *SMALL).refusal(2, "--device cuda:1", "no GPU", "cpu")
    assert not (tmp_path / "run").exists()


def test_a_run_in_bfloat16_says_so_and_is_evaluated_as_any_other(foretell, data, tmp_path):
    assert foretell("train", data, "--out", "run", "--precision", "bfloat16", "--device", "auto", *SMALL).code == 0
    config = json.loads((tmp_path / "run/config.json").read_text())
    assert config["precision"] == "bfloat16"
    assert json.loads(foretell("evaluate", "run", "--episodes", 2, "--json").out)["records"] == "run/evaluations.jsonl"
    foretell("train", data, "--out", "run", *SMALL).refusal(2, "another configuration", "precision")


@pytest.mark.parametrize("algorithm", ["iql", "sac"])
def test_devices_belong_to_networks(foretell, data, algorithm):
    where = [data] if algorithm == "iql" else []
    foretell("train", *where, "--out", "run", "--algorithm", algorithm, "--device", "cuda").refusal(2, "--device")


def test_an_unknown_device_is_refused(foretell, data):
    assert foretell("train", data, "--out", "run", "--device", "tpu").code == 2


def test_seeds_keep_the_device():
    verb = parse(["train", "data.hdf5", "--out", "runs", "--seeds", "0..1", "--device", "cuda:3"])
    assert parse(verb.arguments(1)).compute == ComputeConfig(device="cuda:3")


def test_torchrun_starts_train_alone(foretell, data, monkeypatch):
    for name, value in {
        "TORCHELASTIC_RUN_ID": "x",
        "RANK": 0,
        "WORLD_SIZE": 2,
        "LOCAL_RANK": 0,
        "LOCAL_WORLD_SIZE": 2,
    }.items():
        monkeypatch.setenv(name, str(value))
    foretell("inspect", data).refusal(2, "torchrun")
    foretell("train", data, "--out", "run", "--algorithm", "iql").refusal(2, "torchrun", "iql")
    foretell("train", data, "--out", "run", "--seeds", "0..3").refusal(2, "torchrun", "--seeds")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(command_line, "PATIENCE", 0.0)  # nobody has ended it: what it met is its own
    foretell("inspect", data).refusal(2, "torchrun")
