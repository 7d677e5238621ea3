"""Actions that an environment took in the place of the policy's: the windows hold what was done."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from foretell.core.errors import DatasetError, UsageError
from foretell.evaluation.acting import acting_policy
from foretell.evaluation.configs import ChunkingConfig, PlanningConfig
from foretell.models.registry import MODELS
from foretell.sequences.targets import Telling
from foretell.values.asking import Asking
from reference.making import CHOICES, SHAPES, VECTOR, scaled, small_model

ACTING = {
    "trajectory-transformer": PlanningConfig(behaviour="return", beam_width=3, horizon=2, action_top_k=1),
    "encoder-decoder": ChunkingConfig(actions_taken=2),
}  # fmt: skip
STEPS, ENVS = 20, 8


def policy_of(name, shape):
    normalization = replace(scaled(), action_range=None) if shape.discrete else scaled()
    told = "none" if name == "trajectory-transformer" else "return"
    asking = Asking(telling=Telling(condition=told, scale=10.0), target=3.0)
    return acting_policy(small_model(name, shape), normalization, asking, ACTING.get(name), "return")


def world(shape):
    """Observations, what was taken, and rewards."""
    rng = np.random.default_rng(0)
    if shape.discrete:
        taken = rng.integers(shape.action_dim, size=(STEPS, ENVS))
    else:
        taken = scaled().action_range.to_environment(rng.uniform(-1, 1, (STEPS, ENVS, shape.action_dim)))
    return (
        rng.normal(size=(STEPS, ENVS, *shape.observation_shape)).astype(np.float32),
        taken,
        rng.normal(size=(STEPS, ENVS)),
    )


def heard(policy, said=None):
    """Keep what the policy predicts, by environment; have it do what `said` gives in the place of that."""
    decide, predictions = policy._decide, []

    def deciding(elapsed):
        predictions.append(decide(elapsed))
        return predictions[-1] if said is None else said(len(predictions) - 1)

    policy._decide = deciding
    policy.reset(ENVS)
    return predictions


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("name", MODELS)
def test_to_be_told_is_to_have_chosen(name, kind):
    shape = SHAPES[kind]
    observations, taken, rewards = world(shape)
    told, chosen, untold = (policy_of(name, shape) for _ in range(3))
    units = torch.from_numpy(chosen.normalization.actions(taken))

    def said(step):
        return torch.nn.functional.one_hot(units[step], shape.action_dim).float() if shape.discrete else units[step]

    predictions = [heard(told), heard(chosen, said), heard(untold)]
    for step in range(STEPS):
        for policy in (told, chosen, untold):
            policy.act(observations[step])
        told.observe(rewards[step], taken[step])
        chosen.observe(rewards[step])
        untold.observe(rewards[step])
    of_told, of_chosen, of_untold = map(torch.stack, predictions)
    assert torch.equal(of_told, of_chosen)
    if name != "mlp":  # of whose windows actions are no part
        assert not torch.equal(of_told, of_untold), "what was taken changes nothing: the test shows nothing"


def test_beyond_the_range_is_its_end():
    policy = policy_of("decision-transformer", VECTOR)
    policy.reset(1)
    policy.act(np.zeros((1, 3), np.float32))
    policy.observe([0.0], np.full((1, 2), 1e6))
    assert (policy._actions[0, -1] == 1).all()


@pytest.mark.parametrize(
    ("shape", "actions", "error", "words"),
    [
        (VECTOR, np.zeros((1, 3)), UsageError, r"actions of shape \(1, 3\); expected \(1, 2\)"),
        (VECTOR, [0.0], UsageError, "actions of shape"),
        (VECTOR, np.array([[0.0, np.nan]]), DatasetError, "actions hold nan"),
        (CHOICES, np.array([4]), UsageError, r"actions \[4\]; expected whole numbers, 0 to 3"),
        (CHOICES, np.array([-1]), UsageError, "expected whole numbers, 0 to 3"),
        (CHOICES, np.array([1.0]), UsageError, "expected whole numbers, 0 to 3"),
    ],
)
def test_other_actions_are_refused_and_change_nothing(shape, actions, error, words):
    policy = policy_of("decision-transformer", shape)
    policy.reset(1)
    policy.act(np.zeros((1, 3), np.float32))
    before = policy._actions.copy()
    with pytest.raises(error, match=words):
        policy.observe([1.0], actions)
    np.testing.assert_array_equal(policy._actions, before)
    assert policy._target == 3.0
    policy.observe([1.0])
    assert policy._target == 2.0
