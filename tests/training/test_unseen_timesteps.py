"""Timesteps for which a run has a vector, and that no episode of its data comes to."""

from __future__ import annotations

import warnings
from dataclasses import replace

import gymnasium
import numpy as np
import pytest

from foretell import facade
from foretell.datasets.dataset import DatasetMetadata
from foretell.models.configs import DecisionTransformerConfig, MLPConfig
from foretell.training.configs import TrainingConfig
from reference.making import SHAPES, make_dataset


class Unseen(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-9, 9, (3,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)


gymnasium.register("Unseen-v0", entry_point=Unseen, max_episode_steps=200, disable_env_checker=True)
VECTOR = replace(SHAPES["continuous"], action_dim=1)
BRIEF = TrainingConfig(updates=1, batch_size=2)


def said(lengths, tmp_path, environment="Unseen-v0", algorithm="decision-transformer", model=None):
    data = replace(make_dataset(lengths, shape=VECTOR, name="made"), metadata=DatasetMetadata(environment=environment))
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        facade.train(data, tmp_path / "run", algorithm=algorithm, model=model, training=BRIEF)
    return [str(one.message) for one in found if "timesteps" in str(one.message) and "doctor" not in str(one.message)]


LEARNED = DecisionTransformerConfig(context_length=2, width=8, layers=1)


def test_the_vectors_of_timesteps_behind_the_longest_episode_are_said_to_be_unlearned(tmp_path):
    (message,) = [one for one in said([40, 9], tmp_path, model=LEARNED) if "vectors" in one]
    assert message.startswith("episodes of Unseen-v0 go on for up to 200 timesteps, the longest of made has 40: the ")
    assert message.endswith("timestep_embedding sinusoidal makes later timesteps like those before.")


@pytest.mark.parametrize(("context_length", "expected"), [(150, True), (100, False), (40, False)])
def test_windows_longer_than_every_episode_are_warned_of(context_length, expected, tmp_path):
    """Their attention grows with the square: 5,000 timesteps of episodes of 3 took all of the memory."""
    model = replace(LEARNED, context_length=context_length)
    messages = [one for one in said([40, 9], tmp_path, model=model) if one.startswith("windows")]
    assert [one.partition(":")[0] for one in messages] == [
        "windows have 150 timesteps, the longest episode of made has 40"
    ] * expected


@pytest.mark.parametrize(("lengths", "algorithm", "model"), [
    ([200, 40], "decision-transformer", LEARNED), ([180], "decision-transformer", LEARNED),
    ([40], "decision-transformer", replace(LEARNED, timestep_embedding="sinusoidal")),
    ([40], "mlp", MLPConfig(width=8, layers=1)),
])  # fmt: skip
def test_nothing_is_said_where_they_are_learned_or_are_none(lengths, algorithm, model, tmp_path):
    assert not [one for one in said(lengths, tmp_path, algorithm=algorithm, model=model) if "vectors" in one]


@pytest.mark.parametrize(("steps", "model", "hint"), [
    (30_000, LEARNED, True), (30_000, replace(LEARNED, timestep_embedding="sinusoidal"), False), (300, LEARNED, False),
])  # fmt: skip
def test_a_vector_for_each_of_very_many_timesteps_is_asked_about(steps, model, hint, tmp_path):
    (message,) = [one for one in said([steps], tmp_path, environment=None, model=model) if "will act for" in one]
    assert f"the run will act for {steps:,} timesteps" in message
    assert ("It keeps a vector for each of them; is the file 1 episode because it" in message) is hint
