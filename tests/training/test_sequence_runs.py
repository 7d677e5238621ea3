from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from foretell import facade
from foretell.core.errors import CheckpointError, DatasetError, DivergedError, LockedError, StoppedError, UsageError
from foretell.core.files import sha256_of
from foretell.core.locks import folder_lock
from foretell.sequences.windows import WindowSampler
from foretell.training.checkpoints import load_newest, load_tensors
from foretell.training.configs import TrainingConfig, learning_rate_at
from foretell.training.run_folder import RunFolder, load_run, read_events
from foretell.values.configs import IQLConfig
from reference.making import make_dataset, small_config

MODEL = small_config("decision-transformer")
TRAINING = TrainingConfig(updates=6, batch_size=4, checkpoint_every=2, log_every=1, warmup_updates=2)


def _train(data, out, **changes):
    return facade.train(data, out, **{"model": MODEL, "training": TRAINING, **changes})


def _content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("changes", [
    {"seed": 1}, {"model": replace(MODEL, width=8)}, {"training": replace(TRAINING, learning_rate=1e-4)},
    {"target": -1.0}, {"training": replace(TRAINING, updates=7)},
])  # fmt: skip
def test_a_folder_of_another_configuration_is_left_untouched(changes, tmp_path):
    data, out = make_dataset([9, 5]), tmp_path / "run"
    _train(data, out)
    before = _content(out)
    with pytest.raises(UsageError, match="another configuration"):
        _train(data, out, **changes)
    assert _content(out) == before


def _failing(done, *_, **__):
    raise DivergedError("no good settings")


def test_a_first_start_that_fails_leaves_the_folder_to_other_settings(tmp_path):
    data, out = make_dataset([9, 5]), tmp_path / "run"
    late = replace(TRAINING, log_every=5)
    for _ in range(2):
        with pytest.raises(DivergedError, match="no good settings"):
            _train(data, out, training=late, progress=_failing)
        assert not [name for name in _content(out) if name.name != ".lock"]
    _train(data, out, training=replace(late, learning_rate=1e-4))
    assert load_run(out)[0]["training"]["learning_rate"] == 1e-4


def test_so_does_one_that_fails_among_its_value_functions(tmp_path):
    data, out = make_dataset([9, 5]), tmp_path / "run"
    values = IQLConfig(updates=4, batch_size=4, hidden_sizes=(4,), log_every=5)
    for _ in range(2):
        with pytest.raises(DivergedError, match="no good settings"):
            _train(data, out, condition="advantage", values=values, progress=_failing)
        assert not [name for name in _content(out) if name.name != ".lock"]
    _train(data, out, condition="advantage", values=replace(values, learning_rate=1e-5))
    learned = load_run(out / "values")[0]["values"]["learning_rate"]
    assert learned == load_run(out)[0]["values"]["learning_rate"] == 1e-5


def test_value_functions_are_evaluated_from_the_start_states_that_are_asked_for(pendulum_random, tmp_path):
    data, out = pendulum_random.section(0, 400), tmp_path / "run"
    values = IQLConfig(updates=4, batch_size=4, hidden_sizes=(4,), evaluate_every=2)
    _train(data, out, condition="advantage", values=values, root_seed=7, validation_episodes=3)
    assert load_run(out / "values")[0]["validation"] == {"root_seed": 7, "episodes": 3}
    alone = facade.train_iql(data, tmp_path / "iql", values=values, root_seed=7, validation_episodes=3)
    measured = [
        [
            (event["update"], event["mean_return"], event["episodes"])
            for event in read_events(run)
            if event["event"] == "evaluation"
        ]
        for run in (out / "values", alone)
    ]
    assert measured[0] == measured[1]
    assert [(update, episodes) for update, _, episodes in measured[0]] == [(2, 3), (4, 3)]


def test_start_states_from_which_nothing_is_evaluated_keep_no_run_from_going_on(tmp_path):
    data, out = make_dataset([9, 5]), tmp_path / "run"
    values = IQLConfig(updates=4, batch_size=4, hidden_sizes=(4,))
    with pytest.raises(StoppedError):
        _train(data, out, condition="advantage", values=values, progress=_stopped_at(5))
    assert (out / "values" / "model.safetensors").exists()
    _train(data, out, condition="advantage", values=values, root_seed=7)
    assert (out / "model.safetensors").exists()


