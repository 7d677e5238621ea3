"""Losses of value learning as PyTorch differentiates them: what is written without autograd is held against these."""

from __future__ import annotations

import torch

from foretell.agents.soft_values import bellman_target
from foretell.values.iql import expectile_loss, imitation_weights


def iql_losses(learner, batch):
    """The losses of V (Kostrikov et al. 2021, Eq. 5), of both Q-functions (Eq. 6, added) and of the policy, if any
    (Eq. 7)."""
    functions, config = learner.functions, learner.config
    with torch.no_grad():
        q_of_data = learner.q_target(batch.observations, batch.actions).amin(0)
        next_values = functions.value(batch.next_observations)
        target = bellman_target(batch.rewards, batch.terminations, next_values, config.discount)
    values, q = functions.value(batch.observations), functions.q(batch.observations, batch.actions)
    found = {
        "value_loss": expectile_loss(q_of_data - values, config.expectile).mean(),
        "q_loss": (target - q).square().mean(-1).sum(),
    }
    if functions.policy is not None:
        weights = imitation_weights(q_of_data - values.detach(), config.inverse_temperature)
        found["policy_loss"] = (weights * _imitation_errors(functions, batch)).mean()
    return found


def _imitation_errors(functions, batch):
    """Minus the log-likelihood of the actions, up to constants: squared error, or cross-entropy of choices."""
    outputs = functions.policy_outputs(batch.observations)
    if functions.discrete:
        return -(batch.actions * outputs.log_softmax(-1)).sum(-1)
    return (outputs - batch.actions).square().sum(-1)


def behaviour_loss(behaviour, outputs, actions):
    """Minus the mean log-likelihood of actions, up to constants, given what the behaviour's network gives out."""
    if behaviour.discrete:
        return -(actions * outputs[0].log_softmax(1)).sum(1).mean()
    mean, log_std = behaviour._parts(outputs)
    return (0.5 * ((actions - mean) * (-log_std).exp()).square() + log_std).sum(1).mean()
