"""A run that begins with the weights of another: to train it further, or on other data."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from foretell import facade
from foretell.core.errors import CheckpointError, UsageError
from foretell.core.files import sha256_of
from foretell.evaluation.policies import ASKED
from foretell.models.registry import MODELS
from foretell.training.configs import TrainingConfig
from foretell.training.run_folder import load_run
from reference.making import VECTOR, make_dataset, small_config

TRAINING = TrainingConfig(updates=3, batch_size=4, warmup_updates=0)
STILL = TrainingConfig(updates=1, batch_size=4, learning_rate=1e-12, warmup_updates=0)
"""So slow that nothing moves."""
DATA, OTHERS = make_dataset([9, 5]), make_dataset([9, 4], seed=3)


def _train(data, out, algorithm="decision-transformer", **changes):
    settings = {"model": small_config(algorithm), "training": TRAINING, **changes}
    return facade.train(data, out, algorithm=algorithm, **settings)


def _weights(run):
    return {name: tensor for name, tensor in load_run(run)[1].items() if not name.startswith(ASKED)}


def _distance(one, other):
    first, second = _weights(one), _weights(other)
    assert first.keys() == second.keys()
    return max(float((first[name].double() - second[name].double()).abs().max()) for name in first)


@pytest.mark.parametrize("algorithm", MODELS)
def test_a_run_begins_with_the_weights_and_the_units_of_another(algorithm, tmp_path):
    first = _train(DATA, tmp_path / "first", algorithm)
    second = _train(OTHERS, tmp_path / "second", algorithm, training=STILL, initial_weights=first, seed=5)
    assert _distance(first, second) < 1e-9
    drawn = _train(OTHERS, tmp_path / "drawn", algorithm, training=STILL, seed=5)
    assert _distance(first, drawn) > 1e-3
    configs = {name: load_run(tmp_path / name)[0] for name in ("first", "second", "drawn")}
    assert configs["second"]["normalization"] == configs["first"]["normalization"] != configs["drawn"]["normalization"]
    assert configs["second"]["initial_weights"] == sha256_of(first / "model.safetensors")
    assert "initial_weights" not in configs["drawn"]


def test_the_units_are_what_windows_come_in(tmp_path):
    """Data of ten times the size, read in their own units, would move nothing; in the run's they do."""
    large = replace(DATA, observations=10 * DATA.observations)
    first = _train(DATA, tmp_path / "first")
    again, own = (
        _train(large, tmp_path / name, initial_weights=first if name == "again" else None) for name in ("again", "own")
    )
    units = [load_run(run)[0]["normalization"]["observation_std"] for run in (first, again, own)]
    assert units[0] == units[1] != units[2]
    assert facade.load_policy(again).normalization == facade.load_policy(first).normalization


def test_training_goes_on_from_there(tmp_path):
    """Three updates more bring the loss further down than the first three did."""
    long = TrainingConfig(updates=60, batch_size=16, warmup_updates=0, learning_rate=3e-3, log_every=60)
    first = _train(DATA, tmp_path / "first", training=long)
    more = _train(DATA, tmp_path / "more", training=long, initial_weights=first)
    losses = [_last_loss(run) for run in (first, more)]
    assert losses[1] < losses[0]


def _last_loss(run):
    from foretell.training.run_folder import read_events

    return [event["loss"] for event in read_events(run) if event["event"] == "training"][-1]


def test_stopped_it_continues_to_the_same_bits(tmp_path):
    first = _train(DATA, tmp_path / "first")
    saved = replace(TRAINING, updates=6, checkpoint_every=2)

    def stop(done, *_, **__):
        if done == 4:
            raise KeyboardInterrupt

    whole = _train(OTHERS, tmp_path / "whole", training=saved, initial_weights=first)
    with pytest.raises(KeyboardInterrupt):
        _train(OTHERS, tmp_path / "parts", training=saved, initial_weights=first, progress=stop)
    parts = _train(OTHERS, tmp_path / "parts", training=saved, initial_weights=first)
    assert sha256_of(whole / "model.safetensors") == sha256_of(parts / "model.safetensors")
    with pytest.raises(UsageError, match="another configuration"):
        _train(OTHERS, tmp_path / "parts", training=saved)