def _stopped_at(updates):
    def progress(done, *_, **__):
        if done == updates:
            raise StoppedError(2)

    return progress


def test_what_a_start_that_fails_has_measured_or_found_there_stays(tmp_path):
    data, out = make_dataset([9, 5]), tmp_path / "run"
    with pytest.raises(DivergedError):
        _train(data, out, progress=_failing)  # an event an update
    assert read_events(out)
    with pytest.raises(UsageError, match="another configuration"):
        _train(data, out, training=replace(TRAINING, learning_rate=1e-4))
    (out / "events.jsonl").unlink()
    for events in out.glob("events.out.*"):
        events.unlink()
    with pytest.raises(DivergedError):
        _train(data, out, training=TRAINING, progress=_failing)
    assert (out / "config.json").exists()


def test_other_data_are_another_configuration(tmp_path):
    _train(make_dataset([9, 5]), tmp_path / "run")
    with pytest.raises(UsageError, match="fingerprint"):
        _train(make_dataset([9, 5], seed=1), tmp_path / "run")


def test_a_folder_that_is_no_run_is_left_untouched(tmp_path):
    (tmp_path / "thesis.txt").write_text("three years")
    with pytest.raises(UsageError, match="not a run folder"):
        _train(make_dataset([9]), tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "three years"
    assert not (tmp_path / "config.json").exists()


def test_a_finished_run_is_not_trained_again(tmp_path):
    data, out = make_dataset([9, 5]), tmp_path / "run"
    _train(data, out)
    before, calls = _content(out), []
    assert _train(data, out, progress=lambda *_, **__: calls.append(1)) == out
    assert (_content(out), calls) == (before, [])


def test_a_folder_in_use_is_refused(tmp_path):
    with folder_lock(tmp_path / "run"), pytest.raises(LockedError):
        _train(make_dataset([9]), tmp_path / "run")


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_learning_rate_rises_and_falls(schedule):
    config = TrainingConfig(updates=100, learning_rate=0.4, warmup_updates=10, schedule=schedule)
    rates = [learning_rate_at(config, update) for update in range(100)]
    assert rates[:10] == pytest.approx([0.04 * (i + 1) for i in range(10)])
    for update in range(10, 100):
        expected = 0.4 if schedule == "constant" else 0.2 * (1 + math.cos(math.pi * (update - 10) / 90))
        assert rates[update] == pytest.approx(expected)
    assert learning_rate_at(replace(config, warmup_updates=0), 0) == 0.4
    assert learning_rate_at(replace(config, updates=5), 4) == pytest.approx(0.2)


def test_learning_rate_that_was_used_is_the_one_logged(tmp_path):
    out = _train(make_dataset([9, 5]), tmp_path / "run")
    logged = [event["learning_rate"] for event in read_events(out)]
    assert logged == [learning_rate_at(TRAINING, update) for update in range(6)]


def test_diverged_training_stops_and_keeps_the_last_finite_checkpoint(tmp_path, monkeypatch):
    plain = WindowSampler.batch

    def poisoned(self, update, batch_size):
        batch = plain(self, update, batch_size)
        if update == 5:
            batch.observations[0, -1] = torch.nan
        return batch

    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(WindowSampler, "batch", poisoned)
        with pytest.raises(DivergedError, match="update 5"):
            _train(make_dataset([9, 5]), out)
    state, manifest = load_newest(out / "checkpoints")
    assert manifest["update"] == 4
    assert all(bool(torch.isfinite(value).all()) for value in state.values())
    with pytest.raises(CheckpointError):
        load_run(out)
    straight = _train(make_dataset([9, 5]), tmp_path / "straight")
    resumed = load_tensors(_train(make_dataset([9, 5]), out) / "model.safetensors")
    for name, value in load_tensors(straight / "model.safetensors").items():
        assert torch.equal(value, resumed[name]), name


@pytest.mark.parametrize(("column", "bad"), [("observations", np.nan), ("rewards", np.inf), ("actions", -np.inf)])
def test_data_that_are_not_finite_are_refused(column, bad, tmp_path):
    data = make_dataset([9, 5])
    getattr(data, column)[11] = bad
    with pytest.raises(DatasetError, match="episode 1"):
        _train(data, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_config_describes_the_whole_run(tmp_path, pendulum_random):
    out = facade.train(pendulum_random, tmp_path / "run", model=MODEL, training=TRAINING, seed=3)
    config = json.loads((out / "config.json").read_text())
    assert config["dataset"]["fingerprint"] == pendulum_random.fingerprint()
    assert (config["seed"], config["dataset"]["episodes"], config["shape"]["max_timesteps"]) == (3, 10, 200)
    assert config["normalization"]["action_range"] == {"low": [-2.0], "high": [2.0]}
    assert config["target"] == {"rule": "learned quantile 0.75 of the return given the start state", "return": None}
    assert (config["condition"], config["values"], config["best_share"]) == ("return", None, 1.0)
    assert config["validation"] == {"root_seed": 0, "episodes": 50}
    assert {"foretell", "torch", "numpy"} <= config["versions"].keys()
    events = read_events(out)
    assert [event["update"] for event in events] == [1, 2, 3, 4, 5, 6]
    assert list(out.glob("events.out.tfevents*")), "no TensorBoard file"


def test_an_action_that_never_changes_does_not_poison_training(tmp_path):
    """Data that name no environment take their range from the actions; one of them may be constant."""
    data = make_dataset([9, 5])
    data.actions[:, 1] = 0.5
    out = _train(data, tmp_path / "run")
    assert all(math.isfinite(event["loss"]) for event in read_events(out))


@pytest.mark.parametrize("changes", [{"updates": 0}, {"batch_size": -1}, {"learning_rate": math.nan},
                                     {"clip_norm": 0.0}, {"warmup_updates": -1}, {"log_every": 0},
                                     {"learning_rate": math.inf}])  # fmt: skip
def test_settings_out_of_range_are_refused(changes):
    with pytest.raises(UsageError, match="expected"):
        TrainingConfig(**changes)


def test_an_unknown_algorithm_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="decision-transformer"):
        facade.train(make_dataset([5]), tmp_path / "run", algorithm="decision-trasnformer")


def test_a_long_run_continues_however_many_events_it_has(tmp_path):
    """A checkpoint counts the events and does not hold them: its manifest must not grow with the run."""
    run = RunFolder(tmp_path / "run", {"kind": "sequence"})
    for update in range(1, 10_001):
        run.event("training", {"update": update}, loss=0.5)
    run.checkpoint(10_000, {"weight": torch.ones(1)})
    run.event("training", {"update": 10_001}, loss=0.25)
    again = RunFolder(tmp_path / "run", {"kind": "sequence"})
    state, update = again.resume()
    assert (update, state["weight"].item()) == (10_000, 1.0)
    again.event("training", {"update": 10_001}, loss=0.125)
    events = read_events(tmp_path / "run")
    assert [event["update"] for event in events] == list(range(1, 10_002))
    assert events[-1]["loss"] == 0.125


def test_a_checkpoint_without_its_events_is_refused(tmp_path):
    run = RunFolder(tmp_path / "run", {"kind": "sequence"})
    run.event("training", {"update": 1}, loss=0.5)
    run.checkpoint(1, {"weight": torch.ones(1)})
    (tmp_path / "run" / "events.jsonl").write_text("")
    with pytest.raises(CheckpointError, match="0 events; the checkpoint counted 1"):
        RunFolder(tmp_path / "run", {"kind": "sequence"}).resume()


def test_a_stop_at_the_last_update_loses_nothing(tmp_path):
    def stop_at_the_end(done, total, **_):
        if done == total:
            raise StoppedError(15)

    with pytest.raises(StoppedError):
        _train(make_dataset([9, 5]), tmp_path / "run", progress=stop_at_the_end)
    _train(make_dataset([9, 5]), tmp_path / "whole")
    assert sha256_of(tmp_path / "run/model.safetensors") == sha256_of(tmp_path / "whole/model.safetensors")
