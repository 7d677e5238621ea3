"""Files that do not say outright where episodes end, though something in them may: the message names it."""

from __future__ import annotations

import numpy as np
import pytest

from foretell.core.errors import DatasetError
from foretell.datasets.d4rl import read_d4rl

BOTH = np.array([0, 0, 1, 0, 1], np.float32)


def test_d3rlpy_s_ends_are_named_where_a_time_limit_is_asked_for(foreign):
    path = foreign(timeouts=None, next_observations=None, episode_terminals=BOTH)
    with pytest.raises(
        DatasetError, match=r"'episode_terminals' seems to: --ends-at episode_terminals\. .*--horizon N"
    ):
        read_d4rl(path)
    assert "'episode_terminals' may say it better: --ends-at episode_terminals." in read_d4rl(path, horizon=2).notes[0]


def test_ends_are_named_where_observations_break_too(foreign):
    assert "--ends-at dones." in read_d4rl(foreign(timeouts=None, dones=BOTH)).notes[0]
    assert "--ends-at" not in read_d4rl(foreign(timeouts=None)).notes[0]


@pytest.mark.parametrize("flags", [[0, 0, 1, 0, 0], [0, 1, 0, 0, 1], [0, 0, 0, 0, 0], [0, 0, 1, 0, 0.5]])
def test_flags_that_are_not_true_at_every_terminal_and_elsewhere_are_not_offered(foreign, flags):
    path = foreign(timeouts=None, next_observations=None, infos__success=np.array(flags))
    assert "--ends-at" not in read_d4rl(path, horizon=2).notes[0]


def test_where_every_episode_ends_in_a_terminal_that_can_be_said(foreign):
    """As Kitchen's, which have neither timeouts nor next_observations."""
    path = foreign(timeouts=None, next_observations=None, terminals=BOTH)
    with pytest.raises(
        DatasetError, match=r"'terminals' are the only ends, say so: --ends-at terminals\. .*--horizon N"
    ):
        read_d4rl(path)
    assert read_d4rl(path, ends_at="terminals").episode_lengths.tolist() == [3, 2]


def test_without_terminals_none_are_offered(foreign):
    path = foreign(timeouts=None, next_observations=None, terminals=np.zeros(5, bool))
    with pytest.raises(DatasetError, match=r"expected one of them\. Pass the time limit") as raised:
        read_d4rl(path)
    assert "--ends-at" not in str(raised.value)


@pytest.mark.parametrize(("name", "flags", "offered"), [
    ("dones", [0, 0, 1, 0, 1], True),  # its name says so
    ("contact", [0, 0, 1, 0, 1], False), ("alive", [1, 1, 1, 1, 1], False), ("dones", [1, 1, 1, 1, 1], False),
])  # fmt: skip
def test_without_terminals_to_tell_by_an_array_is_offered_by_its_name_alone(foreign, name, flags, offered):
    path = foreign(timeouts=None, next_observations=None, terminals=np.zeros(5, bool), **{name: np.array(flags)})
    with pytest.raises(DatasetError) as raised:
        read_d4rl(path)
    assert (f"--ends-at {name}" in str(raised.value)) is offered


def test_what_is_true_for_long_is_no_end(foreign):
    path = foreign(timeouts=None, next_observations=None, infos__alive=np.array([1, 1, 1, 0, 1]))
    assert "--ends-at" not in read_d4rl(path, horizon=2).notes[0]
