from __future__ import annotations

import json
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

import foretell
from foretell import facade
from foretell.agents.configs import SACConfig
from foretell.core.errors import CheckpointError, ForetellError, UsageError
from foretell.core.files import read_json_lines
from foretell.evaluation.conditioned import ConditionedPolicy
from foretell.evaluation.protocol import evaluate, evaluation_starts
from foretell.evaluation.records import _alike, save_records
from foretell.models.configs import SequenceShape
from foretell.sequences.normalization import Normalization
from foretell.sequences.scaling import ActionRange
from foretell.training.configs import TrainingConfig
from reference.making import small_config, small_model
from reference.measuring import one_at_a_time

PENDULUM = SequenceShape(observation_shape=(3,), action_dim=1, discrete=False, max_timesteps=200)
CARTPOLE = SequenceShape(observation_shape=(4,), action_dim=2, discrete=True, max_timesteps=500)


def _normalization(**changes):
    return replace(
        Normalization(observation_mean=(0.1,), observation_std=(1.5,), return_scale=1500.0,
                      action_range=ActionRange(low=(-2.0,), high=(2.0,))), **changes,
    )  # fmt: skip


def test_batched_pendulum_equals_single_episodes_in_gymnasium():
    model = small_model("decision-transformer", PENDULUM, context_length=5)
    policy = ConditionedPolicy(model, _normalization(), -300.0)
    starts = evaluation_starts(3, 8)
    found = evaluate(policy, "Pendulum-v1", starts)
    returns, lengths = one_at_a_time(lambda: ConditionedPolicy(model, _normalization(), -300.0), "Pendulum-v1", starts)
    np.testing.assert_allclose(found.returns, returns, atol=0.05)  # 200 chaotic timesteps of float32
    assert found.lengths.tolist() == lengths == [200] * 8
    assert np.ptp(found.returns) > 50


def test_batched_cartpole_equals_single_episodes_that_end_at_different_times():
    model = small_model("decision-transformer", CARTPOLE, context_length=5, spread=0.5, seed=1)
    normalization = _normalization(action_range=None, return_scale=100.0, observation_std=(0.3,))
    starts = list(range(20))
    found = evaluate(ConditionedPolicy(model, normalization, 90.0), "CartPole-v1", starts)
    returns, lengths = one_at_a_time(lambda: ConditionedPolicy(model, normalization, 90.0), "CartPole-v1", starts)
    assert len(set(lengths)) >= 3
    assert found.returns.tolist() == returns
    assert found.lengths.tolist() == lengths


def test_a_target_for_each_episode():
    model = small_model("decision-transformer", PENDULUM, context_length=5)
    policy = ConditionedPolicy(model, _normalization(), 0.0)
    targets = np.array([-1500.0, -100.0, 3000.0])
    together = evaluate(policy, "Pendulum-v1", [1, 1, 1], target_return=targets).returns
    alone = [evaluate(policy, "Pendulum-v1", [1], target_return=float(target)).returns[0] for target in targets]
    np.testing.assert_allclose(together, alone, atol=0.05)
    assert len(set(together.round(2))) == 3


def test_a_shorter_table_than_the_episode_is_an_error():
    model = small_model("decision-transformer", replace(PENDULUM, max_timesteps=100))
    with pytest.raises(UsageError, match="timestep 100"):
        evaluate(ConditionedPolicy(model, _normalization(), 0.0), "Pendulum-v1", [0])


def test_a_loaded_policy_acts_in_the_environments_own_units(pendulum_run):
    policy = foretell.load_policy(pendulum_run)
    policy.reset(num_envs=3, target_return=-500.0)
    observations = np.array([[1, 0, 0], [0, 1, 3], [-1, 0, -3]], np.float32)
    for _ in range(6):
        actions = policy.act(observations)
        assert actions.shape == (3, 1)
        assert actions.dtype == np.float32
        assert (np.abs(actions) <= 2).all()
        policy.observe(np.array([-5.0, -3.0, -1.0]))
    again = foretell.load_policy(pendulum_run)
    again.reset(num_envs=3, target_return=-500.0)
    first = again.act(observations)
    again.reset(num_envs=3, target_return=-500.0)
    np.testing.assert_array_equal(again.act(observations), first)
    model = policy.model
    with torch.no_grad():  # an answer of 1 is the whole torque
        model.action_head.weight.zero_()
        model.action_head.bias.fill_(10.0)
    policy.reset(num_envs=1)
    np.testing.assert_allclose(policy.act(observations[:1]), [[2.0]], atol=1e-5)


