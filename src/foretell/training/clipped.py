"""What training asks of an optimiser, for networks so small that its bookkeeping is most of it."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from foretell.training.native import gradients as in_c


class ClippedOptimizer(torch.optim.Optimizer):
    """Scales the gradients of all parameters together down to a norm, and steps along them."""

    parameters: list[nn.Parameter]
    """Every parameter, of whichever group."""

    @abstractmethod
    def advance(self, norm: Tensor, clip_norm: float, learning_rate: float) -> None:
        """Scale the gradients, of this `norm`, down to at most `clip_norm`, and step along them."""

    def let_go(self) -> None:
        """Forget the gradients of the update before."""
        for parameter in self.parameters:
            parameter.grad = None

    def norm(self) -> Tensor:
        """Return the norm of all gradients together, as `torch.nn.utils.get_total_norm` does."""
        gradients = self.gradients()
        if not gradients:
            return torch.zeros(())
        return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))

    def clip(self, norm: Tensor, clip_norm: float) -> list[Tensor]:
        """Scale the gradients, of this `norm`, down to at most `clip_norm`, and return them."""
        gradients = self.gradients()
        factor = (clip_norm / (norm + 1e-6)).clamp(max=1.0)
        if not in_c.scale(gradients, factor):
            torch._foreach_mul_(gradients, factor)
        return gradients

    def gradients(self) -> list[Tensor]:
        """Return the gradients that there are."""
        return [one.grad for one in self.parameters if one.grad is not None]
