"""`foretell collect policy`: what a finished run does, as a dataset."""

from __future__ import annotations

import json

import pytest
from cli_helpers import contents

from foretell.datasets.registry import open_dataset


def test_a_run_records_and_the_same_command_again_keeps(foretell, run_copy, tmp_path):
    flags = ("--steps", 400, "--noise", 0.1, "--target-returns", -1500, -900, "--seed", 3, "--json")
    first = foretell("collect", "policy", "--agent", run_copy, *flags, "--out", "more.hdf5")
    assert first.code == 0, first.err
    said = json.loads(first.out)
    data = open_dataset(tmp_path / "more.hdf5")
    assert (said["steps"], said["episodes"], said["fingerprint"]) == (400, 2, data.fingerprint())
    assert data.metadata.hyperparameters["target_returns"] == [-1500, -900]
    before = contents(tmp_path)
    again = foretell("collect", "policy", "--agent", run_copy, *flags, "--out", "more.hdf5")
    assert (again.code, json.loads(again.out), contents(tmp_path)) == (0, said, before)
    for other in (("--noise", 0.2), ("--target-returns", -1500), ("--num-envs", 2)):
        changed = foretell("collect", "policy", "--agent", run_copy, *flags, *other, "--out", "more.hdf5")
        changed.refusal(2, "another recording")
    assert contents(tmp_path) == before


def test_a_recording_without_its_request_is_recorded_again_and_compared(foretell, run_copy, tmp_path):
    flags = ("collect", "policy", "--agent", run_copy, "--steps", 100, "--noise", 0.1, "--out", "more.hdf5")
    assert foretell(*flags).code == 0
    (tmp_path / "more.request.json").unlink()
    assert foretell(*flags).code == 0
    (tmp_path / "more.request.json").unlink()
    other = foretell(*flags[:-3], 0.2, *flags[-2:])
    assert other.code == 2
    assert "another recording" in other.err


def test_it_is_trained_from_as_any_other(foretell, run_copy):
    assert foretell("collect", "policy", "--agent", run_copy, "--steps", 400, "--out", "more.hdf5").code == 0
    small = ("--updates", 3, "--batch-size", 4, "--width", 8, "--layers", 1, "--context-length", 3)
    assert foretell("train", "more.hdf5", "--out", "again", *small).code == 0


def test_the_agent_of_sac_without_sampling(foretell, agents, tmp_path):
    for recipe in ("policy", "sac-agent"):
        ran = foretell("collect", recipe, "--agent", agents[0], "--steps", 200, "--out", f"{recipe}.hdf5")
        assert ran.code == 0, ran.err
    steady, sampled = open_dataset(tmp_path / "policy.hdf5"), open_dataset(tmp_path / "sac-agent.hdf5")
    assert "action_log_probs" in sampled.infos
    assert "action_log_probs" not in steady.infos
    assert steady.actions.std() < sampled.actions.std()


def test_the_optimum(foretell):
    flags = ("--agent", "optimum", "--environment", "Pendulum-v1", "--steps", 2000, "--out", "best.hdf5", "--json")
    found = json.loads(foretell("collect", "policy", *flags).out)
    assert -250 < found["mean_return"] < -80


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (("policy",), 2, ("--agent is missing", "policy")),
        (("policy", "--agent", "none"), 4, ("none/model.safetensors", "expected a finished run (")),
        (("policy", "--agent", "random", "--environment", "Pendulum-v1"), 2, ("foretell collect random",)),
        (("policy", "--agent", "RUN", "--environment", "CartPole-v1"), 2, ("trained for",)),
        (("policy", "--agent", "RUN", "--noise", "-1"), 2, ("noise is -1; expected 0 or more",)),
        (("policy", "--agent", "RUN", "--noise", "nan"), 2, ("noise is nan",)),
        (("policy", "--agent", "RUN", "--keep", "first"), 2, ("--keep first",)),
        (("policy", "--agent", "RUN", "--source", "a.hdf5"), 2, ("--source",)),
        (("random", "--noise", "0.1"), 2, ("--noise", "policy, not for random")),
        (("sac-agent", "--target-returns", "-100"), 2, ("--target-returns", "policy, not for sac-agent")),
    ],
)
def test_refusals(foretell, run_copy, tmp_path, flags, code, words):
    before = contents(tmp_path)
    given = [str(run_copy) if flag == "RUN" else flag for flag in flags]
    foretell("collect", *given, "--out", "a.hdf5").refusal(code, *words)
    assert contents(tmp_path) == before