def test_a_loaded_discrete_policy_returns_numbers_of_actions(cartpole_run):
    policy = foretell.load_policy(cartpole_run)
    policy.reset(num_envs=2)
    actions = policy.act(np.zeros((2, 4), np.float32))
    assert actions.shape == (2,)
    assert np.issubdtype(actions.dtype, np.integer)
    assert set(actions.tolist()) <= {0, 1}


def test_records_of_the_facade(pendulum_run, tmp_path):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        records = facade.evaluate(pendulum_run, episodes=3, target_returns=[-1000.0, 5.0])
    assert [str(w.message).startswith("target return 5 is outside") for w in caught] == [True]
    starts = evaluation_starts(0, 3)
    assert [(r["start"], r["target"], r["length"]) for r in records] == [
        (start, target, 200) for target in (-1000.0, 5.0) for start in starts
    ]
    facts = {"environment", "policy", "algorithm", "dataset", "seed", "settings", "data"}
    assert records[0].keys() == facts | {"start", "target", "return", "length"}
    assert records[0]["policy"] == records[0]["dataset"] == "pendulum-random"
    path = tmp_path / "evaluations.jsonl"
    save_records(path, records[:3])
    with pytest.warns(UserWarning, match="1 record .* had other returns"):
        save_records(path, [{**records[0], "return": -1.0}, records[4]])
    rounded = records[1]["return"] * (1 + 1e-5)  # what another number of episodes at once makes of it
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save_records(path, [{**records[1], "return": rounded}])
        save_records(path, [records[1]])
        assert not _alike(None, -1.0)  # of another program
    kept = [json.loads(line) for line in path.read_text().splitlines()]
    elsewhere = [{**records[0], "environment": "CartPole-v1"}]  # the same start seeds, another environment
    save_records(path, elsewhere)
    assert len(path.read_text().splitlines()) == len(kept) + 1
    assert [record["return"] for record in kept] == [-1.0, *(records[i]["return"] for i in (1, 2, 4))]


@pytest.mark.parametrize("at_once", [1, 6, 500])
def test_returns_asked_for_together_are_those_asked_for_in_turn(pendulum_run, monkeypatch, at_once):
    targets = [-1200.0, -900.0, -1500.0]
    monkeypatch.setattr(facade.evaluation, "AT_ONCE", at_once)
    together = facade.evaluate(pendulum_run, episodes=3, target_returns=targets)
    alone = [record for one in targets for record in facade.evaluate(pendulum_run, episodes=3, target_returns=[one])]
    returns = [[record.pop("return") for record in records] for records in (together, alone)]
    assert together == alone
    np.testing.assert_allclose(*returns, rtol=1e-3)


def test_records_that_several_save_at_once_are_all_kept(tmp_path):
    path = tmp_path / "results" / "evaluations.jsonl"
    facts = {"environment": "Pendulum-v1", "policy": "dt", "algorithm": "decision-transformer", "target": None}

    def save(seed):
        for start in range(10):
            save_records(path, [{**facts, "seed": seed, "start": start, "return": 0.0, "length": 200}])

    with ThreadPoolExecutor(8) as workers:
        list(workers.map(save, range(8)))
    kept = [json.loads(line) for line in path.read_text().splitlines()]
    assert {(record["seed"], record["start"]) for record in kept} == {(a, b) for a in range(8) for b in range(10)}
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_a_smaller_evaluation_uses_the_first_of_the_shared_starts():
    """Otherwise an evaluation of 50 episodes is not paired with one of 200, start by start."""
    assert evaluation_starts(0, 20) == evaluation_starts(0)[:20]


