"""What is made from the data before the first update: it says how far it is, and a stop meanwhile loses nothing."""

from __future__ import annotations

import itertools
import signal

import pytest

from foretell import facade
from foretell.core.errors import StoppedError
from foretell.evaluation.configs import PlanningConfig
from foretell.training.configs import TrainingConfig
from foretell.values.configs import IQLConfig
from reference.making import small_config

TRAINING = TrainingConfig(updates=3, batch_size=4, warmup_updates=1)
VALUES = IQLConfig(updates=2, batch_size=4, hidden_sizes=(4,))
PLANNER = {"algorithm": "trajectory-transformer", "acting": PlanningConfig(beam_width=2, horizon=1)}


def _train(data, out, condition, progress, **changes):
    values = VALUES if condition in ("value", "advantage") else None
    algorithm = changes.get("algorithm", "decision-transformer")
    return facade.train(
        data, out, condition=condition, model=small_config(algorithm), training=TRAINING, values=values,
        progress=progress, **changes,
    )  # fmt: skip


class Listener:
    """Notes every report; stops at the report of what is prepared that has this number."""

    def __init__(self, stop_at: int | None = None):
        self.reports: list[tuple[int, int, dict[str, float]]] = []
        self._left = None if stop_at is None else itertools.count(stop_at, -1)

    def __call__(self, done, total, **measurements):
        self.reports.append((done, total, measurements))
        if "prepared" in measurements and self._left and next(self._left) == 0:
            raise StoppedError(signal.SIGTERM)

    @property
    def prepared(self):
        return [(done, total, found["prepared"]) for done, total, found in self.reports if "prepared" in found]


@pytest.mark.parametrize(
    ("condition", "changes"), [("return", {}), ("value", {}), ("advantage", {}), ("value", PLANNER)]
)
def test_it_says_how_far_it_is_before_the_first_update(pendulum_random, tmp_path, condition, changes):
    heard = Listener()
    _train(pendulum_random, tmp_path / "run", condition, heard, **changes)
    before = VALUES.updates if condition != "return" else 0
    assert heard.prepared
    assert all((done, total) == (before, before + TRAINING.updates) for done, total, _ in heard.prepared)
    assert all(0 <= share <= 1 for _, _, share in heard.prepared)
    first = next(number for number, (done, _, _) in enumerate(heard.reports) if done > before)
    assert not any("prepared" in measurements for _, _, measurements in heard.reports[first:])


@pytest.mark.parametrize(
    ("condition", "changes"), [("return", {}), ("value", {}), ("advantage", {}), ("value", PLANNER)]
)
def test_a_stop_in_the_middle_loses_nothing(pendulum_random, tmp_path, condition, changes):
    whole = Listener()
    expected = _train(pendulum_random, tmp_path / "whole", condition, whole, **changes) / "model.safetensors"
    out = tmp_path / "stopped"
    for stop_at in (0, len(whole.prepared) - 1):
        with pytest.raises(StoppedError):
            _train(pendulum_random, out, condition, Listener(stop_at), **changes)
        assert not (out / "model.safetensors").exists()
    _train(pendulum_random, out, condition, Listener(), **changes)
    assert (out / "model.safetensors").read_bytes() == expected.read_bytes()
