"""A policy says in a line what it is."""

from __future__ import annotations

import pytest
import torch

from foretell.agents.networks import GaussianPolicy
from foretell.agents.policy import SACPolicy
from foretell.evaluation.acting import acting_policy
from foretell.evaluation.configs import acting_settings
from foretell.evaluation.policies import AgentPolicy
from foretell.sequences.scaling import ActionRange
from foretell.sequences.targets import Telling
from foretell.values.acting import GreedyPolicy, ImitationPolicy
from foretell.values.asking import Asking
from foretell.values.configs import IQLConfig
from foretell.values.functions import ValueFunctions
from reference.making import scaled, small_model

NOTHING = Asking(telling=Telling(condition="none"), target=0.0)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("decision-transformer", "ConditionedPolicy(DecisionTransformer, condition none"),
        ("trajectory-transformer", "PlanningPolicy(TrajectoryTransformer, behaviour return"),
        ("encoder-decoder", "ChunkingPolicy(EncoderDecoder, condition none"),
    ],
)
def test_a_sequence_models_policy_says_what_it_is_told_and_fits(name, said):
    policy = acting_policy(small_model(name), scaled(), NOTHING, acting_settings(name, None), "return")
    timesteps = policy.model.shape.max_timesteps
    assert repr(policy) == f"{said}, observations [3] and 2 action dimensions, up to {timesteps} timesteps)"


def test_policies_without_a_condition_say_what_they_fit():
    agent = SACPolicy(GaussianPolicy(3, 1, (4,), torch.Generator()), ActionRange(low=(-2.0,), high=(2.0,)))
    assert repr(AgentPolicy(agent, (3,))) == "AgentPolicy(SAC, observations [3] and 1 action dimension)"
    functions = ValueFunctions(IQLConfig(hidden_sizes=(8,)), scaled(2), 3, 2, torch.Generator())
    said = "(implicit Q-learning, observations [3] and 2 action dimensions)"
    assert repr(ImitationPolicy(functions)) == f"ImitationPolicy{said}"
    assert repr(GreedyPolicy(functions)) == f"GreedyPolicy{said}"
