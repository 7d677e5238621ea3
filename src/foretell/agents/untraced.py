"""Optimisers that load no compiler: PyTorch's, without what keeps them from being traced; their state as tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


def optimizer_tensors(prefix: str, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Flatten an Adam-like optimiser's state to named tensors."""
    states = optimizer.state_dict()["state"]
    return {f"{prefix}/{index}/{name}": value for index, state in states.items() for name, value in state.items()}


def load_optimizer_tensors(prefix: str, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` took."""
    states: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith(prefix + "/"):
            index, _, name = key.removeprefix(prefix + "/").partition("/")
            states.setdefault(int(index), {})[name] = value.clone()
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})
