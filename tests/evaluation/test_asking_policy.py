"""What a policy tells its model by the rule of its run: by hand, in every condition, and after a restart."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
import torch

from conformance.checks import notices
from foretell import facade
from foretell.core.errors import CheckpointError, UsageError
from foretell.core.seeding import derive_seeds
from foretell.evaluation.conditioned import ConditionedPolicy
from foretell.evaluation.policies import ASKED, restore_policy
from foretell.evaluation.protocol import evaluation_starts
from foretell.sequences.targets import Telling
from foretell.training.configs import TrainingConfig
from foretell.values.acting import ImitationPolicy
from foretell.values.asking import Asking
from foretell.values.configs import IQLConfig
from foretell.values.functions import ValueFunctions
from foretell.values.quantiles import StateQuantile
from reference.making import VECTOR, RecordingModel, scaled, small_config, small_model
from reference.measuring import one_at_a_time

K = 3
REWARDS = np.array([[1.0, 0.0], [2.0, -5.0], [4.0, 2.0], [8.0, 0.0]])
FIRST = np.array([[5.0], [9.0]])
"""Normalised 2 and 4."""
LATER = np.array([[21.0], [41.0]])


def _rule(condition="return"):
    """A rule that asks for 3 x + 1 where x > 0 is the normalised start: 7 and 13 of `FIRST`, times 10 reward units."""
    telling = Telling(condition=condition, scale=10.0)
    found = StateQuantile(scaled(1), telling, observation_dim=1, max_timesteps=4).requires_grad_(False)
    for parameter in found.parameters():
        parameter.zero_()
    weights, biases = found.network.weights, found.network.biases
    weights[0][0, 0, 0] = weights[1][0, 0, 0] = 1.0
    weights[2][0, 0, 0], biases[2][0, 0, 0] = 3.0, 1.0
    weights[0][0, 1, 1] = weights[1][0, 1, 1] = weights[2][0, 1, 0] = 100.0  # what a later timestep would add
    return Asking(telling=telling, target=found)


def _told(asking, target=None, *, first=FIRST, policy=None):
    """Play four timesteps of two environments; return what the model was told, `(call, environment, window)`."""
    model = RecordingModel([0.0] * 4, context_length=K) if policy is None else policy.model
    model.seen.clear()
    policy = policy or ConditionedPolicy(model, scaled(1), asking)
    policy.reset(2, target)
    for observations, rewards in zip([first, LATER, LATER, LATER], REWARDS):
        policy.act(observations)
        policy.observe(rewards)
    return [seen["returns_to_go"][..., 0] for seen in model.seen], policy


SPENT = [  # (7.0, 13.0) at first; -0.1, -0.2, -0.4 and 0, +0.5, -0.2 from one timestep to the next
    [[7.0], [13.0]],
    [[7.0, 6.9], [13.0, 13.0]],
    [[7.0, 6.9, 6.7], [13.0, 13.0, 13.5]],
    [[6.9, 6.7, 6.3], [13.0, 13.5, 13.3]],  # t = K
]


def _near(found, expected):
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-4)


def check_rule_of_each_start(condition="return"):
    """By hand for t = 0, 1, K - 1, K: each start's own return at first, then less by the rewards."""
    _near(_told(_rule(condition))[0], SPENT)


@pytest.mark.parametrize("condition", ["return", "value"])
def test_each_environment_is_told_the_rule_of_its_own_start(condition):
    check_rule_of_each_start(condition)


def test_a_rule_that_is_asked_again_is_noticed(monkeypatch):
    plain = ConditionedPolicy.act

    def again(self, observations):
        self._target = self.asking.at_start(observations)
        return plain(self, observations)

    monkeypatch.setattr(ConditionedPolicy, "act", again)
    notices(check_rule_of_each_start)


def test_a_rule_of_the_first_environment_alone_is_noticed(monkeypatch):
    plain = StateQuantile.at_start
    monkeypatch.setattr(StateQuantile, "at_start", lambda self, seen: np.full(len(seen), plain(self, seen)[0]))
    notices(check_rule_of_each_start)


def check_constant():
    """An advantage of 0.98 is told as 0.96, whatever is earned."""
    asking = Asking(telling=Telling(condition="advantage"), target=0.98)
    _near(_told(asking)[0], [[[0.96] * length] * 2 for length in (1, 2, 3, 3)])


def test_an_advantage_stays_as_it_is():
    check_constant()


def test_an_advantage_that_is_spent_is_noticed(monkeypatch):
    monkeypatch.setattr(Telling, "spent", True)
    notices(check_constant)


def test_behaviour_cloning_is_told_nothing():
    asking = Asking(telling=Telling(condition="none"), target=0.0)
    _near(_told(asking)[0], [[[0.0] * length] * 2 for length in (1, 2, 3, 3)])


