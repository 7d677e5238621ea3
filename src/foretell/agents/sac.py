"""Soft Actor-Critic: one gradient update, in both forms. The loop around it is `training/sac.py`.

| report / paper | here |
|---|---|
| $V_\\psi$, $V_{\\bar\\psi}$ | `value`, `value_target` (form "value") |
| $Q_\\theta$, $Q_{\\bar\\theta}$ | `q`, `q_target` (the target in form "twin-q") |
| $\\pi_\\phi$ | `policy` |
| $\\alpha$ | `log_temperature.exp()` |
| $\\hat Q$ (Eq. 7) | `bellman_target` |
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from foretell.agents.configs import SACConfig
from foretell.agents.networks import GaussianPolicy, QFunctions, ValueFunction
from foretell.agents.squashed_gaussian import sample_squashed


@dataclass(frozen=True, kw_only=True)
class Transitions:
    """A batch of single timesteps; actions in [-1, 1]. Only terminations stop value: a time limit does not."""

    observations: Float[Tensor, "batch obs_dim"]
    actions: Float[Tensor, "batch action_dim"]
    rewards: Float[Tensor, " batch"]
    next_observations: Float[Tensor, "batch obs_dim"]
    terminations: Bool[Tensor, " batch"]


def bellman_target(
    rewards: Float[Tensor, " batch"],
    terminations: Bool[Tensor, " batch"],
    next_values: Float[Tensor, " batch"],
    discount: float,
) -> Float[Tensor, " batch"]:
    r"""Return $r + \gamma V(s')$ (Eq. 7 of the report): beyond a truncation too, never beyond a termination.

    >>> bellman_target(torch.tensor([1.0, 1.0]), torch.tensor([False, True]), torch.tensor([10.0, 10.0]), 0.5)
    tensor([6., 1.])
    """
    return rewards + discount * ~terminations * next_values


class SoftActorCritic(nn.Module):
    """All networks and optimisers of one agent, and `update`, which takes one step on each."""

    def __init__(self, config: SACConfig, observation_dim: int, action_dim: int, generator: torch.Generator):
        super().__init__()
        self.config = config
        hidden = config.hidden_sizes
        self.policy = GaussianPolicy(observation_dim, action_dim, hidden, generator)
        self.q = QFunctions(2 if config.form == "twin-q" else 1, observation_dim, action_dim, hidden, generator)
        self.log_temperature = nn.Parameter(torch.tensor(math.log(config.temperature)))
        self.target_entropy = -float(action_dim)  # one nat less per action dimension (2018b, appendix D)
        if config.form == "twin-q":
            self.q_target = QFunctions(2, observation_dim, action_dim, hidden, generator)
            self._pairs = [(self.q_target, self.q)]
            learned = {"policy": self.policy, "q": self.q}
        else:
            self.value = ValueFunction(observation_dim, hidden, generator)
            self.value_target = ValueFunction(observation_dim, hidden, generator)
            self._pairs = [(self.value_target, self.value)]
            learned = {"policy": self.policy, "q": self.q, "value": self.value}
        for target, source in self._pairs:
            target.load_state_dict(source.state_dict())
            target.requires_grad_(False)
        parameters = {name: list(network.parameters()) for name, network in learned.items()}
        if config.form == "twin-q":
            parameters["temperature"] = [self.log_temperature]
        self.optimizers = {
            name: torch.optim.Adam(group, lr=config.learning_rate, fused=True) for name, group in parameters.items()
        }

    def update(self, batch: Transitions, noise: Float[Tensor, "twice_batch action_dim"]) -> dict[str, Tensor]:
        """Take one gradient step on every network; return the losses, detached.

        `noise` is standard normal, one row for each observation and then for each next observation.
        """
        temperature = self.log_temperature.exp().detach()
        both = torch.cat([batch.observations, batch.next_observations])
        mean, log_std = self.policy(both)
        actions, log_probs = sample_squashed(mean, log_std, noise)
        (actions, next_actions), (log_probs, next_log_probs) = actions.chunk(2), log_probs.chunk(2)

        with torch.no_grad():
            if self.config.form == "twin-q":
                next_values = (
                    self.q_target(batch.next_observations, next_actions).amin(0) - temperature * next_log_probs
                )
            else:
                next_values = self.value_target(batch.next_observations)
            target = bellman_target(batch.rewards, batch.terminations, next_values, self.config.discount)
        losses = {"q": 0.5 * (self.q(batch.observations, batch.actions) - target).square().mean(-1).sum()}  # Eq. 6
        self._step("q", losses["q"])

        q_of_policy = self.q(batch.observations, actions).amin(0)
        losses["policy"] = (temperature * log_probs - q_of_policy).mean()  # Eq. 8, up to the constant log Z
        if self.config.form == "value":
            soft_value = (q_of_policy - temperature * log_probs).detach()
            losses["value"] = 0.5 * (self.value(batch.observations) - soft_value).square().mean()  # Eq. 5
            self._step("value", losses["value"])
        self._step("policy", losses["policy"])
        if self.config.form == "twin-q":
            entropy_gap = (log_probs + self.target_entropy).detach().mean()
            losses["temperature"] = -self.log_temperature * entropy_gap  # 2018b, Eq. 18 in log alpha
            self._step("temperature", losses["temperature"])
        self._move_targets()
        return {name: loss.detach() for name, loss in losses.items()}

    @property
    def temperature(self) -> float:
        """alpha, the weight of the entropy against the reward."""
        return float(self.log_temperature.detach().exp())

    def _step(self, name: str, loss: Tensor) -> None:
        optimizer = self.optimizers[name]
        parameters = optimizer.param_groups[0]["params"]
        for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters)):
            parameter.grad = gradient
        optimizer.step()

    @torch.no_grad()
    def _move_targets(self) -> None:
        for target, source in self._pairs:
            for old, new in zip(target.parameters(), source.parameters()):
                old.lerp_(new, self.config.target_rate)
