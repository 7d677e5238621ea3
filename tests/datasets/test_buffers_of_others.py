"""Replay buffers whose last episode is open, or that hold several environments side by side: what to do is said."""

from __future__ import annotations

import re

import numpy as np
import pytest

from foretell.core.errors import DatasetError
from foretell.datasets.dataset import Dataset

STEPS = 10
RNG = np.random.default_rng(0)


def _made(**changed):
    dones = np.isin(np.arange(STEPS), (2, 6))
    columns = {
        "observations": RNG.normal(size=(STEPS, 3)), "next_observations": None, "actions": np.zeros((STEPS, 2)),
        "rewards": np.zeros(STEPS), "terminations": np.zeros(STEPS, bool), "truncations": dones,
        "episode_ends": np.flatnonzero(dones) + 1,
    }  # fmt: skip
    return Dataset(name="buffer", **{**columns, **changed})


def test_an_open_last_episode_is_closed_as_the_message_says():
    words = r"the last of the episode ends is 7, of 10 .*append 10 to episode_ends and set truncations\[-1\] = True\."
    with pytest.raises(DatasetError, match=words):
        _made()
    truncations = np.isin(np.arange(STEPS), (2, 6, 9))
    assert _made(episode_ends=[3, 7, 10], truncations=truncations).episode_lengths.tolist() == [3, 4, 3]


def test_a_last_timestep_that_is_flagged_needs_its_end_alone():
    with pytest.raises(DatasetError, match=r"append 10 to episode_ends\.$"):
        _made(truncations=np.isin(np.arange(STEPS), (2, 6, 9)))


def test_a_recording_without_an_end_is_one_open_episode():
    nothing = {"truncations": np.zeros(STEPS, bool), "episode_ends": np.zeros(0, int)}
    with pytest.raises(DatasetError, match=r"there are no episode ends.*append 10 .*truncations\[-1\] = True"):
        _made(**nothing)


def test_last_timesteps_are_not_taken_for_ends():
    flags = np.isin(np.arange(STEPS), (2, 6, 9))
    with pytest.raises(DatasetError, match=r"is 9, of 10 .*These are the last timesteps themselves: add 1\."):
        _made(truncations=flags, episode_ends=np.flatnonzero(flags))


@pytest.mark.parametrize("ends", [[3, 3, 10], [0, 10], [7, 3, 10], [3, 7, 12]])
def test_other_ends_are_refused_as_before(ends):
    with pytest.raises(DatasetError, match="do not rise from at least 1 to 10"):
        _made(episode_ends=ends)


def _side_by_side(*shape):
    return np.arange(np.prod((5, 2, *shape)), dtype=np.float32).reshape(5, 2, *shape)


@pytest.mark.parametrize(
    ("column", "values", "rest"),
    [
        ("actions", _side_by_side(4), ", 4"), ("rewards", _side_by_side(), ""),
        ("rewards", _side_by_side(1), ", 1"), ("terminations", np.zeros((5, 2)), ""),
    ],
    ids=["actions", "rewards", "rewards of one number", "flags"],
)  # fmt: skip
def test_environments_side_by_side_are_put_one_behind_the_other(column, values, rest):
    words = f"environments side by side.*swap the first two axes first.*array.swapaxes(0, 1).reshape(-1{rest})"
    with pytest.raises(DatasetError, match=words.replace("(", r"\(").replace(")", r"\)")) as raised:
        _made(**{column: values})
    (expression,) = re.findall(r"array\.swapaxes\(0, 1\)\.reshape\([^)]*\)", str(raised.value))
    rows = eval(expression, {"array": values})
    np.testing.assert_array_equal(rows[:5], values[:, 0])
    np.testing.assert_array_equal(rows[5:], values[:, 1])