def test_a_bare_number_is_a_return_in_reward_units():
    _near(_told(70.0)[0], [[told[0], (np.array(told[1]) - 6.0).tolist()] for told in SPENT])  # 7.0 for both


@pytest.mark.parametrize("target", [100.0, np.array([100.0, -20.0])], ids=["one", "each"])
def test_an_explicit_target_overrides_the_rule(target, monkeypatch):
    monkeypatch.setattr(StateQuantile, "at_start", None)  # not even consulted
    firsts = np.broadcast_to(target, 2) / 10
    expected = [(np.array(told) + (firsts - [7.0, 13.0])[:, None]).tolist() for told in SPENT]
    _near(_told(_rule(), target)[0], expected)


def test_an_explicit_advantage_overrides_the_rule():
    asking = Asking(telling=Telling(condition="advantage"), target=0.98)
    found, _ = _told(asking, np.array([0.25, 1.0]))
    _near(found, [[[-0.5] * length, [1.0] * length] for length in (1, 2, 3, 3)])


def test_every_episode_asks_anew():
    """The rule looks at the new start, not the old one, and an explicit target does not outlive its episode."""
    asking = _rule()
    _, policy = _told(asking)
    second, _ = _told(asking, policy=policy, first=FIRST[::-1])
    _near(second[:2], [[[13.0], [7.0]], [[13.0, 12.9], [7.0, 7.0]]])
    _told(asking, 500.0, policy=policy)
    _near(_told(asking, policy=policy)[0], SPENT)


def test_targets_of_the_wrong_number_are_refused():
    policy = ConditionedPolicy(RecordingModel([0.0]), scaled(1), _rule())
    for target in (np.zeros(3), np.array([np.nan, 0.0])):
        with pytest.raises(UsageError, match=r"expected one number|finite"):
            policy.reset(2, target)


# From a run folder's content to a policy.


def _saved(condition):
    """Configuration and tensors of a run, and the policy that they are to make."""
    name, telling = "decision-transformer", Telling(condition=condition, scale=10.0)
    quantile = StateQuantile(scaled(), telling, observation_dim=3, max_timesteps=30, seed=2).requires_grad_(False)
    target = {"advantage": 0.75, "none": 0.0}.get(condition, quantile)
    asking, model = Asking(telling=telling, target=target), small_model(name)
    config = {
        "kind": "sequence", "algorithm": name, "condition": condition, "model": asdict(small_config(name)),
        "shape": asdict(VECTOR), "normalization": scaled().to_json(),
    }  # fmt: skip
    asked = {ASKED + key: value for key, value in asking.tensors().items()}
    return config, {**model.state_dict(), **asked}, ConditionedPolicy(model, scaled(), asking)


def _play(policy, target=None):
    rng = np.random.default_rng(4)
    policy.reset(2, target)
    actions = []
    for _ in range(6):
        actions.append(policy.act(rng.normal(size=(2, 3)).astype(np.float32)))
        policy.observe(10 * rng.normal(size=2))
    return np.stack(actions)


@pytest.mark.parametrize("condition", ["return", "value", "advantage", "none"])
def test_a_restored_policy_acts_identically(condition):
    config, tensors, policy = _saved(condition)
    restored = restore_policy(config, tensors)
    np.testing.assert_array_equal(_play(restored), _play(policy))
    if condition != "none":
        np.testing.assert_array_equal(_play(restored, 0.5), _play(policy, 0.5))
        assert np.abs(_play(restored, 0.0) - _play(restored)).max() > 1e-3, "what is asked for has no effect"


@pytest.mark.parametrize("damage", ["all", "scale", "network", "condition", "other condition"])
def test_a_run_that_does_not_say_what_it_asks_for_is_refused(damage):
    config, tensors, _ = _saved("return")
    if damage == "condition":
        del config["condition"]
    if damage == "other condition":
        config["condition"] = "returns"
    lost = {"all": ASKED, "scale": ASKED + "scale", "network": ASKED + "quantile.network.biases"}.get(damage, "!")
    with pytest.raises(CheckpointError):
        restore_policy(config, {name: value for name, value in tensors.items() if not name.startswith(lost)})


def test_value_functions_are_a_policy_that_imitates():
    settings = IQLConfig(hidden_sizes=(8, 5), updates=3)
    functions = ValueFunctions(settings, scaled(), 3, 2, torch.Generator().manual_seed(1))
    plain = {**asdict(settings), "hidden_sizes": [8, 5]}  # as JSON has it
    config = {"kind": "values", "values": plain, "normalization": scaled().to_json()}
    restored = restore_policy(config, functions.state_dict())
    assert isinstance(restored, ImitationPolicy)
    observations = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    np.testing.assert_array_equal(restored.act(observations), ImitationPolicy(functions).act(observations))
    assert restored.functions.config == settings
    with pytest.raises(CheckpointError):
        restore_policy(config, {})


