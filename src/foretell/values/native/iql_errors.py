"""`values.iql_errors.Errors` through the C library, one call each."""

from __future__ import annotations

import torch
from torch import Tensor

from foretell.agents.native.building import Library
from foretell.agents.transitions import Transitions


class NativeErrors:
    """One pass where PyTorch's operators take a dozen."""

    def __init__(self, functions: Library):
        self._functions = functions

    def of_values(
        self, of_data: Tensor, values: Tensor, batch: Transitions, expectile: float, discount: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return a loss, its gradient `(1, batch, 1)`, targets and advantages `(batch,)`."""
        members, rows = of_data.shape[:2]
        found = of_data.new_empty(3, rows)
        advantages, gradient, targets = found.unbind()
        terminations, step = batch.terminations.contiguous(), rows * found.element_size()
        first, at = values.data_ptr(), found.data_ptr()
        loss = self._functions.expectile(
            members, rows, of_data.data_ptr(), first, first + step, batch.rewards.data_ptr(),
            terminations.data_ptr(), expectile, discount, at, at + step, at + 2 * step,
        )  # fmt: skip
        return torch.tensor(loss), gradient.view(1, rows, 1), targets, advantages

    def of_q(self, values: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss and its gradient `(members, batch, 1)`."""
        gradient = torch.empty_like(values)
        loss = self._functions.errors(
            *values.shape[:2], values.data_ptr(), targets.data_ptr(), 2.0, gradient.data_ptr()
        )
        return torch.tensor(loss), gradient
