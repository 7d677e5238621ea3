"""The same command again: what is done is kept, what was interrupted goes on, what is different is refused."""

from __future__ import annotations

import json
import shutil

import pytest
from cli_helpers import SMALL, contents

COLLECT = ("collect", "random", "--steps", 400, "--out", "data.hdf5")


def test_collecting_again_keeps_the_recording(foretell, tmp_path):
    first = foretell(*COLLECT, "--json")
    before = contents(tmp_path)
    assert before.keys() == {"data.hdf5", "data.request.json"}
    written = (tmp_path / "data.hdf5").stat().st_mtime_ns
    second = foretell(*COLLECT, "--json")
    assert (second.code, json.loads(second.out)) == (0, json.loads(first.out))
    assert contents(tmp_path) == before
    assert (tmp_path / "data.hdf5").stat().st_mtime_ns == written


@pytest.mark.parametrize("change", [("--seed", 1), ("--steps", 200), ("--environment", "MountainCarContinuous-v0")])
def test_collecting_something_else_is_refused(foretell, tmp_path, change):
    foretell(*COLLECT)
    before = contents(tmp_path)
    foretell(*COLLECT, *change).refusal(2, "data.hdf5", "another recording")
    assert contents(tmp_path) == before


def test_collecting_with_another_agent_is_refused(foretell, agents, tmp_path):
    command = ("collect", "sac-agent", "--steps", 200, "--out", "data.hdf5", "--agent")
    assert foretell(*command, agents[0]).code == 0
    before = contents(tmp_path)
    foretell(*command, agents[1]).refusal(2, "data.hdf5", "another recording")
    assert contents(tmp_path) == before


def test_a_recording_that_was_changed_since_is_not_taken_for_it(foretell, tmp_path):
    foretell(*COLLECT)
    foretell(*COLLECT[:-1], "other.hdf5", "--seed", 1)
    shutil.copy(tmp_path / "other.hdf5", tmp_path / "data.hdf5")
    before = contents(tmp_path)
    foretell(*COLLECT).refusal(2, "data.hdf5")
    assert contents(tmp_path) == before


def test_collecting_goes_on_after_a_stop_between_its_two_files(foretell, tmp_path):
    foretell(*COLLECT)
    before = contents(tmp_path)
    (tmp_path / "data.request.json").unlink()  # as if the power went after the recording was renamed into place
    assert foretell(*COLLECT).code == 0
    assert contents(tmp_path) == before


@pytest.mark.parametrize(("keep", "rows"), [("first", slice(0, 150)), ("last", slice(110, 260))])
def test_a_replay_holds_the_steps_that_were_taken(foretell, agents, tmp_path, keep, rows):
    import numpy as np

    from foretell import open_dataset

    command = ("collect", "sac-replay", "--agent", agents[0], "--steps", 150, "--keep", keep, "--out", "replay.hdf5")
    assert json.loads(foretell(*command, "--json").out)["steps"] == 150
    whole, part = open_dataset(agents[0] / "replay.hdf5"), open_dataset(tmp_path / "replay.hdf5")
    np.testing.assert_array_equal(part.actions, whole.actions[rows])
    assert part.truncations[-1]
    assert f"steps {rows.start + 1} to {rows.stop} of 260" in part.metadata.description


def test_training_again_keeps_the_finished_run(foretell, data, tmp_path):
    first = foretell("train", data, "--out", "run", *SMALL, "--json")
    before = contents(tmp_path)
    second = foretell("train", data, "--out", "run", *SMALL, "--json")
    assert second.code == 0
    assert json.loads(second.out) == json.loads(first.out)
    assert contents(tmp_path) == before


def test_an_interrupted_training_ends_with_the_same_weights(foretell, data, tmp_path, monkeypatch):
    from foretell.training.sequence import SequenceTraining

    command = ("train", data, *SMALL, "--checkpoint-every", 4, "--dropout", 0.1)
    foretell(*command, "--out", "whole")
    plain = SequenceTraining.update

    def stop_at_seven(self, update):
        if update == 7:
            raise KeyboardInterrupt
        return plain(self, update)

    monkeypatch.setattr(SequenceTraining, "update", stop_at_seven)
    stopped = foretell(*command, "--out", "parts")
    assert stopped.code == 130
    assert "continues" in stopped.err.splitlines()[-1]
    assert not (tmp_path / "parts" / "model.safetensors").exists()
    monkeypatch.setattr(SequenceTraining, "update", plain)
    assert foretell(*command, "--out", "parts").code == 0
    whole, parts = contents(tmp_path / "whole"), contents(tmp_path / "parts")
    assert parts["model.safetensors"] == whole["model.safetensors"]