# Runs, and policies without a run, by name.


@pytest.fixture(scope="module")
def on_pendulum(pendulum_random, tmp_path_factory):
    """Runs on random data of Pendulum-v1, hardly trained: two conditions and value functions."""
    folder, training = tmp_path_factory.mktemp("pendulum"), TrainingConfig(updates=1, batch_size=4)
    values = IQLConfig(updates=3, batch_size=8, hidden_sizes=(8, 8))
    found = {"iql": facade.train_iql(pendulum_random, folder / "iql", values=values)}
    for condition, values_from in (("none", None), ("advantage", found["iql"])):
        found[condition] = facade.train(
            pendulum_random, folder / condition, condition=condition, values_from=values_from, training=training,
            model=small_config("decision-transformer"),
        )  # fmt: skip
    return found


def test_value_functions_are_evaluated_and_named(on_pendulum):
    records = facade.evaluate(on_pendulum["iql"], episodes=3, name="imitation")
    returns, _ = one_at_a_time(lambda: facade.load_policy(on_pendulum["iql"]), "Pendulum-v1", evaluation_starts(0, 3))
    np.testing.assert_allclose([record["return"] for record in records], returns, atol=1e-3)
    assert [record["start"] for record in records] == evaluation_starts(0, 3)
    facts = {"policy": "imitation", "algorithm": "iql", "dataset": "pendulum-random", "seed": 0,
             "environment": "Pendulum-v1", "target": None, "length": 200}  # fmt: skip
    assert all(facts.items() <= record.items() for record in records)
    assert facade.evaluate(on_pendulum["iql"], episodes=1)[0]["policy"] == "iql"
    assert facade.evaluate(on_pendulum["none"], episodes=1)[0]["policy"] == "pendulum-random"
    assert facade.evaluate(on_pendulum["none"], episodes=1, name="cloning")[0]["policy"] == "cloning"


def test_an_advantage_may_be_asked_for_in_evaluation(on_pendulum):
    records = facade.evaluate(on_pendulum["advantage"], episodes=2, target_returns=[0.0, 0.98])
    own = facade.evaluate(on_pendulum["advantage"], episodes=2)
    assert [record["target"] for record in records] == [0.0, 0.0, 0.98, 0.98]
    assert [record["return"] for record in own] == pytest.approx([record["return"] for record in records[2:]], rel=1e-5)
    assert own[0]["return"] != records[0]["return"]


@pytest.mark.parametrize("what", ["none", "iql", "random"])
def test_target_returns_are_refused_where_nothing_is_told(what, on_pendulum):
    with pytest.raises(UsageError, match="for sequence models that are told what to earn"):
        facade.evaluate(on_pendulum.get(what, what), episodes=1, target_returns=[-100.0], environment="Pendulum-v1")


def test_uniform_actions_need_no_run():
    found = facade.evaluate("random", environment="Pendulum-v1", episodes=60)
    assert {(r["policy"], r["algorithm"], r["dataset"], r["seed"], r["target"]) for r in found} == {
        ("random", "random", None, 0, None)
    }
    again = facade.evaluate("random", environment="Pendulum-v1", episodes=60, name="floor")
    assert [record["return"] for record in again] == [record["return"] for record in found]
    assert again[0]["policy"] == "floor"
    mean = np.mean([record["return"] for record in found])
    assert abs(mean + 1230.5) < 4 * 290 / np.sqrt(60)  # 20,000 episodes: mean -1230.5, deviation 290
    assert facade.validation_level("random", "Pendulum-v1", episodes=60) != mean


def test_named_policies_need_an_environment_that_they_know():
    for name in ("random", "optimum"):
        with pytest.raises(UsageError, match="needs --environment"):
            facade.evaluate(name)
    with pytest.raises(UsageError, match="known for Pendulum-v1 alone"):
        facade.evaluate("optimum", environment="CartPole-v1")


def test_the_starts_of_named_policies_are_the_shared_ones():
    found = facade.evaluate("random", environment="Pendulum-v1", episodes=2, root_seed=5)
    assert [record["start"] for record in found] == derive_seeds(5, "evaluation-starts", 200)[:2]


def test_the_context_holds_the_actions_that_were_taken():
    """A head without a bound may say more than the environment takes; training never showed that."""
    model = RecordingModel([2.5, -0.5, -3.0, 0.0], context_length=K)
    policy = ConditionedPolicy(model, scaled(1), -10.0)
    policy.reset(1)
    for _ in range(4):
        policy.act(FIRST[:1])
        policy.observe([0.0])
    assert [seen["actions"][0, :-1, 0].tolist() for seen in model.seen] == [[], [1.0], [1.0, -0.5], [-0.5, -1.0]]