def test_a_sac_run_is_a_policy_too(tmp_path):
    config = SACConfig(total_steps=200, hidden_sizes=(8,), learning_starts=190, batch_size=4, evaluate_every=0)
    run = facade.train_sac("Pendulum-v1", tmp_path / "sac", config=config)
    policy = foretell.load_policy(run)
    observations = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    policy.reset(num_envs=4)
    actions = policy.act(observations)
    assert actions.shape == (4, 1)
    assert (np.abs(actions) <= 2).all()
    np.testing.assert_array_equal(policy.act(observations), actions)  # deterministic, without memory
    records = facade.evaluate(run, episodes=4)
    returns, _ = one_at_a_time(lambda: foretell.load_policy(run), "Pendulum-v1", evaluation_starts(0, 4))
    np.testing.assert_allclose([record["return"] for record in records], returns, atol=1e-4)
    assert {(record["policy"], record["dataset"], record["target"]) for record in records} == {("sac", None, None)}
    data = facade.collect_sac(run, tmp_path / "agent.hdf5", num_steps=450)
    assert data.episode_lengths.tolist() == [200, 200, 50]
    assert "policy/mlp.weights.0" in data.metadata.extra


@pytest.mark.parametrize("environment", ["CartPole-v1", "Acrobot-v1", "MountainCarContinuous-v0"])
def test_an_environment_of_other_shapes_is_refused(environment, pendulum_run):
    with pytest.raises(UsageError, match="trained"):
        facade.evaluate(pendulum_run, environment=environment, episodes=2)


def test_folders_that_are_no_run_are_refused(tmp_path, pendulum_run):
    with pytest.raises(CheckpointError, match=r"config\.json"):
        foretell.load_policy(tmp_path)
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((pendulum_run / name).read_bytes())
    foretell.load_policy(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for damage in (
        {"model": {**config["model"], "width": 8}}, {"model": {}}, {"normalization": None},
        {"shape": {**config["shape"], "observation_shape": [4]}}, {"condition": "luck"}, {"algorithm": "other"},
        {"kind": "sac"},
    ):  # fmt: skip
        (tmp_path / "config.json").write_text(json.dumps({**config, **damage}))
        with pytest.raises(ForetellError):
            foretell.load_policy(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(CheckpointError):
        foretell.load_policy(tmp_path)


def test_training_with_evaluations_learns_as_without(pendulum_random, tmp_path):
    """Measuring on the way must leave the network trainable."""
    training = TrainingConfig(updates=4, batch_size=4, evaluate_every=1, log_every=1, warmup_updates=0)
    run = facade.train(pendulum_random, tmp_path / "run", model=small_config("decision-transformer"),
                       training=training, validation_episodes=2)  # fmt: skip
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    measured = [event for event in events if event["event"] == "evaluation"]
    assert [(event["update"], event["episodes"]) for event in measured] == [(1, 2), (2, 2), (3, 2), (4, 2)]
    assert len({event["mean_return"] for event in measured}) == 4


def test_from_python_records_are_kept_where_they_are_wanted(pendulum_run, tmp_path):
    out = tmp_path / "records/own.jsonl"
    found = facade.evaluate(pendulum_run, episodes=3, out=out)
    facade.evaluate(pendulum_run, episodes=3, target_returns=[-300.0], out=out)
    kept = read_json_lines(out)
    assert [{**one, "checksum": None} for one in kept[:3]] == [{**one, "checksum": None} for one in found]
    assert [one["target"] for one in kept] == [None] * 3 + [-300.0] * 3
    assert len(facade.evaluate(pendulum_run, episodes=2)) == 2
    assert len(read_json_lines(out)) == 6, "without out nothing is written"
    with pytest.raises(UsageError, match="out is 3; expected the name of a file"):
        facade.evaluate(pendulum_run, episodes=2, out=3)
    with pytest.raises(UsageError, match="a folder, expected the name of a file"):
        facade.evaluate(pendulum_run, episodes=2, out=tmp_path)
