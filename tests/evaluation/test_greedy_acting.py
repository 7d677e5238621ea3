"""A run of value functions acts greedily where it is asked to: from Python, on the command line, beside imitation."""

from __future__ import annotations

import json

import numpy as np
import pytest

import foretell
from foretell import facade
from foretell.cli import main as command_line
from foretell.core.errors import UsageError
from foretell.evaluation.policies import restore_values
from foretell.facade.run_card import run_card
from foretell.training.run_folder import load_run
from foretell.values.acting import GreedyPolicy, ImitationPolicy

SETTINGS = foretell.IQLConfig(updates=20, batch_size=32, hidden_sizes=(8,))


@pytest.fixture(scope="module")
def run(pendulum_random, tmp_path_factory):
    return facade.train_iql(pendulum_random, tmp_path_factory.mktemp("greedy") / "iql", values=SETTINGS)


def test_greedy_is_asked_for_by_name(run):
    functions, observations = restore_values(*load_run(run)), np.random.default_rng(0).normal(size=(50, 3))
    for acting, expected in (
        ({"greedy": True}, GreedyPolicy(functions)), ({"greedy": False}, ImitationPolicy(functions)),
        (None, ImitationPolicy(functions)),
    ):  # fmt: skip
        found = foretell.load_policy(run, acting=acting).act(observations)
        np.testing.assert_array_equal(found, expected.act(observations))
    assert not np.allclose(GreedyPolicy(functions).act(observations), ImitationPolicy(functions).act(observations))
    with pytest.raises(UsageError, match="greedy is 3; expected True or False"):
        foretell.load_policy(run, acting={"greedy": 3})


def test_the_records_of_both_lie_beside_each_other(run, capsys):
    out = run / "evaluations.jsonl"
    for flags in ([], ["--greedy"], ["--greedy"]):
        assert command_line.main(["evaluate", str(run), "--episodes", "3", "--threads", "1", *flags]) == 0
    records = [json.loads(line) for line in out.read_text().splitlines()]
    records = [record for record in records if "return" in record]
    assert sorted(record["policy"] for record in records) == ["iql"] * 3 + ["iql-greedy"] * 3
    imitated, greedy = ([one["return"] for one in records if one["policy"] == name] for name in ("iql", "iql-greedy"))
    assert imitated != greedy
    capsys.readouterr()


def test_value_functions_without_a_policy_can_act_greedily_alone(pendulum_random, tmp_path):
    run = facade.train(
        pendulum_random, tmp_path / "run", algorithm="mlp", condition="advantage",
        model=foretell.MLPConfig(width=8, layers=1), training=foretell.TrainingConfig(updates=2, batch_size=4),
        values=foretell.IQLConfig(updates=20, batch_size=32, hidden_sizes=(8,), policy=False),
    )  # fmt: skip
    assert len(facade.evaluate(run / "values", episodes=2, acting={"greedy": True})) == 2
    assert run_card(run / "values")["parameters"] > 0
    with pytest.raises(UsageError, match="without a policy"):
        foretell.load_policy(run / "values")


def test_who_has_no_values_is_not_greedy(pendulum_run):
    with pytest.raises(UsageError, match="greedy: no settings of how a run of decision-transformer acts"):
        foretell.load_policy(pendulum_run, acting={"greedy": True})
