from __future__ import annotations

from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import torch

from foretell.core.episode import Episode
from foretell.core.errors import DatasetError


def columns(steps=3, terminated=False):
    ends = np.zeros(steps, bool)
    ends[-1:] = True
    return {
        "observations": np.arange(2.0 * (steps + 1), dtype=np.float32).reshape(-1, 2),
        "actions": np.ones((steps, 1), np.float32),
        "rewards": np.arange(steps, dtype=np.float32),
        "terminations": ends if terminated else ends & False,
        "truncations": ends & False if terminated else ends,
    }


def test_knows_its_length_return_and_end():
    episode = Episode(**columns(terminated=True))
    assert (len(episode), episode.total_reward, episode.terminated) == (3, 3.0, True)
    assert not Episode(**columns()).terminated


def test_is_frozen():
    with pytest.raises(FrozenInstanceError):
        Episode(**columns()).rewards = np.zeros(3)


def test_return_is_summed_in_float64():
    many = columns(steps=20_000) | {"rewards": np.full(20_000, 0.1, np.float32)}
    assert Episode(**many).total_reward == pytest.approx(20_000 * float(np.float32(0.1)), rel=1e-12)


def flags(*values):
    return np.array(values, bool)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"observations": np.zeros((3, 2), np.float32)}, "3 observations for 3 actions; expected 4"),
        ({"rewards": np.zeros(2)}, r"rewards of shape \(2,\)"),
        ({"rewards": np.zeros((3, 1))}, r"rewards of shape \(3, 1\)"),
        ({"rewards": np.array([0, np.nan, 0])}, "rewards holds nan at timestep 1"),
        ({"actions": np.array([[0], [0], [np.inf]])}, "actions holds inf at timestep 2"),
        ({"observations": np.array([[0.0], [-np.inf], [0.0], [0.0]])}, "observations holds -inf at timestep 1"),
        ({"truncations": flags(0, 0, 0)}, "neither a termination nor a truncation"),
        ({"terminations": flags(0, 1, 0)}, "ends at timestep 1 but has 3"),
        ({"terminations": np.array([0.0, 0.0, 2.0])}, "terminations holds 2.0 at timestep 2; expected flags, 0 or 1"),
        ({"truncations": np.array([0, -1, 1])}, "truncations holds -1 at timestep 1"),
        ({"truncations": np.array([0.0, 0.0, np.nan])}, "truncations holds nan at timestep 2"),
        ({"infos": {"qpos": np.zeros(2)}}, r"infos\['qpos'\] of length 2"),
        ({"infos": {"qpos": [[1.0], [1.0, 2.0], [3.0]]}}, r"infos\['qpos'\] are no array"),
    ],
)
def test_refuses_what_cannot_be_an_episode(changed, message):
    with pytest.raises(DatasetError, match=message):
        Episode(**columns() | changed)


def test_refuses_no_timesteps():
    with pytest.raises(DatasetError, match="0 timesteps; expected at least 1"):
        Episode(**columns(steps=0))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"observations": {"image": np.zeros((3, 2))}}, "observations are dict; expected an array"),
        ({"observations": np.arange(3.0)}, r"observations of shape \(3,\).*one-hot.*FlattenedObservations"),
        ({"actions": ["left", "right"]}, "actions are <U5; expected an array of real numbers"),
        ({"observations": [[1.0], [1.0, 2.0], [3.0]]}, "observations are no array"),
        ({"observations": [(np.zeros(1), {}), np.zeros(1), np.zeros(1)]}, r"\(observation, info\), take the first"),
        ({"actions": torch.zeros(2, 1, requires_grad=True)}, r"actions are no array .*detach\(\)\.cpu\(\)\.float\(\)"),
        ({"rewards": torch.zeros(2, dtype=torch.bfloat16)}, r"rewards are no array .*detach\(\)\.cpu\(\)\.float\(\)"),
    ],
)
def test_what_is_no_array_of_numbers_is_refused(changed, words):
    content = {
        "observations": np.zeros((3, 1)), "actions": np.zeros((2, 1)), "rewards": np.zeros(2),
        "terminations": [False, True], "truncations": [False, False],
    }  # fmt: skip
    with pytest.raises(DatasetError, match=words):
        Episode(**{**content, **changed})


def test_flags_may_be_numbers():
    assert Episode(**columns() | {"truncations": np.array([0.0, 0.0, 1.0])}).terminated is False


def test_small_returns_are_shown_as_what_they_are():
    one = {
        "observations": np.zeros((2, 1)),
        "actions": np.zeros((1, 1)),
        "terminations": [True],
        "truncations": [False],
    }
    assert "return 0.040" in repr(Episode(rewards=[0.04], **one))
