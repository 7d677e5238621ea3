"""A tiny league with worked numbers: two methods, two datasets, three start states, two training seeds."""

from __future__ import annotations

RANDOM_DATA, MEDIUM_DATA = "pendulum-random", "pendulum-medium"
STARTS = (33, 11, 22)  # not ascending, as they are drawn
RETURNS = {
    ("random", 0): [-1200.0, -1000.0, -1100.0],
    ("sac", 0): [-300.0, -100.0, -200.0],
    ("optimum", 0): [-270.0, -90.0, -180.0],
    ("pendulum-random", 0): [-1300.0, -1100.0, -1200.0],
    ("pendulum-random", 1): [-1100.0, -900.0, -1000.0],
    ("pendulum-medium", 0): [-310.0, -110.0, -210.0],
    ("pendulum-medium", 1): [-330.0, -130.0, -230.0],
    ("pendulum-random.bc", 0): [-1200.0, -1200.0, -1200.0],
    ("pendulum-random.bc", 1): [-1300.0, -1300.0, -1300.0],
    ("pendulum-medium.bc", 0): [-270.5, -90.0, -180.0],
    ("pendulum-medium.bc", 1): [-270.5, -90.0, -179.0],
}
CARDS = {MEDIUM_DATA: {"name": MEDIUM_DATA, "returns": {"mean": -250.0}}}


def make_records(returns=RETURNS):
    return [
        {
            "policy": policy,
            "algorithm": policy,
            "dataset": None,
            "seed": seed,
            "start": start,
            "target": None,
            "return": value,
            "length": 200,
        }
        for (policy, seed), values in returns.items()
        for start, value in zip(STARTS, values)
    ]


def make_plan():
    return {
        "methods": [
            {"name": "dt", "label": "Decision Transformer", "algorithm": "decision-transformer", "condition": "return"},
            {"name": "bc", "label": "Cloning | all", "algorithm": "bc", "condition": None},
        ],
        "datasets": [RANDOM_DATA, MEDIUM_DATA],
        "entries": [  # in an order that is not the league's
            {"policy": "pendulum-medium.bc", "method": "bc", "dataset": MEDIUM_DATA},
            {"policy": "pendulum-random.bc", "method": "bc", "dataset": RANDOM_DATA},
            {"policy": "pendulum-medium", "method": "dt", "dataset": MEDIUM_DATA},
            {"policy": "pendulum-random", "method": "dt", "dataset": RANDOM_DATA},
        ],
    }


def make_experiment(*, quick=False, plan=None):
    protocol = {
        "environment": "Pendulum-v1",
        "root_seed": 0,
        "evaluation_starts": 3,
        "training_seeds": [0, 1],
        "checkpoint": "last",
        "acting": "deterministic",
        "target_rule": "highest return in the data",
        "bootstrap_samples": 4000,
    }
    reports = [("random", -1228.31), ("sac", -138.44), (MEDIUM_DATA, -607.84)]
    rows = [{"name": name, "algorithm": name, "dataset": None, "report": report} for name, report in reports]
    return {"quick": quick, "protocol": protocol, "rows": rows, "league": plan or make_plan()}


def without_medium_bc():
    """The league with one cell empty: records and experiment."""
    plan = make_plan()
    plan["entries"].pop(0)
    return make_records({k: v for k, v in RETURNS.items() if k[0] != "pendulum-medium.bc"}), make_experiment(plan=plan)