def test_shorter_episodes_fit_and_longer_ones_do_not(tmp_path):
    first = _train(DATA, tmp_path / "first")
    _train(make_dataset([4, 3]), tmp_path / "shorter", initial_weights=first)
    assert load_run(tmp_path / "shorter")[0]["shape"]["max_timesteps"] == 9
    with pytest.raises(UsageError, match="episodes of up to 9 timesteps, here are 30"):
        _train(make_dataset([30]), tmp_path / "longer", initial_weights=first)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": replace(small_config("decision-transformer"), width=8)}, "model.width 16 there, 8 here"),
        ({"algorithm": "mlp"}, "algorithm 'decision-transformer' there, 'mlp' here"),
        ({"condition": "none"}, "condition 'return' there, 'none' here"),
    ],
)
def test_weights_of_another_network_are_refused(changes, words, tmp_path):
    first = _train(DATA, tmp_path / "first")
    with pytest.raises(UsageError, match=words):
        _train(DATA, tmp_path / "second", initial_weights=first, **changes)
    assert not (tmp_path / "second").exists()


def test_what_is_no_run_of_a_network_is_refused(tmp_path):
    with pytest.raises(CheckpointError):
        _train(DATA, tmp_path / "second", initial_weights=tmp_path / "nothing")


def test_value_functions_are_learned_in_the_units_of_the_data(tmp_path):
    """They are not those of the run, and may be given."""
    from foretell.values.configs import IQLConfig

    values = IQLConfig(updates=3, batch_size=4, hidden_sizes=(8,), evaluate_every=0)
    first = _train(DATA, tmp_path / "first", condition="advantage", values=values)
    learned = facade.train_iql(OTHERS, tmp_path / "iql", values=values)
    second = _train(OTHERS, tmp_path / "second", condition="advantage", values_from=learned, initial_weights=first)
    own = load_run(second / "values")[0]["normalization"]
    assert own == load_run(learned)[0]["normalization"] != load_run(second)[0]["normalization"]
    policy = facade.load_policy(second)
    policy.reset(num_envs=2)
    assert np.isfinite(policy.act(np.asarray(OTHERS.observations[:2]))).all()
    assert all(torch.isfinite(tensor).all() for tensor in _weights(second).values())


def _within(limit, **columns):
    actions = np.random.default_rng(0).uniform(-limit, limit, (14, 2)).astype(np.float32)
    return make_dataset([9, 5], actions=actions, **columns)


def test_actions_that_the_weights_cannot_take_are_warned_of(tmp_path):
    first = _train(_within(1.0), tmp_path / "first")
    with pytest.warns(UserWarning, match=r"acts from .* has actions beyond that, which it will never take"):
        _train(_within(2.0), tmp_path / "wider", initial_weights=first)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*beyond that")
        _train(_within(0.9), tmp_path / "narrower", initial_weights=first)


def test_a_run_that_acts_beyond_the_environment_is_no_beginning(pendulum_random, tmp_path):
    rows = make_dataset([200], shape=replace(VECTOR, observation_shape=(3,), action_dim=1))
    far = replace(rows, actions=3 * np.ones_like(rows.actions) * np.sin(np.arange(200, dtype=np.float32))[:, None])
    first = _train(far, tmp_path / "first")
    with pytest.raises(UsageError, match=r"first: it acts from .*; Pendulum-v1 takes actions from \[-2.0\] to \[2.0\]"):
        _train(pendulum_random, tmp_path / "second", initial_weights=first)
    assert not (tmp_path / "second").exists()


def test_another_number_of_actions_is_another_network(tmp_path):
    first = _train(_within(1.0), tmp_path / "first")
    three = make_dataset([9, 5], shape=replace(VECTOR, action_dim=3))
    with pytest.raises(UsageError, match="weights are of another network"):
        _train(three, tmp_path / "second", initial_weights=first)


def test_seeds_that_each_began_with_their_own_weights_are_evaluated_as_one(pendulum_random, tmp_path):
    for seed in (0, 1):
        first = _train(pendulum_random, tmp_path / f"first-{seed}", "mlp", seed=seed)
        _train(pendulum_random, tmp_path / f"more/seed-{seed}", "mlp", seed=seed, initial_weights=first)
    records = facade.evaluate(tmp_path / "more", episodes=2)
    assert [record["seed"] for record in records] == [0, 0, 1, 1]
    wider = replace(small_config("mlp"), width=8)
    _train(pendulum_random, tmp_path / "more/seed-2", "mlp", seed=2, model=wider)
    with pytest.raises(UsageError, match=r"seed-2: differs from .*seed-0 in more than its seed \(model.width 16 there"):
        facade.evaluate(tmp_path / "more", episodes=2)


def test_who_asks_a_finished_run_for_more_updates_is_told_how(tmp_path):
    first = _train(DATA, tmp_path / "run")
    with pytest.raises(UsageError, match=r"finished; to train it further.*--initial-weights .*run\.$"):
        _train(DATA, first, training=replace(TRAINING, updates=9))
    for other in ({"training": replace(TRAINING, updates=2)}, {"training": replace(TRAINING, updates=9), "seed": 4}):
        with pytest.raises(UsageError, match=r"the same settings to continue it\.$"):
            _train(DATA, first, **other)
