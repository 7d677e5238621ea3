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

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foretell.agents.sac import Transitions, bellman_target
from foretell.core.errors import DivergedError
from foretell.values.functions import ValueFunctions

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
        self.optimizer = torch.optim.Adam(functions.parameters(), lr=self.config.learning_rate, fused=True)

    def losses(self, batch: Transitions) -> dict[str, Float[Tensor, ""]]:
        """Return the losses of V (Eq. 5), of both Q-functions (Eq. 6, added) and of the policy (Eq. 7)."""
        with torch.no_grad():
            q_of_data = self.q_target(batch.observations, batch.actions).amin(0)
            next_values = self.functions.value(batch.next_observations)
            target = bellman_target(batch.rewards, batch.terminations, next_values, self.config.discount)
        values = self.functions.value(batch.observations)
        q = self.functions.q(batch.observations, batch.actions)
        weights = imitation_weights(q_of_data - values.detach(), self.config.inverse_temperature)
        return {
            "value_loss": expectile_loss(q_of_data - values, self.config.expectile).mean(),
            "q_loss": (target - q).square().mean(-1).sum(),
            "policy_loss": (weights * self._imitation_errors(batch)).mean(),
        }

    def update(self, batch: Transitions, update: int) -> dict[str, Tensor]:
        """Take update number `update` (from 0) on a batch in network units; return the losses, detached.

        Raises `DivergedError` before anything is changed where a loss or a gradient is not finite.
        """
        losses = self.losses(batch)
        parameters = self.optimizer.param_groups[0]["params"]
        gradients = torch.autograd.grad(torch.stack(list(losses.values())).sum(), parameters)
        found = {name: loss.detach() for name, loss in losses.items()}
        norm = nn.utils.get_total_norm(gradients)
        if not bool(torch.isfinite(norm + sum(found.values()))):
            named = ", ".join(f"{name} {float(loss)}" for name, loss in found.items())
            raise DivergedError(
                f"value learning, update {update}: {named}, gradient norm {float(norm)}; expected finite numbers. "
                "Lower the learning_rate of value learning, or run `foretell inspect` on the data."
            )
        for parameter, gradient in zip(parameters, gradients):
            parameter.grad = gradient
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate_at(update)
        self.optimizer.step()
        self._move_target()
        return found

    def _imitation_errors(self, batch: Transitions) -> Float[Tensor, " batch"]:
        """Minus the log-likelihood of the actions, up to constants: squared error, or cross-entropy of choices."""
        outputs = self.functions.policy_outputs(batch.observations)
        if self.functions.discrete:
            return -(batch.actions * outputs.log_softmax(-1)).sum(-1)
        return (outputs - batch.actions).square().sum(-1)

    @torch.no_grad()
    def _move_target(self) -> None:
        for old, new in zip(self.q_target.parameters(), self.functions.q.parameters()):
            old.lerp_(new, self.config.target_rate)