def test_evaluating_again_replaces_the_same_records(foretell, run_copy):
    command = ("evaluate", run_copy, "--episodes", 3)
    foretell(*command)
    records = (run_copy / "evaluations.jsonl").read_bytes()
    foretell(*command)
    assert (run_copy / "evaluations.jsonl").read_bytes() == records
    foretell(*command, "--target-returns", -900, -1100)
    lines = [json.loads(line) for line in (run_copy / "evaluations.jsonl").read_text().splitlines()]
    assert len(lines) == 9
    assert len({(line["start"], line["target"]) for line in lines}) == 9
    assert len({line["start"] for line in lines}) == 3


def test_a_request_names_the_agent_and_no_environment_of_its_own(foretell, agents, tmp_path):
    assert foretell("collect", "sac-agent", "--agent", agents[0], "--steps", 200, "--out", "data.hdf5").code == 0
    request = json.loads((tmp_path / "data.request.json").read_text())
    assert request["environment"] is None
    assert len(request["agent"]) == 64


def test_a_run_continues_on_the_same_data_under_another_name(foretell, data, tmp_path):
    command = ("--out", "run", *SMALL)
    assert foretell("train", data, *command).code == 0
    before = (tmp_path / "run" / "model.safetensors").read_bytes()
    data.rename(tmp_path / "renamed.hdf5")
    assert foretell("train", "renamed.hdf5", *command).code == 0
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == before
    assert json.loads((tmp_path / "run" / "config.json").read_text())["dataset"]["name"] == "pendulum"


def test_how_often_a_run_is_saved_may_change_on_its_way(foretell, data, tmp_path):
    foretell("train", data, "--out", "run", "--checkpoint-every", 4, *SMALL)
    weights = tmp_path / "run" / "model.safetensors"
    before = weights.read_bytes()
    weights.unlink()  # as if it had been killed behind update 8
    assert foretell("train", data, "--out", "run", "--checkpoint-every", 3, *SMALL).code == 0
    assert weights.read_bytes() == before
    assert [path.name[-2:] for path in sorted((tmp_path / "run" / "checkpoints").iterdir())] == ["04", "08", "09"]
    foretell("train", data, "--out", "run", *SMALL, "--log-every", 2).refusal(2, "another configuration", "log_every")


def test_validation_starts_tell_runs_apart_where_something_is_evaluated(foretell, data):
    assert foretell("train", data, "--out", "run", "--root-seed", 7, *SMALL).code == 0
    assert foretell("train", data, "--out", "run", *SMALL).code == 0
    evaluated = ("train", data, "--out", "evaluated", *SMALL, "--evaluate-every", 10, "--validation-episodes", 2)
    assert foretell(*evaluated, "--root-seed", 7).code == 0
    foretell(*evaluated).refusal(2, "another configuration", "validation.root_seed 7 there, 0 here")


def test_so_they_do_where_value_functions_are_evaluated(foretell, data):
    told = ("train", data, "--out", "told", *SMALL, "--condition", "advantage", "--values.updates", 4)
    told += ("--values.evaluate-every", 2, "--validation-episodes", 2)
    assert foretell(*told, "--root-seed", 7).code == 0
    foretell(*told).refusal(2, "another configuration", "validation.root_seed 7 there, 0 here")


def test_the_part_to_keep_is_refused_where_all_is_recorded(foretell, tmp_path):
    for recipe in (("random", "--steps", 200), ("sac-replay",)):
        foretell("collect", *recipe, "--keep", "first", "--out", "data.hdf5").refusal(2, "--keep first", "sac-replay")
    assert not (tmp_path / "data.hdf5").exists()


def test_a_run_that_was_killed_before_it_saved_anything_can_be_removed(foretell, data, tmp_path):
    foretell("train", data, "--out", "run", *SMALL)
    other = ("train", data, "--out", "run", *SMALL, "--seed", 5)
    assert "removed" not in foretell(*other).refusal(2, "seed 0 there, 5 here", "to continue it.")
    (tmp_path / "run" / "model.safetensors").unlink()
    foretell(*other).refusal(2, "seed 0 there, 5 here", "the folder can be removed as well")
