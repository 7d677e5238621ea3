"""AdamW with clipped gradients, for networks so small that an optimiser's bookkeeping is most of it."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw
from torch.optim.optimizer import StateDict


class ClippedAdamW(torch.optim.AdamW):
    """PyTorch's fused AdamW; `advance` clips and steps to the same bits, and looks nothing up that stays the same."""

    def __init__(self, parameters: Iterable[nn.Parameter], *, learning_rate: float, weight_decay: float):
        self.parameters = list(parameters)
        self._moments: list[list[Tensor]] = []
        self._on_cpu = all(one.device.type == "cpu" for one in self.parameters)
        super().__init__(
            self.parameters, lr=learning_rate, weight_decay=weight_decay, fused=True, capturable=not self._on_cpu
        )

    def load_state_dict(self, state_dict: StateDict) -> None:
        """Put back moments; they lie elsewhere then."""
        super().load_state_dict(state_dict)
        self._moments = []

    def let_go(self) -> None:
        """Forget the gradients of the update before."""
        for parameter in self.parameters:
            parameter.grad = None

    def norm(self) -> Tensor:
        """Return the norm of all gradients together, as `torch.nn.utils.get_total_norm` does."""
        return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(self._gradients())))

    def advance(self, norm: Tensor, clip_norm: float, learning_rate: float) -> None:
        """Scale the gradients, of this `norm`, down to at most `clip_norm`, and step along them."""
        gradients = self._gradients()
        torch._foreach_mul_(gradients, (clip_norm / (norm + 1e-6)).clamp(max=1.0))
        self.param_groups[0]["lr"] = learning_rate
        if self._on_cpu and len(gradients) == len(self.state) == len(self.parameters):
            self._advance(gradients)
        else:  # also the first time, when it makes the moments
            self.step()

    @torch.no_grad()
    def _advance(self, gradients: list[Tensor]) -> None:
        if not self._moments:
            states = [self.state[one] for one in self.parameters]
            self._moments = [[one[name] for one in states] for name in ("exp_avg", "exp_avg_sq", "step")]
        first, second, steps = self._moments
        group = self.param_groups[0]
        beta1, beta2 = group["betas"]
        adamw(
            [*self.parameters], gradients, first, second, [], steps, fused=True, amsgrad=False, beta1=beta1,
            beta2=beta2, lr=group["lr"], weight_decay=group["weight_decay"], eps=group["eps"], maximize=False,
        )  # fmt: skip

    def _gradients(self) -> list[Tensor]:
        return [one.grad for one in self.parameters if one.grad is not None]
