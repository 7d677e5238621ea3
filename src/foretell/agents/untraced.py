"""Optimisers that load no compiler: PyTorch's, without what keeps them from being traced."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import unwrap

import torch
from torch import Tensor, nn


class Untraced(torch.optim.Optimizer):
    """An optimiser that nobody compiles.

    PyTorch hides these methods, and every step, from `torch.compile`, and loads all of that to do so: a second of each
    start. Should they one day be hidden in another way, to load it is all that happens.
    """

    add_param_group = unwrap(torch.optim.Optimizer.add_param_group)
    state_dict = unwrap(torch.optim.Optimizer.state_dict)
    load_state_dict = unwrap(torch.optim.Optimizer.load_state_dict)
    zero_grad = unwrap(torch.optim.Optimizer.zero_grad)

    def make_moments(self, parameters: Sequence[nn.Parameter], *names: str) -> None:
        """Give each parameter that has no state yet a number of steps, on the same device, and moments of zeros."""
        for one in parameters:
            if not self.state[one]:
                self.state[one].update({name: _zeros(name, one) for name in names})


class PlainAdam(Untraced, torch.optim.Adam):
    """PyTorch's Adam, to the last bit."""

    step = torch.no_grad()(unwrap(torch.optim.Adam.step))


def _zeros(state: str, parameter: nn.Parameter) -> Tensor:
    return torch.zeros((), device=parameter.device) if state == "step" else torch.zeros_like(parameter)
