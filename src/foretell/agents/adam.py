"""Adam for networks so small that the optimiser's own bookkeeping costs more than its arithmetic."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from foretell.agents.native.building import addresses, counts, usable

NEGLIGIBLE = 1e-30
"""First moments below it move no float32 weight: their step is below learning rate / eps * 1e-30."""
FLUSH_EVERY = 128
"""Steps of PyTorch's operators between setting them to 0: 1e-30 * 0.9^128 = 1e-36 is not subnormal yet."""


class SmallAdam(torch.optim.Adam):
    """PyTorch's fused Adam, and `advance`: the same step without hooks and checks, and without subnormal moments.

    In C where that can be had, which rounds differently.

    A unit that relu has silenced has a gradient of 0, and the first moment of its weights decays into the subnormal
    numbers and stays there, where a processor is ten times slower: a third of all moments after 20,000 steps of SAC.
    """

    def __init__(self, parameters: list[nn.Parameter], learning_rate: float):
        super().__init__(parameters, lr=learning_rate, fused=True)

    @torch.no_grad()
    def advance(self) -> None:
        """Step along `grad` of every parameter; each has one."""
        group = self.param_groups[0]
        if not self.state:
            self.step()  # makes the moments
            return
        states: list[dict[str, Tensor]] = [self.state[parameter] for parameter in group["params"]]
        first, second, steps = ([state[name] for state in states] for name in ("exp_avg", "exp_avg_sq", "step"))
        parameters, gradients, (beta1, beta2) = group["params"], self.gradients(), group["betas"]
        if functions := usable(parameters[0], gradients[0]):
            tables = map(addresses, (parameters, gradients, first, second, steps))
            functions.adam(
                len(parameters), counts(parameters), *tables, group["lr"], beta1, beta2, group["eps"], NEGLIGIBLE,
                torch.get_num_threads(),
            )  # fmt: skip
            return
        adam(
            parameters, gradients, first, second, [], steps, fused=True, amsgrad=False, beta1=beta1, beta2=beta2,
            lr=group["lr"], weight_decay=0.0, eps=group["eps"], maximize=False,
        )  # fmt: skip
        if int(steps[0]) % FLUSH_EVERY == 0:
            for moments in first:
                moments.masked_fill_(moments.abs() < NEGLIGIBLE, 0.0)

    def gradients(self) -> list[Tensor]:
        """Return `grad` of every parameter."""
        return [parameter.grad for parameter in self.param_groups[0]["params"]]

    def squared_norm(self) -> float:
        """Return the sum of the squared gradients; not finite where one of them is not, or outgrows float32."""
        gradients = self.gradients()
        if functions := usable(*gradients):
            return functions.squares(len(gradients), counts(gradients), addresses(gradients))
        return float(torch.stack([gradient.square().sum() for gradient in gradients]).sum())


@torch.no_grad()
def follow(old: list[Tensor], new: list[Tensor], rate: float) -> None:
    """Move each of the old tensors by `rate` of the way to the new one."""
    if functions := usable(*old, *new):
        functions.follow(len(old), counts(old), addresses(old), addresses(new), rate, torch.get_num_threads())
        return
    for target, source in zip(old, new):
        target.lerp_(source, rate)
