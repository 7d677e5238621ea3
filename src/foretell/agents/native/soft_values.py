"""`agents.soft_values.SoftValues` through the C library, one call each."""

from __future__ import annotations

import torch
from torch import Tensor

from foretell.agents.native.building import Library


class NativeSoftValues:
    """One pass where PyTorch's operators take eight."""

    def __init__(self, functions: Library):
        self._functions = functions

    def targets(
        self,
        rewards: Tensor,
        terminations: Tensor,
        next_values: Tensor,
        next_log_probs: Tensor | None,
        temperature: Tensor,
        discount: float,
    ) -> Tensor:
        """Return targets `(batch,)` for next values `(members, batch, 1)`; the other tensors are `(batch,)`."""
        targets = torch.empty_like(rewards)
        self._functions.targets(
            len(next_values), len(rewards), next_values.data_ptr(),
            None if next_log_probs is None else next_log_probs.data_ptr(), temperature.data_ptr(), rewards.data_ptr(),
            terminations.data_ptr(), discount, targets.data_ptr(),
        )  # fmt: skip
        return targets

    def squared_error(self, values: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss and its gradient `(members, batch, 1)`."""
        gradient = torch.empty_like(values)
        loss = self._functions.errors(
            *values.shape[:2], values.data_ptr(), targets.data_ptr(), 1.0, gradient.data_ptr()
        )
        return torch.tensor(loss), gradient

    def lowest(self, values: Tensor, log_probs: Tensor, temperature: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return soft values `(batch,)`, minus their mean, and its gradient `(members, batch, 1)`."""
        found, gradient = torch.empty_like(log_probs), torch.empty_like(values)
        loss = self._functions.soft_values(
            *values.shape[:2], values.data_ptr(), log_probs.data_ptr(), temperature.data_ptr(), found.data_ptr(),
            gradient.data_ptr(),
        )  # fmt: skip
        return found, torch.tensor(loss), gradient
