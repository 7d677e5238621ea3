"""The presets say what they claim: the report's Table I to the letter, and ours with a measured result."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from foretell.core.errors import UsageError
from foretell.presets.pendulum import preset, quick

TABLE = Path(__file__).resolve().parents[2] / "docs" / "results" / "table.json"
TABLE_I = {  # dataset: batch size, embedding dimension, learning rate, weight decay, updates
    "pendulum-random": (64, 128, 1e-4, 1e-4, 1_000_000),
    "pendulum-medium-replay": (64, 32, 1e-2, 1e-4, 1_000_000),
    "pendulum-medium": (64, 64, 1e-2, 1e-4, 1_000_000),
}
STEPS = {"pendulum-random": 1_000_000, "pendulum-medium-replay": 1_000, "pendulum-medium": 200_000}


def test_the_reports_settings_are_its_table_i():
    experiment = preset("report_2021")
    plans, (method,) = {plan.name: plan for plan in experiment.datasets}, experiment.methods
    assert (method.algorithm, method.condition) == ("decision-transformer", "return")
    for name, expected in TABLE_I.items():
        plan, lesson, training = plans[name], method.lessons[name], method.lessons[name].training
        found = (
            training.batch_size, lesson.model.width, training.learning_rate, training.weight_decay, training.updates
        )  # fmt: skip
        assert found == expected, name
        assert (training.evaluate_every, training.schedule, training.warmup_updates) == (100_000, "constant", 0)
        assert plan.steps == STEPS[name]
    assert preset("report_2021").validation_episodes == 200


def test_table_ii_is_carried_over():
    experiment = preset("pendulum")
    assert (experiment.report_random, experiment.report_sac) == (-1228.31, -138.44)
    reported = {plan.name: plan.report for plan in experiment.datasets}
    assert reported == {
        "pendulum-random": -1235.27, "pendulum-medium-replay": -1025.76, "pendulum-full-replay": None,
        "pendulum-medium": -607.84,
    }  # fmt: skip


def test_a_smoke_run_is_small_whatever_it_is_of():
    for name in ("pendulum", "report_2021"):
        for entry in quick(preset(name)).entries(league=True):
            lesson = entry.lesson
            assert lesson.training is None or lesson.training.updates <= 200
            assert lesson.values is None or lesson.values.updates <= 200
            assert (lesson.imagined or 0) <= 10_000


def test_the_league_has_every_method_on_every_dataset():
    entries = [(entry.method.name, entry.dataset.name) for entry in preset("pendulum").entries(league=True)]
    methods = dict.fromkeys(method for method, _ in entries)
    assert {"decision-transformer", "decision-transformer-advantage", "bc", "bc-sequence", "bc-best", "rvs", "lstm",
            "iql"} <= set(methods)  # fmt: skip
    datasets = [plan.name for plan in preset("pendulum").datasets]
    assert entries == [(method, dataset) for method in methods for dataset in datasets]


def test_an_unknown_preset_is_refused():
    with pytest.raises(UsageError, match="expected one of pendulum, report_2021"):
        preset("typo")


def test_the_committed_table_keeps_what_the_readme_says():
    """Within 5 of the agent on its own data, within 15 on its replay: five training seeds, 200 starts."""
    table = json.loads(TABLE.read_text(encoding="utf-8"))
    rows = {row["name"]: row for row in table["rows"]}
    assert table["protocol"]["evaluation_starts"] == 200
    for name, most in (
        ("pendulum-medium", 5.0),
        ("pendulum-full-replay.decision-transformer-advantage", 5.0),
        ("pendulum-full-replay", 15.0),
    ):
        assert len(rows[name]["training_seeds"]) >= 5
        assert rows[name]["difference_to_sac"] >= -most
