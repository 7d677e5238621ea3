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
from itertools import chain

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from foretell.agents.adam import Following, SmallAdam
from foretell.agents.backpropagation import Pass, Passes
from foretell.agents.configs import SACConfig
from foretell.agents.networks import LOG_STD_RANGE, EnsembleMLP, GaussianPolicy, QFunctions, ValueFunction
from foretell.agents.squashed_gaussian import sample_squashed


@dataclass(frozen=True, kw_only=True)
class Transitions:
    """A batch of single timesteps; actions in [-1, 1]. Only terminations stop value: a time limit does not."""

    observations: Float[Tensor, "batch obs_dim"]
    actions: Float[Tensor, "batch action_dim"]
    rewards: Float[Tensor, " batch"]
    next_observations: Float[Tensor, "batch obs_dim"]
    terminations: Bool[Tensor, " batch"]


@dataclass(frozen=True, kw_only=True)
class _Sampled:
    """What the policy would do: actions in [-1, 1], and what the gradient of Eq. 8 needs of how they came about."""

    policy: Pass
    outputs: Float[Tensor, "1 all_rows twice_action_dim"]
    deviations: Float[Tensor, "batch action_dim"]
    """Standard deviation times noise, before squashing."""
    actions: Float[Tensor, "batch action_dim"]
    log_probs: Float[Tensor, " batch"]
    next_actions: Float[Tensor, "next_batch action_dim"]
    """None at all in form "value"."""
    next_log_probs: Float[Tensor, " next_batch"]


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
        self.config, self.observation_dim = config, observation_dim
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
        self._following = [
            Following(list(target.parameters()), list(source.parameters())) for target, source in self._pairs
        ]
        parameters = {name: list(network.parameters()) for name, network in learned.items()}
        if config.form == "twin-q":
            parameters["temperature"] = [self.log_temperature]
        self.optimizers = {name: SmallAdam(group, config.learning_rate) for name, group in parameters.items()}
        self._passes = Passes()
        for parameter in chain.from_iterable(parameters.values()):
            parameter.grad = torch.zeros_like(parameter)

    @torch.no_grad()
    def update(self, batch: Transitions, noise: Float[Tensor, "twice_batch action_dim"]) -> dict[str, Tensor]:
        """Take one gradient step on every network; return the losses.

        `noise` is standard normal, one row for each observation and then for each next observation.
        """
        temperature = self.log_temperature.exp()
        sampled = self._sample(batch, noise)
        target = self._target(batch, sampled, temperature)
        losses = {"q": self._q_loss(batch, target)}
        self._step("q", losses["q"])

        q = self._passes.of(self.q.mlp, len(batch.rewards))
        all_q = q.forward(torch.cat([batch.observations, sampled.actions], -1))
        q_of_policy, chosen = all_q.min(0)
        soft_values = q_of_policy.squeeze(-1) - temperature * sampled.log_probs
        if self.config.form == "value":
            losses["value"] = self._value_loss(batch, soft_values)
            self._step("value", losses["value"])
        losses["policy"] = -soft_values.mean()  # Eq. 8, up to the constant log Z
        spread = torch.zeros_like(all_q).scatter_(0, chosen[None], -1 / len(chosen))
        self._policy_gradient(sampled, q.gradient_of_inputs(spread, self.observation_dim), temperature)
        self._step("policy", losses["policy"])
        if self.config.form == "twin-q":
            entropy_gap = (sampled.log_probs + self.target_entropy).mean()
            losses["temperature"] = -self.log_temperature * entropy_gap  # 2018b, Eq. 18 in log alpha
            self.log_temperature.grad = -entropy_gap
            self._step("temperature", losses["temperature"])
        self._move_targets()
        return losses

    def _sample(self, batch: Transitions, noise: Tensor) -> _Sampled:
        """Draw the policy's actions; in form twin-q those after the next observations too, in the same pass."""
        size, observations = len(batch.rewards), batch.observations
        if self.config.form == "twin-q":
            observations = torch.cat([observations, batch.next_observations])
        policy = self._passes.of(self.policy.mlp, len(observations))
        outputs = policy.forward(observations)
        mean, log_std = self.policy.split(outputs)
        noise = noise[: len(mean)]
        actions, log_probs = sample_squashed(mean, log_std, noise)
        return _Sampled(
            policy=policy, outputs=outputs, deviations=log_std[:size].exp() * noise[:size],
            actions=actions[:size], log_probs=log_probs[:size],
            next_actions=actions[size:], next_log_probs=log_probs[size:],
        )  # fmt: skip

    def _target(self, batch: Transitions, sampled: _Sampled, temperature: Tensor) -> Float[Tensor, " batch"]:
        if self.config.form == "twin-q":
            inputs = torch.cat([batch.next_observations, sampled.next_actions], -1)
            next_q = self._passes.of(self.q_target.mlp, len(inputs)).forward(inputs).amin(0).squeeze(-1)
            next_values = next_q - temperature * sampled.next_log_probs
        else:
            values = self._passes.of(self.value_target.mlp, len(batch.rewards)).forward(batch.next_observations)
            next_values = values[0, :, 0]
        return bellman_target(batch.rewards, batch.terminations, next_values, self.config.discount)

    def _q_loss(self, batch: Transitions, target: Float[Tensor, " batch"]) -> Float[Tensor, ""]:
        return self._squared_error(self.q.mlp, torch.cat([batch.observations, batch.actions], -1), target)  # Eq. 6

    def _value_loss(self, batch: Transitions, soft_values: Float[Tensor, " batch"]) -> Float[Tensor, ""]:
        return self._squared_error(self.value.mlp, batch.observations, soft_values)  # Eq. 5

    def _policy_gradient(self, sampled: _Sampled, of_actions: Tensor, temperature: Tensor) -> None:
        """Write the gradient of Eq. 8, by way of a = tanh(u), u = mean + deviation; `of_actions` is that of -Q.

        d log pi(a) / du = 2 a, and -1 more for each log standard deviation, which stays in its range.
        """
        actions, weight = sampled.actions, temperature / len(sampled.actions)
        of_unsquashed = 2 * weight * actions + of_actions * (1 - actions.square())
        of_log_std = of_unsquashed * sampled.deviations - weight
        low, high = LOG_STD_RANGE
        raw = sampled.outputs[0, : len(actions), actions.shape[1] :]
        of_log_std = torch.where((raw >= low) & (raw <= high), of_log_std, 0.0)
        sampled.policy.backward(torch.cat([of_unsquashed, of_log_std], -1)[None])

    def _squared_error(self, network: EnsembleMLP, inputs: Tensor, target: Float[Tensor, " batch"]) -> Tensor:
        """Return half the mean squared error, added over the members, and write its gradient."""
        passes = self._passes.of(network, len(target))
        errors = passes.forward(inputs).squeeze(-1) - target  # (members, batch)
        passes.backward((errors / len(target)).unsqueeze(-1))
        return 0.5 * errors.square().mean(-1).sum()

    @property
    def temperature(self) -> float:
        """alpha, the weight of the entropy against the reward."""
        return float(self.log_temperature.detach().exp())

    def _step(self, name: str, loss: Tensor) -> None:
        """Step along the gradients that were written; `loss` is theirs."""
        self.optimizers[name].advance()

    def _move_targets(self) -> None:
        for following in self._following:
            following.move(self.config.target_rate)
