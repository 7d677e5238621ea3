"""Runs of every condition, whole: what they write, how they continue, what they refuse."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from foretell import facade
from foretell.core.errors import CheckpointError, UsageError
from foretell.core.returns import returns_to_go
from foretell.core.seeding import stream
from foretell.datasets.metadata import DatasetMetadata
from foretell.evaluation.acting import acting_policy
from foretell.evaluation.policies import restore_values
from foretell.facade import training as module
from foretell.sequences.normalization import Normalization
from foretell.sequences.scaling import ActionRange
from foretell.sequences.windows import WindowSampler
from foretell.training.configs import TrainingConfig
from foretell.training.run_folder import load_run, read_events
from foretell.values.asking import best_among_alike, timesteps_of, told_of
from foretell.values.configs import IQLConfig
from foretell.values.quantiles import StateQuantile
from reference.making import make_dataset, small_config

MODEL = small_config("decision-transformer", dropout=0.1)
TRAINING = TrainingConfig(updates=6, batch_size=4, checkpoint_every=2, log_every=1, warmup_updates=2)
VALUES = IQLConfig(updates=20, batch_size=8, hidden_sizes=(8, 8), checkpoint_every=5, log_every=10)
CONDITIONS = ("return", "value", "advantage", "none")


class Killed(Exception):
    pass


def _data(seed=0):
    return make_dataset([9, 5, 7], seed=seed)


def _train(out, condition="return", data=None, **changes):
    if condition in ("value", "advantage"):
        changes = {"values": VALUES, **changes}
    settings = {"model": MODEL, "training": TRAINING, "condition": condition, **changes}
    return facade.train(data or _data(), out, **settings)


def _same(run, other):
    one, two = load_run(run)[1], load_run(other)[1]
    return one.keys() == two.keys() and all(torch.equal(value, two[name]) for name, value in one.items())


def _killed_at(update):
    def progress(done, total, **_):
        if done == update:
            raise Killed

    return progress


def _timeless(run):
    return [{key: value for key, value in event.items() if key != "wall_seconds"} for event in read_events(run)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A finished run of every condition."""
    folder = tmp_path_factory.mktemp("conditions")
    return {condition: _train(folder / condition, condition) for condition in CONDITIONS}


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """A finished run of value functions of the same data."""
    return facade.train_iql(_data(), tmp_path_factory.mktemp("values") / "iql", values=VALUES)


# What a run says and does.


def _play(policy):
    rng = np.random.default_rng(4)
    policy.reset(3)
    actions = []
    for _ in range(9):
        actions.append(policy.act(rng.normal(size=(3, 3)).astype(np.float32)))
        policy.observe(rng.normal(size=3))
    return np.stack(actions)


@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_run_restores_to_the_policy_that_was_trained(condition, tmp_path, monkeypatch):
    trained = []

    def kept(*arguments):
        trained.append(acting_policy(*arguments))
        return trained[-1]

    monkeypatch.setattr(module, "acting_policy", kept)
    run = _train(tmp_path / "run", condition)
    actions = _play(facade.load_policy(run))
    np.testing.assert_array_equal(actions, _play(trained[0]))
    assert np.ptp(actions) > 1e-3
    assert np.ptp(actions[0], axis=0).max() > 1e-6, "every start is answered alike"


EXPECTED_RULES = {
    "return": "learned quantile 0.75 of the return given the start state",
    "value": "learned quantile 0.75 of the relabelled return given the start state",
    "advantage": "quantile 0.98 of the advantage among the data's actions in each state",
    "none": "nothing is asked for",
}


@pytest.mark.parametrize("condition", CONDITIONS)
def test_config_tells_condition_rule_and_values(condition, runs):
    config = json.loads((runs[condition] / "config.json").read_text())
    assert (config["condition"], config["best_share"]) == (condition, 1.0)
    assert config["target"] == {"rule": EXPECTED_RULES[condition], "return": None}
    needed = condition in ("value", "advantage")
    assert config["values"] == ({**asdict(VALUES), "hidden_sizes": [8, 8]} if needed else None)
    assert (runs[condition] / "values").exists() == needed
    target = facade.load_policy(runs[condition]).asking.target
    assert isinstance(target, StateQuantile) if condition in ("return", "value") else target in (0.98, 0.0)


@pytest.mark.parametrize("condition", ["value", "advantage"])
def test_the_values_inside_are_a_whole_run_of_their_own(condition, runs, learned):
    inside = runs[condition] / "values"
    config, _ = load_run(inside)
    assert (config["kind"], config["algorithm"], config["seed"]) == ("values", "iql", 0)
    assert _same(inside, learned)
    assert [event["update"] for event in read_events(inside)] == [10, 20]
    observations = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    np.testing.assert_array_equal(facade.load_policy(inside).act(observations),
                                  facade.load_policy(learned).act(observations))  # fmt: skip


