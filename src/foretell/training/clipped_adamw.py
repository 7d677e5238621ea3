"""AdamW with clipped gradients, for networks so small that an optimiser's bookkeeping is most of it."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from foretell.training.clipped import ClippedOptimizer
from foretell.training.native import adamw as native_adamw
from foretell.training.native.tables import Table


class ClippedAdamW(ClippedOptimizer, torch.optim.AdamW):
    """PyTorch's fused AdamW; `advance` clips and steps to the same bits, and looks nothing up that stays the same."""

    def __init__(self, parameters: Iterable[nn.Parameter], *, learning_rate: float, weight_decay: float):
        parameters = list(parameters)
        on_cpu = all(one.device.type == "cpu" for one in parameters)
        super().__init__(parameters, lr=learning_rate, weight_decay=weight_decay, fused=True, capturable=not on_cpu)
        self._look_up()

    def _look_up(self) -> None:
        super()._look_up()
        self._on_cpu = all(one.device.type == "cpu" for one in self.parameters)
        self._moments: list[list[Tensor]] = []
        self._of_moments: list[Table] = []

    def norm(self) -> Tensor:
        """Return the norm of all gradients together; in C where that can be had, to the same bits."""
        gradients = self.gradients()
        found = native_adamw.norm(self._table("all gradients", gradients)) if gradients else None
        return super().norm() if found is None else found

    def advance(self, norm: Tensor, clip_norm: float, learning_rate: float) -> None:
        """Scale the gradients, of this `norm`, down to at most `clip_norm`, and step along them."""
        gradients = self.clip(norm, clip_norm)
        self.param_groups[0]["lr"] = learning_rate
        watched = self._optimizer_step_pre_hooks or self._optimizer_step_post_hooks
        alike = len(self.state) in (0, len(self.parameters)) and len(gradients) == len(self.parameters)
        if self._on_cpu and not watched and alike:
            self._advance(gradients)
        else:
            self.step()

    @torch.no_grad()
    def _advance(self, gradients: list[Tensor]) -> None:
        if not self._moments:
            self.make_moments(self.parameters, "step", "exp_avg", "exp_avg_sq")
            states = [self.state[one] for one in self.parameters]
            self._moments = [[one[name] for one in states] for name in ("exp_avg", "exp_avg_sq", "step")]
            self._of_moments = [Table(one) for one in self._moments]
        first, second, steps = self._moments
        group = self.param_groups[0]
        beta1, beta2 = group["betas"]
        if native_adamw.step(
            self._table("weights", self.parameters), self._table("all gradients", gradients),
            *self._of_moments, rate=group["lr"], betas=group["betas"],
            epsilon=group["eps"], decay=group["weight_decay"],
        ):  # fmt: skip
            return
        adamw(
            [*self.parameters], gradients, first, second, [], steps, fused=True, amsgrad=False, beta1=beta1,
            beta2=beta2, lr=group["lr"], weight_decay=group["weight_decay"], eps=group["eps"], maximize=False,
        )  # fmt: skip
