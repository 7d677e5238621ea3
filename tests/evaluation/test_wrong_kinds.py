"""Arguments of another kind than a function takes, from Python: one sentence names the argument and what it takes."""

from __future__ import annotations

import inspect
import json

import gymnasium
import numpy as np
import pytest

import foretell
from foretell import facade
from foretell.agents.configs import SACConfig
from foretell.collection.recipes import collect_random
from foretell.core.episode import Episode
from foretell.core.errors import DatasetError, UsageError
from foretell.evaluation import protocol
from reference.making import small_config

SMALL = foretell.TrainingConfig(updates=2, batch_size=4)
SMALL_VALUES = foretell.IQLConfig(updates=2, batch_size=4, hidden_sizes=(4,))
SMALL_AGENT = SACConfig(total_steps=210, learning_starts=205, hidden_sizes=(4,), batch_size=4)
PENDULUM = gymnasium.make("Pendulum-v1")


def _unchecked(function):
    """The function without the types that every test is run under."""
    return inspect.unwrap(function)


@pytest.mark.parametrize(("arguments", "message"), [
    ({"training": {"updates": 20}}, "training is of type dict; expected TrainingConfig"),
    ({"training": foretell.LSTMConfig()}, "training is of type LSTMConfig; expected TrainingConfig"),
    ({"model": "lstm"}, "model is of type str; expected DecisionTransformerConfig"),
    ({"model": foretell.LSTMConfig()}, "model is of type LSTMConfig; expected DecisionTransformerConfig, or alg.*lstm"),
    ({"values": {}}, "values is of type dict; expected IQLConfig"),
    ({"seed": 1.5}, "seed is 1.5; expected a whole number"),
    ({"seed": "1"}, "seed is '1'; expected a whole number"),
    ({"seed": -1}, "seed is -1; expected a whole number of 0 or more"),
    ({"environment": PENDULUM}, "environment is .*; expected the id"),
    ({"dataset": [1, 2]}, "dataset is of type list; expected the path of a file"),
    ({"algorithm": ["mlp"]}, "algorithm is of type list; expected str"),
    ({"validation_episodes": "x"}, "validation_episodes is 'x'; expected a whole number"),
    ({"validation_episodes": None}, "validation_episodes is None; expected a whole number"),
    ({"best_share": "x"}, "best_share is 'x'; expected a number"),
    ({"best_share": None}, "best_share is None; expected a number"),
    ({"best_share": float("nan")}, "best share nan; expected more than 0 and at most 1"),
    ({"progress": None}, "progress is None; expected a function"),
])  # fmt: skip
def test_training(arguments, message, pendulum_random, tmp_path):
    given = {"dataset": pendulum_random, "out": tmp_path / "run", "training": SMALL, **arguments}
    with pytest.raises(UsageError, match=message):
        _unchecked(facade.train)(**given)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("arguments", "message"), [
    ({"episodes": 2.5}, "episodes is 2.5; expected a whole number"),
    ({"episodes": "3"}, "episodes is '3'; expected a whole number"),
    ({"target_returns": "much"}, "target returns 'much'; expected numbers"),
    ({"target_returns": [1e300]}, "expected finite numbers"),
    ({"environment": PENDULUM}, "environment is .*; expected the id"),
    ({"root_seed": 1.5}, "root_seed is 1.5; expected a whole number"),
    ({"root_seed": "a"}, "root_seed is 'a'; expected a whole number"),
    ({"acting": 3}, "acting is of type int; expected settings by name"),
    ({"acting": []}, "acting is of type list; expected settings by name"),
    ({"acting": foretell.PlanningConfig()}, "acting is of type PlanningConfig; expected settings by name"),
    ({"acting": {1: 2}}, "1: no settings of how .* acts"),
    ({"name": 3}, "name is of type int; expected str"),
    ({"progress": None}, "progress is None; expected a function"),
])  # fmt: skip
def test_evaluating(arguments, message, pendulum_run):
    for run, environment in ((pendulum_run, None), ("random", "Pendulum-v1")):
        if not (run == "random" and "target_returns" in arguments):
            with pytest.raises(UsageError, match=message):
                _unchecked(facade.evaluate)(run, **{"episodes": 2, "environment": environment, **arguments})


@pytest.mark.parametrize(("acting", "message"), [
    (3, "acting is of type int; expected settings by name"),
    (foretell.PlanningConfig(), "acting is of type PlanningConfig; expected settings by name"),
    ({1: 2}, "1: no settings of how a run of decision-transformer acts"),
])  # fmt: skip
def test_settings_of_acting_are_changed_by_name(acting, message, pendulum_run):
    with pytest.raises(UsageError, match=message):
        _unchecked(foretell.load_policy)(pendulum_run, acting=acting)


@pytest.mark.parametrize("root_seed", [1.5, "a"])
def test_a_level_has_a_seed(root_seed):
    with pytest.raises(UsageError, match=f"root_seed is {root_seed!r}; expected a whole number"):
        _unchecked(facade.validation_level)("random", "Pendulum-v1", episodes=1, root_seed=root_seed)