@pytest.mark.parametrize(("condition", "target"), [("return", -1.0), ("advantage", 0.25)])
def test_a_given_target_is_kept(condition, target, tmp_path):
    run = _train(tmp_path / "run", condition, target=target)
    config, _ = load_run(run)
    assert config["target"] == {"rule": "given", "return": target}
    asking = facade.load_policy(run).asking
    told = asking.telling.units(asking.at_start(np.zeros((2, 3), np.float32)))
    expected = -0.5 if condition == "advantage" else target / config["normalization"]["return_scale"]
    np.testing.assert_allclose(told, [expected] * 2, rtol=1e-6)


# What a sampler is given.


@pytest.fixture
def drawn(monkeypatch):
    """Every batch's last rows and what they are told, of windows of the model's context."""
    found, plain = [], WindowSampler.batch

    def noted(self, update, batch_size):
        batch = plain(self, update, batch_size)
        if self.context_length == MODEL.context_length:
            found.append((self.draw(update, batch_size)[0], batch.returns_to_go[:, -1, 0].numpy().copy()))
        return batch

    monkeypatch.setattr(WindowSampler, "batch", noted)
    return found


@pytest.mark.parametrize("condition", ["return", "advantage"])
def test_the_best_share_alone_is_trained_on(condition, drawn, tmp_path):
    data = make_dataset([6] * 12)
    run = _train(tmp_path / "run", condition, data=data, best_share=0.25)
    normalization = Normalization.from_json(load_run(run)[0]["normalization"])
    rows = timesteps_of(data, best_among_alike(data, normalization, 0.25))
    assert len(rows) == 18
    plain = [rows[stream(0, "windows", update).integers(18, size=4)] for update in range(6)]
    lasts = [last for last, _ in drawn]
    assert [last[2:].tolist() for last in lasts] == [expected[2:].tolist() for expected in plain]
    assert set(np.concatenate(lasts).tolist()) <= set(rows.tolist())  # emphasized or not
    assert np.array_equal(lasts, plain) == (condition == "return")
    assert load_run(run)[0]["best_share"] == 0.25
    with pytest.raises(UsageError, match="another configuration"):
        _train(run, condition, data=data)


@pytest.mark.parametrize("condition", CONDITIONS)
def test_windows_tell_what_the_condition_says(condition, drawn, tmp_path):
    """And half of them end at good actions, under the condition `advantage` alone."""
    data, run = _data(), _train(tmp_path / "run", condition)
    normalization = Normalization.from_json(load_run(run)[0]["normalization"])
    functions = restore_values(*load_run(run / "values")) if condition in ("value", "advantage") else None
    told = told_of(condition, data, normalization, functions)
    numbers = told.numbers
    if condition == "return":
        parts = np.split(data.rewards, data.episode_ends[:-1])
        numbers = np.concatenate([returns_to_go(part) for part in parts]) / normalization.return_scale
    assert len(drawn) == 6
    for update, (last, shown) in enumerate(drawn):
        expected = stream(0, "windows", update).integers(21, size=4)
        if condition == "advantage":
            assert set(last[:2].tolist()) <= set(told.emphasized.tolist())
            last = last[2:]
        assert last.tolist() == expected[-len(last) :].tolist()
        np.testing.assert_allclose(shown[-len(last) :], numbers[last], rtol=1e-5, atol=1e-6)


# Continuing.


@pytest.mark.parametrize(("condition", "killed_at"), [
    ("return", 1), ("return", 3), ("none", 5), ("value", 12), ("value", 20), ("advantage", 12), ("advantage", 23),
])  # fmt: skip
def test_a_killed_run_continues_bit_for_bit(condition, killed_at, runs, tmp_path):
    """Values of 20 updates come first, with a checkpoint every 5; then a model of 6, one every 2."""
    before = 20 if condition in ("value", "advantage") else 0
    with pytest.raises(Killed):
        _train(tmp_path / "run", condition, progress=_killed_at(killed_at))
    assert not (tmp_path / "run" / "model.safetensors").exists()
    told = []
    _train(tmp_path / "run", condition, progress=lambda done, total, **_: told.append((done, total)))
    kept = killed_at // 5 * 5 if killed_at < before else before + (killed_at - before) // 2 * 2
    assert told == [(done, before + 6) for done in range(kept + 1, before + 7)]
    assert _same(tmp_path / "run", runs[condition])
    assert _timeless(tmp_path / "run") == _timeless(runs[condition])
    if before:
        assert _same(tmp_path / "run" / "values", runs[condition] / "values")
        assert _timeless(tmp_path / "run" / "values") == _timeless(runs[condition] / "values")


