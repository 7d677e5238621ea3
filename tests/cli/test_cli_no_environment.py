"""Data that name no environment: what is said to do next can be done."""

from __future__ import annotations

import pytest
from cli_helpers import SMALL

from foretell.datasets.d4rl_writer import write_d4rl
from foretell.datasets.metadata import DatasetMetadata
from foretell.datasets.registry import open_dataset


@pytest.fixture
def nameless(data, tmp_path):
    write_d4rl(tmp_path / "nameless.hdf5", list(open_dataset(data).episodes()), DatasetMetadata())
    return tmp_path / "nameless.hdf5"


@pytest.mark.parametrize("seeds", [(), ("--seeds", "0..1")])
def test_training_does_not_send_to_an_evaluation_that_is_refused(foretell, nameless, data, seeds, monkeypatch):
    monkeypatch.delenv("FORETELL_MODULES", raising=False)
    said = foretell("train", nameless, "--out", "run", *SMALL, *seeds).out.splitlines()[-1]
    first = "run/seed-0" if seeds else "run"
    assert said.endswith(
        f"Next: foretell inspect {first} (no environment to evaluate it in: foretell.load_policy acts)"
    )
    assert foretell("inspect", first).code == 0
    named = foretell("train", data, "--out", "named", *SMALL, *seeds).out.splitlines()[-1]
    assert named.endswith("Next: foretell evaluate named")


def test_its_card_and_the_refusal_say_how_it_can_be_used(foretell, nameless):
    foretell("train", nameless, "--out", "run", *SMALL)
    assert "none yet: foretell evaluate run --environment ID" in foretell("inspect", "run").out
    foretell("evaluate", "run").refusal(2, "--environment", "foretell.load_policy", "docs/quickstart.md")
    assert foretell("evaluate", "run", "--environment", "Pendulum-v1", "--episodes", 2).code == 0
