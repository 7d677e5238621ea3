"""Implicit Q-learning: one gradient update. What loops around it: `values/training.py`.

| Kostrikov et al. 2021 | here |
|---|---|
| $Q_\\theta$, $V_\\psi$ | `functions.q` (two of them), `functions.value` |
| $Q_{\\hat\\theta}$ | `q_target` |
| $L_2^\\tau$ (Eq. 5) | `expectile_loss` |
| $r + \\gamma V_\\psi(s')$ (Eq. 6) | `bellman_target` |
| $\\pi_\\phi$ | `functions.policy` |
| $\\exp(\\beta A)$ (Eq. 7) | `imitation_weights` |
"""

from __future__ import annotations

import copy
import math
import operator

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foretell.agents.adam import Following, SmallAdam
from foretell.agents.backpropagation import Passes
from foretell.agents.native.building import takes, usable
from foretell.agents.native.perceptrons import NativePass
from foretell.agents.transitions import Transitions
from foretell.core.errors import DivergedError
from foretell.values.functions import ValueFunctions
from foretell.values.iql_errors import errors
from foretell.values.native.iql_gradients import NativeGradients

LARGEST_WEIGHT = 100.0
"""No recorded action counts more than this in the policy's loss (the paper's published implementation)."""


def expectile_loss(differences: Float[Tensor, "*batch"], expectile: float) -> Float[Tensor, "*batch"]:
    r"""Return $L_2^\tau(u) = |\tau - 1(u < 0)|\, u^2$ for each difference u = Q - V (Kostrikov et al. 2021, Eq. 5).

    At 0.5 it is half the squared error, whose minimiser is the mean; towards 1 values below Q cost more and more, so
    that the minimiser moves to the largest Q that the data show.

    >>> expectile_loss(torch.tensor([2.0, -2.0]), 0.9)
    tensor([3.6000, 0.4000])
    """
    return (expectile - (differences < 0).to(differences.dtype)).abs() * differences.square()


def imitation_weights(advantages: Float[Tensor, "*batch"], inverse_temperature: float) -> Float[Tensor, "*batch"]:
    r"""Return $\exp(\beta A)$, at most 100 (Kostrikov et al. 2021, Eq. 7 and the published implementation).

    >>> imitation_weights(torch.tensor([0.0, -1.0, 9.0]), 1.0)
    tensor([  1.0000,   0.3679, 100.0000])
    """
    return (inverse_temperature * advantages).exp().clamp(max=LARGEST_WEIGHT)


class ImplicitQLearning(nn.Module):
    """The learned functions, the slow copy of Q, and one Adam for all; `update` takes one step."""

    def __init__(self, functions: ValueFunctions):
        super().__init__()
        self.functions, self.config = functions, functions.config
        self.q_target = copy.deepcopy(functions.q)
        self.q_target.requires_grad_(False)
        self.optimizer = SmallAdam(list(functions.parameters()), self.config.learning_rate)
        self._passes = Passes()
        self._gradients: NativeGradients | None = None
        self._following = Following(list(self.q_target.parameters()), list(functions.q.parameters()))
        for parameter in functions.parameters():
            parameter.grad = torch.zeros_like(parameter)

    @torch.no_grad()
    def update(self, batch: Transitions, update: int) -> dict[str, Tensor]:
        """Take update number `update` (from 0) on a batch in network units; return the losses.

        Raises `DivergedError` before anything is changed where a loss or a gradient is not finite.
        """
        found = self.write_gradients(batch)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate_at(update)
        if not self.optimizer.advance_if_finite(sum(map(float, found.values()))):
            named = ", ".join(f"{name} {float(loss)}" for name, loss in found.items())
            raise DivergedError(
                f"value learning, update {update}: {named}, gradient norm {math.sqrt(self.optimizer.squared_norm())}; "
                "expected finite numbers. Lower the learning_rate of value learning, or run `foretell inspect` on the "
                "data."
            )
        self._following.move(self.config.target_rate)
        return found

    def write_gradients(self, batch: Transitions) -> dict[str, Tensor]:
        """Return the losses of V (Eq. 5), of both Q-functions (Eq. 6, added) and of the policy, if any (Eq. 7), and
        write the gradient of their sum, without autograd."""
        size, functions, config = len(batch.rewards), self.functions, self.config
        if (together := self._together(batch)) is not None:
            value_loss, q_loss = together.write(batch, config.expectile, config.discount)
            return {"value_loss": value_loss, "q_loss": q_loss}
        taken = torch.cat([batch.observations, batch.actions], -1)
        of_data = self._passes.of(self.q_target.mlp, size).forward(taken)
        value_pass, q_pass = self._passes.of(functions.value.mlp, 2 * size), self._passes.of(functions.q.mlp, size)
        values = value_pass.forward(torch.cat([batch.observations, batch.next_observations]))
        found = errors(of_data, values, batch.rewards, batch.observations)
        value_loss, gradient, targets, advantages = found.of_values(
            of_data, values, batch, config.expectile, config.discount
        )
        value_pass.backward(gradient)
        q_loss, gradient = found.of_q(q_pass.forward(taken), targets)
        q_pass.backward(gradient)

        losses = {"value_loss": value_loss, "q_loss": q_loss}
        if functions.policy is not None:
            policy_pass = self._passes.of(functions.policy, size)
            weights = imitation_weights(advantages, config.inverse_temperature)
            wrong, slope = self._imitation(policy_pass.forward(batch.observations)[0], batch.actions)
            policy_pass.backward((weights / size)[None, :, None] * slope)
            losses["policy_loss"] = (weights * wrong).mean()
        return losses

    def _together(self, batch: Transitions) -> NativeGradients | None:
        """Return what writes the gradients by one call, to the same bits; None where that cannot be had."""
        size, functions = len(batch.rewards), self.functions
        if functions.policy is not None or not takes(batch):
            return None
        networks = (self.q_target.mlp, size), (functions.value.mlp, 2 * size), (functions.q.mlp, size)
        passes = [self._passes.of(*one) for one in networks]
        if self._gradients is None or not all(map(operator.is_, self._gradients.passes, passes)):
            library, known = usable(*self.parameters()), [one for one in passes if isinstance(one, NativePass)]
            self._gradients = NativeGradients(library, *known) if library and len(known) == len(passes) else None
        return self._gradients

    def _imitation(self, outputs: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Return minus the log-likelihood of the actions, up to constants, given the policy's last layer (squared
        error, or cross-entropy of choices), and its slopes there."""
        if self.functions.discrete:
            logs = outputs.log_softmax(-1)
            return -(actions * logs).sum(-1), logs.exp() - actions
        acted = outputs.tanh()
        return (acted - actions).square().sum(-1), 2 * (acted - actions) * (1 - acted.square())
