"""`--ends-at` on the command line: shown, trained on, continued, and refused where it is another dataset."""

from __future__ import annotations

import json
from dataclasses import replace

import h5py
import numpy as np
import pytest
from cli_helpers import SMALL, contents, parse, rewrite

from foretell.datasets.registry import open_dataset


@pytest.fixture
def goals(data):
    """Ten episodes of Pendulum-v1 with terminals at every timestep at a goal, behind which they go on."""

    def change(file):
        file["terminals"][...] = np.isin(np.arange(2000) % 200, np.arange(50, 99))
        file["halves"] = np.arange(1, 2001) % 100 == 0

    rewrite(data, change)
    return data


def test_inspect_shows_the_episodes_that_are_asked_for(foretell, goals):
    card = json.loads(foretell("inspect", goals, "--ends-at", "timeouts", "--json").out)
    assert (card["episodes"], card["terminations"], card["truncations"]) == (10, 0, 10)
    assert any("490 'terminals' at other timesteps are cleared" in one["message"] for one in card["warnings"])
    assert json.loads(foretell("inspect", goals, "--json").out)["episodes"] == 500


def test_a_run_is_continued_and_refused_by_what_was_read(foretell, goals):
    command = ("train", goals, "--out", "run", *SMALL)
    assert foretell(*command, "--ends-at", "timeouts").code == 0
    before = contents("run")
    with open("run/config.json") as file:
        dataset = json.load(file)["dataset"]
    assert dataset["fingerprint"] == open_dataset(goals, ends_at="timeouts").fingerprint()
    assert dataset["episodes"] == 10
    assert foretell(*command, "--ends-at", "timeouts").code == 0
    other = foretell(*command, "--ends-at", "halves")
    assert (other.code, other.out) == (2, "")
    assert "holds a run of another configuration (dataset.fingerprint" in other.err
    assert contents("run") == before


def test_seeds_are_told_it(foretell, goals):
    command = ("train", goals, "--out", "several", "--seeds", "0..1", "--workers", 1, *SMALL)
    assert foretell(*command, "--ends-at", "timeouts").code == 0
    with open("several/seed-1/config.json") as file:
        assert json.load(file)["dataset"]["episodes"] == 10
    assert foretell(*command, "--ends-at", "timeouts").code == 0
    foretell(*command).refusal(2, "fingerprint")


@pytest.mark.parametrize("algorithm", ["mlp", "iql"])
def test_the_command_of_one_seed_says_it(algorithm):
    verb = parse(["train", "x.h5", "--out", "o", "--algorithm", algorithm, "--seeds", "0..1", "--ends-at", "dones"])
    assert parse(verb.arguments(3)) == replace(verb, out=verb.out / "seed-3", seed=3, seeds=None, threads=1)
    assert verb.ends_at == "dones"


def test_the_attention_of_a_recorded_episode(foretell, goals, run_copy):
    found = foretell("inspect", run_copy, "--attention", "--dataset", goals, "--ends-at", "timeouts", "--json")
    assert json.loads(found.out)["episode"]["length"] == 200


def test_refusals(foretell, data, run_copy):
    out = ("--out", "run", *SMALL)
    foretell("train", data, *out, "--ends-at", "dones").refusal(2, "'dones' is not there", "timeouts")
    foretell("inspect", data, "--ends-at", "timeouts", "--horizon", 9).refusal(2, "both say where episodes end")
    foretell("inspect", "minari:some-v0", "--ends-at", "timeouts").refusal(2, "Minari says", "ends_at (timeouts)")
    foretell("inspect", run_copy, "--ends-at", "timeouts").refusal(2, "--ends-at: of no use to a run folder")
    foretell("inspect", run_copy, "--attention", "--ends-at", "x").refusal(2, "--ends-at", "without --dataset")
    foretell("train", "--algorithm", "sac", "--out", "a", "--ends-at", "x").refusal(2, "--ends-at does not apply")


def test_a_file_without_ends_is_read_by_the_command_that_its_refusal_names(foretell, data):
    def change(file):
        file["dones"] = file["timeouts"][:] | file["terminals"][:]
        for name in ("timeouts", "next_observations", "metadata/environment"):
            del file[name]

    rewrite(data, change)
    foretell("inspect", data).refusal(3, "--ends-at dones")
    assert json.loads(foretell("inspect", data, "--ends-at", "dones", "--json").out)["episodes"] == 10
    with h5py.File(data) as file:
        assert "timeouts" not in file
