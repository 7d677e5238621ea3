"""Data that name no environment: what is said to do next can be done."""

from __future__ import annotations

import json

import pytest
from cli_helpers import SMALL

from foretell.datasets.d4rl_writer import write_d4rl
from foretell.datasets.metadata import DatasetMetadata
from foretell.datasets.registry import open_dataset


@pytest.fixture
def nameless(data, tmp_path, monkeypatch):
    monkeypatch.delenv("FORETELL_MODULES", raising=False)  # else it is part of what to do next
    write_d4rl(tmp_path / "nameless.hdf5", list(open_dataset(data).episodes()), DatasetMetadata())
    return tmp_path / "nameless.hdf5"


NEXT = "foretell evaluate run --environment ID; without one it acts by foretell.load_policy."


@pytest.mark.parametrize("seeds", [(), ("--seeds", "0..1")])
def test_training_does_not_send_to_an_evaluation_that_is_refused(foretell, nameless, data, seeds):
    assert foretell("train", nameless, "--out", "run", *SMALL, *seeds).out.rstrip().endswith(f"Next: {NEXT}")
    assert json.loads(foretell("train", nameless, "--out", "run", *SMALL, *seeds, "--json").out)["environment"] is None
    named = foretell("train", data, "--out", "named", *SMALL, *seeds).out.splitlines()[-1]
    assert named.endswith("Next: foretell evaluate named")


def test_its_card_and_the_refusal_say_how_it_can_be_used(foretell, nameless):
    foretell("train", nameless, "--out", "run", *SMALL)
    assert f"none yet: {NEXT}" in foretell("inspect", "run").out
    foretell("evaluate", "run").refusal(2, "--environment", "foretell.load_policy", "docs/quickstart.md")
    assert foretell("evaluate", "run", "--environment", "Pendulum-v1", "--episodes", 2).code == 0
