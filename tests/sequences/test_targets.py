from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell.core.errors import UsageError
from foretell.sequences.targets import Telling, best_episodes, target_rule


@pytest.mark.parametrize(("condition", "scale", "values", "expected"), [
    ("return", 100.0, [-250.0, 0.0, 50.0], [-2.5, 0.0, 0.5]),
    ("value", 100.0, [-250.0, 0.0, 50.0], [-2.5, 0.0, 0.5]),
    ("advantage", 1.0, [0.0, 0.25, 0.5, 0.98, 1.0], [-1.0, -0.5, 0.0, 0.96, 1.0]),
    ("advantage", 100.0, [0.0, 1.0], [-1.0, 1.0]),  # a quantile has no reward units to be scaled by
    ("none", 1.0, [0.0, 0.0], [0.0, 0.0]),
])  # fmt: skip
def test_units_by_hand(condition, scale, values, expected):
    found = Telling(condition=condition, scale=scale).units(np.array(values))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.array(expected, np.float32))


def test_units_are_divided_before_they_are_rounded():
    """2^24 + 1 is no float32; a fifth of it, rounded once, is not what rounding first would give."""
    found = Telling(condition="return", scale=5.0).units(np.array([2**24 + 1]))
    assert found[0] == np.float32((2**24 + 1) / 5) != np.float32(2**24 + 1) / np.float32(5)


def test_returns_are_spent_and_nothing_else_is():
    spent = {condition: Telling(condition=condition).spent for condition in ("return", "value", "advantage", "none")}
    assert spent == {"return": True, "value": True, "advantage": False, "none": False}


@pytest.mark.parametrize(("condition", "images", "sentence"), [
    ("return", False, "learned quantile 0.75 of the return given the start state"),
    ("return", True, "quantile 0.75 of the return"),
    ("value", False, "learned quantile 0.75 of the relabelled return given the start state"),
    ("advantage", False, "quantile 0.98 of the advantage among the data's actions in each state"),
    ("advantage", True, "quantile 0.98 of the advantage among the data's actions in each state"),
    ("none", False, "nothing is asked for"),
    ("none", True, "nothing is asked for"),
])  # fmt: skip
def test_the_rule_is_a_sentence(condition, images, sentence):
    assert target_rule(condition, "auto", images=images) == {"rule": sentence, "return": None}


@pytest.mark.parametrize(("condition", "target"), [
    ("return", -150), ("return", 0.0), ("value", 1e9), ("advantage", 0.0), ("advantage", 0.5), ("advantage", 1),
])  # fmt: skip
def test_a_number_is_given(condition, target):
    found = target_rule(condition, target)
    assert found == {"rule": "given", "return": float(target)}
    assert isinstance(found["return"], float)


@pytest.mark.parametrize(("condition", "target", "message"), [
    ("none", 0.0, "behaviour cloning is told nothing"),
    ("none", math.nan, "behaviour cloning is told nothing"),
    ("return", math.nan, "expected finite numbers in reward units"),
    ("value", -math.inf, "expected finite numbers in reward units"),
    ("return", math.inf, "expected finite numbers in reward units"),
    ("advantage", math.nan, "expected finite numbers"),
    ("advantage", 1.01, "by its quantile; expected 0 to 1"),
    ("advantage", -0.01, "by its quantile; expected 0 to 1"),
])  # fmt: skip
def test_targets_that_cannot_be_asked_for_are_refused(condition, target, message):
    with pytest.raises(UsageError, match=message) as found:
        target_rule(condition, target)
    assert f"target {target}" in str(found.value)


@pytest.mark.parametrize(("scores", "share", "expected"), [
    ([1.0, 5.0, 3.0, 2.0], 0.5, [1, 2]),
    ([2.0, 5.0, 5.0, 5.0], 0.5, [1, 2]),  # of equals the earlier
    ([7.0, 7.0, 7.0], 0.4, [0]),
    ([5.0, 1.0, 9.0], 1, [0, 1, 2]),
    ([5.0, 1.0, 9.0], 1e-9, [2]),  # at least one
    ([-3.0, -1.0, -2.0, -4.0, -5.0], 0.3, [1, 2]),  # 1.5 episodes are rounded
    ([8.0], 0.1, [0]),
])  # fmt: skip
def test_best_episodes_by_hand(scores, share, expected):
    assert best_episodes(np.array(scores), share).tolist() == expected


@settings(deadline=None, max_examples=60)
@given(scores=st.lists(st.integers(-3, 3), min_size=1, max_size=12), share=st.floats(0.01, 1.0))
def test_nothing_left_out_is_better_than_what_is_taken(scores, share):
    found = best_episodes(np.array(scores, np.float64), share).tolist()
    left = [index for index in range(len(scores)) if index not in found]
    assert found == sorted(set(found))
    assert abs(len(found) - share * len(scores)) <= 0.5 or len(found) == 1
    for worse in left:
        for better in found:
            assert (scores[better], -better) > (scores[worse], -worse)


@pytest.mark.parametrize("share", [0, 1.5, -0.1, math.nan, math.inf])
def test_shares_out_of_range_are_refused(share):
    with pytest.raises(UsageError, match="expected more than 0 and at most 1"):
        best_episodes(np.array([1.0, 2.0]), share)
