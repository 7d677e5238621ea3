"""Arguments that every function takes (paths, seeds, progress), and those that describe data: one sentence each."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import foretell
from foretell import facade
from foretell.agents.configs import SACConfig
from foretell.collection.recipes import collect_random
from foretell.core.errors import DatasetError, UsageError
from foretell.core.settings import LARGEST_SEED, check_progress
from foretell.datasets.dataset import DatasetMetadata
from foretell.datasets.stored_metadata import from_arrays, to_arrays
from foretell.evaluation.protocol import MOST_EPISODES, evaluation_starts
from foretell.facade.seeds import train_seeds
from foretell.sequences.scaling import ActionRange
from foretell.sequences.targets import target_rule
from reference.making import small_config

SMALL = {"algorithm": "mlp", "model": small_config("mlp"), "training": foretell.TrainingConfig(updates=2, batch_size=4)}
TOO_LARGE = LARGEST_SEED + 1


def _unchecked(function):
    return inspect.unwrap(function)


def _train(dataset, out, **arguments):
    return _unchecked(facade.train)(dataset, out, **{**SMALL, **arguments})


def _episode(**changes):
    given = {
        "observations": [[0.0], [1.0], [2.0]], "actions": [[0.0], [1.0]], "rewards": [1.0, 2.0],
        "terminations": [False, True], "truncations": [False, False], **changes,
    }  # fmt: skip
    return _unchecked(foretell.Episode)(**given)


@pytest.mark.filterwarnings("ignore:.*Using the latest versioned environment")
def test_an_environment_is_named_with_its_version(tmp_path):
    """Data that name CartPole alone would mean another task once there is a CartPole-v2."""
    with pytest.raises(UsageError, match="'CartPole' is, today, the newest of several versions; expected CartPole-v1"):
        collect_random("CartPole", 10, 0, tmp_path / "a.hdf5")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("given", [None, 5, ["a"], np.zeros(2), ""])
@pytest.mark.parametrize(("name", "call"), [
    ("out", lambda data, given: _train(data, given)),
    ("out", lambda data, given: _unchecked(facade.train_iql)(data, given)),
    ("out", lambda data, given: _unchecked(facade.train_sac)("Pendulum-v1", given)),
    ("out", lambda data, given: _unchecked(train_seeds)(data, given, [0])),
    ("run", lambda data, given: _unchecked(facade.load_policy)(given)),
    ("run", lambda data, given: _unchecked(facade.evaluate)(given)),
    ("run", lambda data, given: _unchecked(facade.collect_sac)(given, "a.hdf5", num_steps=10)),
    ("path", lambda data, given: _unchecked(facade.collect_imagined)(data, given, num_steps=10)),
    ("path", lambda data, given: _unchecked(collect_random)("Pendulum-v1", 10, 0, given)),
])  # fmt: skip
def test_what_names_no_file(name, call, given, pendulum_random):
    with pytest.raises(UsageError, match=f"{name} is .*; expected the name of a file or folder"):
        call(pendulum_random, given)


def test_what_may_be_left_out_and_is_no_name_either(pendulum_random, tmp_path):
    for name in ("initial_weights", "values_from"):
        for given in (0, [], np.zeros(2)):
            with pytest.raises(UsageError, match=f"{name} is .*; expected the name of a file or folder"):
                _train(pendulum_random, tmp_path / "run", condition="value", **{name: given})
    for given in (0, [], np.zeros(2)):
        with pytest.raises(UsageError, match=r"environment is .*; expected the id"):
            _train(pendulum_random, tmp_path / "run", environment=given)
    with pytest.raises(UsageError, match="condition is of type ndarray; expected str"):
        _train(pendulum_random, tmp_path / "run", condition=np.zeros(2))
    with pytest.raises(UsageError, match=r"run is 5; expected the name of a file or folder"):
        _unchecked(foretell.write_comparison)([5], tmp_path / "out")
    with pytest.raises(UsageError, match=r"runs is 5; expected a run folder, or a list"):
        _unchecked(foretell.write_comparison)(5, tmp_path / "out")


@pytest.mark.parametrize("call", [
    lambda data, folder: _train(data, folder / "run", seed=TOO_LARGE),
    lambda data, folder: _unchecked(facade.train_iql)(data, folder / "run", seed=TOO_LARGE),
    lambda data, folder: _unchecked(facade.train_sac)("Pendulum-v1", folder / "run", seed=TOO_LARGE),
    lambda data, folder: _unchecked(collect_random)("Pendulum-v1", 10, TOO_LARGE, folder / "a.hdf5"),
    lambda data, folder: _unchecked(facade.collect_imagined)(data, folder / "a.hdf5", num_steps=10, seed=TOO_LARGE),
])  # fmt: skip
def test_a_seed_that_no_file_keeps_is_refused_before_any_work(call, pendulum_random, tmp_path):
    with pytest.raises(UsageError, match=f"seed is {TOO_LARGE}; expected at most {LARGEST_SEED}"):
        call(pendulum_random, tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_largest_seed_is_kept(tmp_path):
    dataset = collect_random("Pendulum-v1", 10, LARGEST_SEED, tmp_path / "a.hdf5")
    assert dataset.metadata.seed == LARGEST_SEED


@pytest.mark.parametrize(("arguments", "message"), [
    ({"seed": 1.5}, "seed is 1.5; expected a whole number"),
    ({"seed": None}, "seed is None; expected a whole number"),
    ({"progress": None}, "progress is None; expected a function"),
    ({"observation_transform": 1}, "observation_transform is 1; expected a function"),
    ({"environment": 3}, "environment is 3; expected the id"),
])  # fmt: skip
def test_random_collection(arguments, message, tmp_path):
    given = {"environment": "Pendulum-v1", "num_steps": 10, "seed": 0, "path": tmp_path / "a.hdf5", **arguments}
    with pytest.raises(UsageError, match=message):
        _unchecked(collect_random)(**given)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("target", [np.array(-150.0), torch.tensor(-150.0), np.float32(-150), -150])
def test_a_target_may_be_anybodys_single_number(target):
    assert target_rule("return", target) == {"rule": "given", "return": -150.0}


@pytest.mark.parametrize("target", [None, [-100.0], np.array([-100.0]), {}, True, 10**400, "much"])
def test_a_target_is_one_number(target, pendulum_random, tmp_path):
    with pytest.raises(UsageError, match=r"target .*; expected a number"):
        _train(pendulum_random, tmp_path / "run", target=target)


@pytest.mark.parametrize(("low", "high", "message"), [
    (None, (1.0,), "low is None; expected a number for each component"),
    ("1", (1.0,), "low is '1'; expected a number for each component"),
    ((-1.0, "x"), (1.0, 1.0), "low is 'x'; expected a number"),
    ((-1.0, -1.0), (1.0,), "expected as many numbers in both"),
    ((1.0,), (-1.0,), "expected no low above its high"),
    ((float("nan"),), (1.0,), "expected no low above its high"),
])  # fmt: skip
def test_a_range_of_actions(low, high, message):
    with pytest.raises(UsageError, match=message):
        _unchecked(ActionRange)(low=low, high=high)


def test_a_range_of_numpys_numbers_is_pythons():
    assert _unchecked(ActionRange)(low=torch.tensor([-1.0]), high=(one for one in [1.0])).low == (-1.0,)
    found = _unchecked(ActionRange)(low=np.float32([-1, -2]), high=[np.int64(1), 2])
    assert (found.low, found.high) == ((-1.0, -2.0), (1, 2))
    json.dumps([found.low, found.high])


@pytest.mark.parametrize(("low", "high"), [((-2.0, -2.0), (2.0, 2.0)), ((), ()), ((-np.inf,), (np.inf,))])
def test_a_range_of_other_actions_than_the_data_have(low, high, pendulum_random, tmp_path):
    with pytest.raises(UsageError, match=r"action_range from .*; expected 1 finite number in both"):
        _train(pendulum_random, tmp_path / "run", action_range=ActionRange(low=low, high=high))


def test_a_narrow_range_is_warned_of_and_a_wide_one_is_not(pendulum_random, tmp_path, recwarn):
    _train(pendulum_random, tmp_path / "wide", action_range=ActionRange(low=(-3.0,), high=(3.0,)))
    assert not [one for one in recwarn if "action_range" in str(one.message)]
    narrow = ActionRange(low=(-1.0,), high=(1.0,))
    with pytest.warns(UserWarning, match="has actions beyond that, which the model is shown and will never take"):
        _train(pendulum_random, tmp_path / "narrow", action_range=narrow)


def test_who_takes_part_is_said_or_nobody_else_does(pendulum_random, tmp_path):
    assert _train(pendulum_random, tmp_path / "run", processes=None) == tmp_path / "run"
    for name in ("processes", "meeting"):
        with pytest.raises(UsageError, match=f"{name} is of type str; expected"):
            _train(pendulum_random, tmp_path / "other", **{name: "x"})


def test_choices_have_no_range(cartpole_random, tmp_path):
    with pytest.raises(UsageError, match=r"action_range: the actions of .* are choices"):
        _train(cartpole_random, tmp_path / "run", action_range=ActionRange(low=(0.0,), high=(1.0,)))


def test_seeds_are_several_and_each_another(pendulum_random, tmp_path):
    with pytest.raises(UsageError, match="seeds is 3; expected several"):
        _unchecked(train_seeds)(pendulum_random, tmp_path / "all", 3, **SMALL)
    for seeds in ([], [0, 0], (1, 2, 1)):
        with pytest.raises(UsageError, match="expected at least one, and each of them once"):
            _unchecked(train_seeds)(pendulum_random, tmp_path / "all", seeds, **SMALL)
    with pytest.raises(UsageError, match="progress is None"):
        _unchecked(train_seeds)(pendulum_random, tmp_path / "all", [0], progress=None, **SMALL)


@pytest.mark.parametrize("progress", [lambda done, total: None, lambda: None, lambda done, total, loss: None])
def test_progress_that_could_not_be_called_is_refused_before_any_work(progress, pendulum_random, tmp_path):
    with pytest.raises(UsageError, match=r"progress takes \(.*\), and cannot be called .*; expected \(done, total"):
        _train(pendulum_random, tmp_path / "run", progress=progress)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("progress", [
    lambda *_, **__: None, lambda done, total, loss=0.0, **more: None, dict,
])  # fmt: skip
def test_progress_that_can_be_called_is_taken(progress):
    check_progress(progress)


def test_so_many_episodes_that_no_machine_runs_them():
    with pytest.raises(UsageError, match=r"expected at least 1, and at most 1,000,000"):
        evaluation_starts(0, MOST_EPISODES + 1)
    assert len(evaluation_starts(0, 3000)) == 3000


def test_a_planners_seed_is_checked_before_it_trains():
    with pytest.raises(UsageError, match="seed is -1; expected a number of 0 or more"):
        foretell.PlanningConfig(seed=-1)


def test_settings_in_numpys_numbers_are_kept_with_the_data():
    kept = {"lr": np.float32(0.5), "sizes": np.array([2, 3]), "folder": Path("a"), "on": np.True_}
    back = from_arrays(to_arrays(DatasetMetadata(hyperparameters=kept, seed=np.int64(7))))
    assert back.hyperparameters == {"lr": 0.5, "sizes": [2, 3], "folder": "a", "on": True}
    assert back.seed == 7
    assert from_arrays({"seed": np.asarray(-3, np.int64)}).seed == -3  # of another program
    for seed in (-3, np.int64(-3), -(2**63)):
        assert to_arrays(DatasetMetadata(seed=seed))["seed"] == seed
    assert to_arrays(_unchecked(DatasetMetadata)(hyperparameters=None, versions=None)) == {}


@pytest.mark.parametrize(("changes", "message"), [
    ({"hyperparameters": {"lr": float("nan")}}, "hyperparameters cannot be kept as JSON"),
    ({"hyperparameters": {"net": object()}}, "hyperparameters cannot be kept as JSON .*object is no value of JSON"),
    ({"versions": 1}, "versions is 1; expected values by name"),
    ({"seed": "x"}, "seed is 'x'; expected a whole number"),
    ({"seed": 2**63}, "seed is 9223372036854775808; expected at most"),
])  # fmt: skip
def test_what_cannot_be_kept_with_the_data(changes, message):
    with pytest.raises(UsageError, match=message):
        to_arrays(_unchecked(DatasetMetadata)(**changes))


def test_parts_of_data_that_are_not_there(pendulum_random):
    columns = {name: getattr(pendulum_random, name) for name in (
        "name", "observations", "actions", "rewards", "terminations", "truncations", "next_observations", "episode_ends"
    )}  # fmt: skip
    for name in ("observations", "actions", "episode_ends"):
        with pytest.raises(UsageError, match=f"{name} is None; expected one row a timestep"):
            _unchecked(foretell.Dataset)(**{**columns, name: None})
    with pytest.raises(DatasetError, match="infos None; expected arrays by name"):
        _episode(infos=None)
    for index in (9999, 1.5, "x"):
        with pytest.raises(DatasetError, match=r"asked for episode .*; expected 0 to"):
            _unchecked(foretell.Dataset.episode)(pendulum_random, index)
    _unchecked(foretell.Dataset.episode)(pendulum_random, np.array(1))
    last = pendulum_random.num_episodes - 1
    np.testing.assert_array_equal(pendulum_random.episode(-1).rewards, pendulum_random.episode(last).rewards)
    with pytest.raises(UsageError, match="start is 'x'; expected a whole number"):
        _unchecked(foretell.Dataset.section)(pendulum_random, "x", 5)


def test_a_target_that_learns_is_no_number(pendulum_run):
    policy = foretell.load_policy(pendulum_run)
    with pytest.raises(UsageError, match=r"target return .*; expected a number"):
        _unchecked(type(policy).reset)(policy, 2, torch.ones(2, requires_grad=True))


def test_an_agents_settings_are_public():
    assert foretell.SACConfig is SACConfig
    assert issubclass(UsageError, foretell.ForetellError)
    assert foretell.ActionRange is ActionRange
    assert foretell.DynamicsConfig().members == 5
