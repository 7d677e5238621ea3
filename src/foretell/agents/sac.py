"""Soft Actor-Critic: one gradient update, in both forms. The loop around it is `training/sac.py`.

| report / paper | here |
|---|---|
| $V_\\psi$, $V_{\\bar\\psi}$ | `value`, `value_target` (form "value") |
| $Q_\\theta$, $Q_{\\bar\\theta}$ | `q`, `q_target` (the target in form "twin-q") |
| $\\pi_\\phi$ | `policy` |
| $\\alpha$ | `log_temperature.exp()` |
| $\\hat Q$ (Eq. 7) | `soft_values.bellman_target` |
"""

from __future__ import annotations

import math
from itertools import chain
from operator import is_

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foretell.agents.adam import Following, SmallAdam
from foretell.agents.backpropagation import Pass, Passes
from foretell.agents.configs import SACConfig
from foretell.agents.native.actor_critic import NativeActorCritic
from foretell.agents.native.building import takes, usable
from foretell.agents.native.perceptrons import NativePass
from foretell.agents.networks import EnsembleMLP, GaussianPolicy, QFunctions, ValueFunction
from foretell.agents.soft_values import SoftValues, soft_values
from foretell.agents.squashed_gaussian import Squashed
from foretell.agents.squashing import Squashing, squashing
from foretell.agents.transitions import Transitions

TERMS = 128
"""Terms of a sum that are added up at a time. Of batches of 256 the BLAS of PyTorch adds 128 on processors of AMD: runs
there, and the data that come of them, are to the last bit what they were when the BLAS did the products."""


_Drawn = tuple[Pass, Tensor, Squashing, Squashed]
"""The policy's pass, what it gave out, how that is squashed, and the actions."""


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
        self._passes = Passes(deep=TERMS)
        self._native: NativeActorCritic | None = None
        for parameter in chain.from_iterable(parameters.values()):
            parameter.grad = torch.zeros_like(parameter)

    @torch.no_grad()
    def update(self, batch: Transitions, noise: Float[Tensor, "twice_batch action_dim"]) -> dict[str, Tensor]:
        """Take one gradient step on every network; return the losses.

        `noise` is standard normal, one row for each observation and then for each next observation.
        """
        temperature = self.log_temperature.exp()
        drawn = self._sample(batch, noise)
        of_temperature = None
        if self.config.form == "twin-q":
            # here, while PyTorch's operators are at hand: behind the networks they are in no cache
            of_temperature = self._temperature_loss(drawn[-1].log_probs[: len(batch.rewards)])
        if (native := self._together(batch, drawn)) is not None:
            losses = self._learn_together(native, batch, drawn[-1], temperature)
        else:
            losses = self._learn(batch, noise, drawn, temperature)
        if of_temperature is not None:
            losses["temperature"] = of_temperature
            self._step("temperature", of_temperature)
        self._move_targets()
        return losses

    def _learn(self, batch: Transitions, noise: Tensor, drawn: _Drawn, temperature: Tensor) -> dict[str, Tensor]:
        """Step all networks but the temperature and the targets; return the losses."""
        policy, outputs, squash, sampled = drawn
        compute = soft_values(batch.rewards, noise, temperature)
        targets = compute.targets(
            batch.rewards, batch.terminations, *self._next_values(batch, sampled), temperature, self.config.discount
        )
        taken = torch.cat([batch.observations, batch.actions], -1)
        losses = {"q": self._squared_error(self.q.mlp, taken, targets, compute)}  # Eq. 6
        self._step("q", losses["q"])

        size = len(batch.rewards)
        actions, log_probs = sampled.actions[:size], sampled.log_probs[:size]
        q = self._passes.of(self.q.mlp, size)
        values = q.forward(torch.cat([batch.observations, actions], -1))
        soft, policy_loss, of_q = compute.lowest(values, log_probs, temperature)
        if self.config.form == "value":
            losses["value"] = self._squared_error(self.value.mlp, batch.observations, soft, compute)  # Eq. 5
            self._step("value", losses["value"])
        losses["policy"] = policy_loss  # Eq. 8, up to the constant log Z
        of_actions = q.gradient_of_inputs(of_q, self.observation_dim)
        policy.backward(squash.gradient(outputs, sampled, of_actions, temperature))
        self._step("policy", losses["policy"])
        return losses

    def _learn_together(
        self, native: NativeActorCritic, batch: Transitions, sampled: Squashed, temperature: Tensor
    ) -> dict[str, Tensor]:
        """What `_learn` does in form twin-q, to the same bits: one call between two steps."""
        losses = {"q": native.of_q(batch, sampled, temperature, self.config.discount)}
        self._step("q", losses["q"])
        losses["policy"] = native.of_policy(sampled, temperature)
        self._step("policy", losses["policy"])
        return losses

    def _together(self, batch: Transitions, drawn: _Drawn) -> NativeActorCritic | None:
        """Return what writes the gradients by a call for each network; None where that cannot be had."""
        policy, *_, sampled = drawn
        if self.config.form != "twin-q" or not takes(batch, sampled.actions, sampled.log_probs, sampled.deviations):
            return None
        size = len(batch.rewards)
        passes = self._passes.of(self.q_target.mlp, size), self._passes.of(self.q.mlp, size), policy
        if self._native is None or not all(map(is_, self._native.passes, passes)):
            library, known = usable(*self.parameters()), [one for one in passes if isinstance(one, NativePass)]
            self._native = NativeActorCritic(library, *known) if library and len(known) == len(passes) else None
        return self._native

    def _sample(self, batch: Transitions, noise: Tensor) -> _Drawn:
        """Draw the policy's actions; in form twin-q those after the next observations too, in the same pass."""
        observations = batch.observations
        if self.config.form == "twin-q":
            observations = torch.cat([observations, batch.next_observations])
        policy = self._passes.of(self.policy.mlp, len(observations))
        outputs, noise = policy.forward(observations), noise[: len(observations)]
        squash = squashing(outputs, noise)
        return policy, outputs, squash, squash.sample(outputs, noise)

    def _next_values(self, batch: Transitions, sampled: Squashed) -> tuple[Tensor, Tensor | None]:
        """All members' values of the next observations, and in form twin-q the log-densities of the actions there."""
        size = len(batch.rewards)
        if self.config.form == "value":
            return self._passes.of(self.value_target.mlp, size).forward(batch.next_observations), None
        inputs = torch.cat([batch.next_observations, sampled.actions[size:]], -1)
        return self._passes.of(self.q_target.mlp, size).forward(inputs), sampled.log_probs[size:]

    def _squared_error(
        self, network: EnsembleMLP, inputs: Tensor, targets: Float[Tensor, " batch"], compute: SoftValues
    ) -> Float[Tensor, ""]:
        """Return half the mean squared error, added over the members, and write its gradient."""
        passes = self._passes.of(network, len(targets))
        loss, gradient = compute.squared_error(passes.forward(inputs), targets)
        passes.backward(gradient)
        return loss

    def _temperature_loss(self, log_probs: Float[Tensor, " batch"]) -> Float[Tensor, ""]:
        """Return the loss of the temperature (2018b, Eq. 18 in log alpha), and write its gradient."""
        entropy_gap = (log_probs + self.target_entropy).mean()
        return self.log_temperature * torch.neg(entropy_gap, out=self.log_temperature.grad)

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
