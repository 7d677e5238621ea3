"""`agents.squashing.Squashing` through the C library, but for exp, tanh, softplus and sums, which are PyTorch's."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus

from foretell.agents.native.building import Library
from foretell.agents.networks import LOG_STD_RANGE
from foretell.agents.squashed_gaussian import Squashed


class NativeSquashing:
    """Fewer passes over few numbers: what a call costs is most of what this costs."""

    def __init__(self, functions: Library):
        self._functions = functions

    def sample(self, outputs: Tensor, noise: Tensor) -> Squashed:
        """Return actions `(rows, action_dim)` for outputs `(1, rows, 2 action_dim)` and noise like the actions."""
        rows, action_dim = noise.shape
        log_std, deviations, unsquashed, minus_twice, gaussian = torch.empty(5, rows, action_dim).unbind()
        self._functions.clamped(rows, action_dim, outputs.data_ptr(), *LOG_STD_RANGE, log_std.data_ptr())
        std = log_std.exp()
        self._functions.unsquashed(
            rows, action_dim, outputs.data_ptr(), log_std.data_ptr(), std.data_ptr(), noise.data_ptr(),
            deviations.data_ptr(), unsquashed.data_ptr(), minus_twice.data_ptr(), gaussian.data_ptr(),
        )  # fmt: skip
        curved = softplus(minus_twice)
        self._functions.squashed(noise.numel(), unsquashed.data_ptr(), curved.data_ptr(), gaussian.data_ptr())
        log_probs = gaussian.sum(-1) if action_dim > 1 else gaussian.view(-1)
        return Squashed(actions=unsquashed.tanh(), log_probs=log_probs, deviations=deviations)

    def gradient(self, outputs: Tensor, sampled: Squashed, of_actions: Tensor, temperature: Tensor) -> Tensor:
        """Return the gradient `(1, first_rows, 2 action_dim)` of the policy's loss, given that of the first rows."""
        rows, action_dim = of_actions.shape
        gradient = torch.empty(1, rows, 2 * action_dim)
        self._functions.policy_gradient(
            rows, action_dim, outputs.data_ptr(), sampled.actions.data_ptr(), sampled.deviations.data_ptr(),
            of_actions.data_ptr(), temperature.data_ptr(), *LOG_STD_RANGE, gradient.data_ptr(),
        )  # fmt: skip
        return gradient