def test_numbers_of_numpy_are_kept_as_pythons(pendulum_random, tmp_path):
    made = {
        "train": facade.train(
            pendulum_random, tmp_path / "train", model=small_config("mlp"), algorithm="mlp", training=SMALL,
            validation_episodes=np.int64(2), best_share=np.float32(0.5),
        ),
        "train_iql": facade.train_iql(
            pendulum_random, tmp_path / "train_iql", values=SMALL_VALUES, validation_episodes=np.int64(2)
        ),
        "train_sac": facade.train_sac(
            "Pendulum-v1", tmp_path / "train_sac", config=SMALL_AGENT, validation_episodes=np.int64(2)
        ),
    }  # fmt: skip
    for run in made.values():
        assert json.loads((run / "config.json").read_text())["validation"] == {"root_seed": 0, "episodes": 2}
    assert json.loads((made["train"] / "config.json").read_text())["best_share"] == 0.5


@pytest.mark.parametrize(("arguments", "message"), [
    ({"validation_episodes": "x"}, "validation_episodes is 'x'; expected a whole number"),
    ({"progress": None}, "progress is None; expected a function"),
])  # fmt: skip
def test_training_of_values_and_agents(arguments, message, pendulum_random, tmp_path):
    with pytest.raises(UsageError, match=message):
        _unchecked(facade.train_iql)(pendulum_random, tmp_path / "run", values=SMALL_VALUES, **arguments)
    with pytest.raises(UsageError, match=message):
        _unchecked(facade.train_sac)("Pendulum-v1", tmp_path / "run", config=SMALL_AGENT, **arguments)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("arguments", "message"), [
    ({"seed": 1.5}, "seed is 1.5; expected a whole number"),
    ({"seed": "a"}, "seed is 'a'; expected a whole number"),
    ({"num_steps": "x"}, "num_steps is 'x'; expected a whole number"),
    ({"progress": None}, "progress is None; expected a function"),
    ({"config": {}}, "config is of type dict; expected DynamicsConfig"),
])  # fmt: skip
def test_collecting(arguments, message, pendulum_random, tmp_path):
    given = {"path": tmp_path / "made.hdf5", "num_steps": 200, **arguments}
    with pytest.raises(UsageError, match=message):
        _unchecked(facade.collect_imagined)(pendulum_random, **given)
    if "config" not in arguments:
        with pytest.raises(UsageError, match=message):
            _unchecked(facade.collect_sac)(tmp_path, **given)
    assert not list(tmp_path.iterdir())


def test_a_whole_number_may_be_written_as_a_float(pendulum_run):
    assert len(_unchecked(facade.evaluate)(pendulum_run, episodes=2.0)) == 2


def test_one_target_may_stand_alone(pendulum_run):
    with pytest.warns(UserWarning, match="outside the returns"):
        alone, listed = (facade.evaluate(pendulum_run, episodes=2, target_returns=one) for one in (-9.0, [-9.0]))
    assert alone == listed


def test_agents_and_recordings(tmp_path):
    with pytest.raises(UsageError, match="config is of type dict; expected SACConfig"):
        _unchecked(facade.train_sac)("Pendulum-v1", tmp_path / "run", config={})
    with pytest.raises(UsageError, match="num_steps is '100'; expected a whole number"):
        _unchecked(collect_random)("Pendulum-v1", "100", 0, tmp_path / "a.hdf5")
    assert not list(tmp_path.iterdir())


def test_numbers_that_no_float32_holds_are_refused(pendulum_run):
    policy = foretell.load_policy(pendulum_run)
    with pytest.raises(UsageError, match="finite"):
        policy.reset(1, target_return=1e300)
    policy.reset(1)
    with pytest.raises(DatasetError, match=r"observations hold 1e\+300"):
        policy.act(np.array([[1.0, 0.0, 1e300]]))
    policy.act(np.array([[1.0, 0.0, 0.0]]))
    with pytest.raises(DatasetError, match=r"rewards hold -1e\+39"):
        policy.observe(np.array([-1e39]))


def test_an_episode_may_come_in_lists():
    episode = _unchecked(Episode)(
        observations=[[0.0], [1.0], [2.0]], actions=[[0.0], [1.0]], rewards=[1.0, 2.0], terminations=[False, True],
        truncations=[False, False],
    )  # fmt: skip
    assert (len(episode), episode.total_reward, episode.terminated) == (2, 3.0, True)


def test_what_there_is_can_be_listed():
    assert {"train", "Episode", "TrainingConfig", "load_policy"} <= set(dir(foretell))


@pytest.mark.parametrize(("environment", "actions", "message"), [
    ("Pendulum-v1", np.full((4, 1), np.nan, np.float32), "act gave nan; expected finite numbers"),
    ("Pendulum-v1", np.zeros((1, 1), np.float32), r"act gave actions of shape \(1, 1\); expected \(4, 1\)"),
    ("Pendulum-v1", np.zeros((4, 2), np.float32), r"of shape \(4, 2\); expected \(4, 1\)"),
    ("Pendulum-v1", np.zeros(4, np.float32), r"of shape \(4,\); expected \(4, 1\)"),
    ("CartPole-v1", np.zeros(1, np.int64), r"of shape \(1,\); expected \(4,\)"),
])  # fmt: skip
def test_what_a_policy_of_ones_own_does(environment, actions, message):
    with pytest.raises(UsageError, match=message):
        protocol.evaluate(Always(actions), environment, range(4))


def test_a_policy_may_act_in_lists():
    assert protocol.evaluate(Always([[0.0]] * 2), "Pendulum-v1", range(2)).lengths.tolist() == [200, 200]


class Always:
    def __init__(self, actions):
        self.actions = actions

    def reset(self, num_envs, target_return=None): ...

    def act(self, observations):
        return self.actions

    def observe(self, rewards): ...
