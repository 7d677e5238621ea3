"""What cannot be asked for, and what would mix two runs, is refused."""

from __future__ import annotations

import pytest
import test_conditions as tc

from foretell import facade
from foretell.core.errors import UsageError


@pytest.mark.parametrize("share", [0, 1.5])
def test_shares_out_of_range_are_refused_before_anything_is_written(share, tmp_path):
    with pytest.raises(UsageError, match="best share"):
        tc._train(tmp_path / "run", "value", best_share=share)
    assert not (tmp_path / "run" / "config.json").exists()


def test_values_and_values_from_together_are_refused(tmp_path):
    source = facade.train_iql(tc._data(), tmp_path / "iql", values=tc.VALUES)
    with pytest.raises(UsageError):
        tc._train(tmp_path / "run", "value", values_from=source)


def test_a_run_is_not_continued_with_other_value_functions(tmp_path):
    one, other = (
        facade.train_iql(tc._data(), tmp_path / f"iql-{seed}", values=tc.VALUES, seed=seed) for seed in (1, 2)
    )
    with pytest.raises(tc.Killed):
        tc._train(tmp_path / "run", "value", values=None, values_from=one, progress=tc._killed_at(3))
    with pytest.raises(UsageError):
        tc._train(tmp_path / "run", "value", values=None, values_from=other)
    assert tc._same(tmp_path / "run" / "values", one)


def test_an_advantage_outside_0_to_1_is_refused_when_acting(tmp_path):
    policy = facade.load_policy(tc._train(tmp_path / "run", "advantage"))
    with pytest.raises(UsageError):
        policy.reset(1, -300.0)


def test_behaviour_cloning_is_told_nothing_whatever_is_asked(tmp_path):
    policy = facade.load_policy(tc._train(tmp_path / "run", "none"))
    with pytest.raises(UsageError):
        policy.reset(1, 5.0)


def test_an_unknown_condition_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(UsageError, match="returns"):
        tc._train(tmp_path / "run", "returns")
    assert not (tmp_path / "run" / "config.json").exists()
