"""The weights of linear layers in fewer bits, rounded all at once; autocast would round each where it is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call


class RoundedWeights:
    """Copies of the parameters of a module's linear layers, which stand in for them in one pass.

    Of a network of forty of them that is two kernels instead of eighty; the numbers are autocast's, bit for bit, but of
    a weight that two layers share, whose gradients are added before they are float32.
    """

    def __init__(self, module: nn.Module, dtype: torch.dtype):
        """Find the layers of `module`, whose `forward` is the pass; of what else there is nothing is rounded."""
        linear = {name for name, one in module.named_modules() if isinstance(one, nn.Linear)}
        self._module, self._dtype = module, dtype
        self._parameters = {
            name: one for name, one in module.named_parameters()
            if name.rpartition(".")[0] in linear and one.dtype is torch.float32 and one.requires_grad
        }  # fmt: skip

    def pass_through(self, *inputs: Any) -> tuple[Any, Callable[[], None]]:
        """Return what the module makes of the inputs, and what is to be called after its backward pass.

        That leaves the gradients, in float32, on the parameters themselves.
        """
        parameters: list[Tensor] = [*self._parameters.values()]
        copies = [torch.empty_like(one, dtype=self._dtype) for one in parameters]
        with torch.no_grad():
            torch._foreach_copy_(copies, parameters)
        for one in copies:
            one.requires_grad_()
        found = functional_call(self._module, dict(zip(self._parameters, copies, strict=True)), inputs)
        return found, lambda: _give_back(parameters, copies)


def _give_back(parameters: list[Tensor], copies: list[Tensor]) -> None:
    """Leave the gradients of the copies on the parameters."""
    read = [(one, copy.grad) for one, copy in zip(parameters, copies, strict=True) if copy.grad is not None]
    gradients = [torch.empty_like(one) for one, _ in read]
    torch._foreach_copy_(gradients, [gradient for _, gradient in read])
    for (one, _), gradient in zip(read, gradients, strict=True):
        one.grad = gradient