@pytest.mark.parametrize("killed_at", [3, 5, 12])
def test_value_functions_continue_bit_for_bit(killed_at, learned, tmp_path):
    with pytest.raises(Killed):
        facade.train_iql(_data(), tmp_path / "run", values=VALUES, progress=_killed_at(killed_at))
    told = []
    facade.train_iql(_data(), tmp_path / "run", values=VALUES, progress=lambda done, *_, **__: told.append(done))
    assert told == list(range(killed_at // 5 * 5 + 1, 21))
    assert _same(tmp_path / "run", learned)
    assert _timeless(tmp_path / "run") == _timeless(learned)
    with pytest.raises(UsageError, match="another configuration"):
        facade.train_iql(_data(), tmp_path / "run", values=replace(VALUES, expectile=0.8))


def test_other_conditions_and_settings_are_another_configuration(runs):
    for changes in ({"condition": "value"}, {"values": replace(VALUES, discount=0.5)}, {"target": 0.5}):
        with pytest.raises(UsageError, match="another configuration"):
            _train(runs["advantage"], **{"condition": "advantage", **changes})


# Value functions from elsewhere.


def test_value_functions_are_copied_and_give_the_same_run(learned, runs, tmp_path):
    run = _train(tmp_path / "run", "advantage", values=None, values_from=learned)
    for name in ("model.safetensors", "config.json"):
        assert (run / "values" / name).read_bytes() == (learned / name).read_bytes()
    assert _same(run, runs["advantage"])
    assert load_run(run)[0]["values"] == load_run(runs["advantage"])[0]["values"]


def test_settings_of_the_copied_functions_are_the_runs(tmp_path):
    other = replace(VALUES, updates=3, hidden_sizes=(5,), expectile=0.6)
    source = facade.train_iql(_data(), tmp_path / "iql", values=other)
    run = _train(tmp_path / "run", "value", values=None, values_from=source)
    assert load_run(run)[0]["values"] == {**asdict(other), "hidden_sizes": [5]}
    assert _same(run / "values", source)


def test_value_functions_of_an_environment_that_is_not_named_here_say_so(pendulum_random, tmp_path):
    unnamed = replace(pendulum_random, metadata=DatasetMetadata(), stored_fingerprint=None)
    source = facade.train_iql(unnamed, tmp_path / "iql", values=VALUES, environment="Pendulum-v1")
    with pytest.raises(UsageError, match=r"\(action_range\).* learned with environment Pendulum-v1: name it"):
        _train(tmp_path / "run", "value", data=unnamed, values=None, values_from=source)
    named = _train(tmp_path / "run", "value", data=unnamed, values=None, values_from=source, environment="Pendulum-v1")
    assert _same(named / "values", source)


def test_value_functions_of_other_data_and_other_kinds_are_refused(learned, runs, tmp_path):
    with pytest.raises(UsageError, match="learned from other data"):
        _train(tmp_path / "run", "value", data=_data(seed=1), values=None, values_from=learned)
    with pytest.raises(UsageError, match="expected one of `foretell train --algorithm iql`"):
        _train(tmp_path / "run", "value", values=None, values_from=runs["return"])
    wide = ActionRange(low=(-9.0, -9.0), high=(9.0, 9.0))
    with pytest.raises(UsageError, match=r"other units than are read here \(action_range\)"):
        _train(tmp_path / "run", "value", values=None, values_from=learned, action_range=wide)
    with pytest.raises(Killed):
        facade.train_iql(_data(), tmp_path / "half", values=VALUES, progress=_killed_at(12))
    with pytest.raises(CheckpointError):
        _train(tmp_path / "run", "value", values=None, values_from=tmp_path / "half")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("condition", ["return", "none"])
@pytest.mark.parametrize("given", ["values", "values_from"])
def test_value_functions_that_nobody_needs_are_refused(condition, given, learned, tmp_path):
    changes = {"values": VALUES} if given == "values" else {"values_from": learned}
    with pytest.raises(UsageError, match=f"condition {condition} needs no value functions"):
        _train(tmp_path / "run", condition, **changes)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("condition", "target"), [("none", 1.0), ("return", float("nan")), ("advantage", 1.5)])
def test_targets_that_cannot_be_asked_for_are_refused_before_anything_is_written(condition, target, tmp_path):
    with pytest.raises(UsageError, match=r"expected|leave the target out"):
        _train(tmp_path / "run", condition, target=target)
    assert not (tmp_path / "run").exists()
