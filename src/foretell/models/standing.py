"""Whether a network still is what it was when something was looked up about it."""

from __future__ import annotations

from collections.abc import Callable
from operator import call, is_

from torch import Tensor, nn

HOOKS = "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"
"""Where PyTorch keeps who looks on at a module."""


def hooked(*modules: nn.Module) -> bool:
    """Say whether somebody looks on at one of these: then it is called as PyTorch calls modules."""
    return any(getattr(module, name) for module in modules for name in HOOKS)


def watched(parameter: Tensor) -> bool:
    """Say whether somebody looks on at the gradient of this: then a graph has to come by it."""
    return bool(parameter._backward_hooks or parameter._post_accumulate_grad_hooks)


class Standing:
    """A network as it stood when this was made: at every update it is asked whether it `stands`, so that is cheap.

    It notices modules of other types or in other places, parameters and buffers that were put in the place of others,
    lie elsewhere, learn or no longer do, and who looks on at a module or a gradient. It is made of a network at which
    nobody does.
    """

    def __init__(self, network: nn.Module):
        self._modules = list(network.modules())
        self._types = list(map(type, self._modules))
        self._tables = [
            table for one in self._modules for table in (one._modules, one._parameters, one._buffers)
        ]  # fmt: skip
        entries = [(table, name, part) for table in self._tables for name, part in table.items()]
        self._look_up: list[Callable[[str], object]] = [table.get for table, _, _ in entries]
        self._names, self._parts = [name for _, name, _ in entries], [part for *_, part in entries]
        self._hooks = [getattr(one, name) for one in self._modules for name in HOOKS]
        self._tensors = [part for part in self._parts if isinstance(part, Tensor)]
        self._lie, self._learn = self._places(), self._learning()

    def stands(self) -> bool:
        """Say whether nothing of it has changed but the numbers of its parameters."""
        return (
            not any(self._hooks)
            and all(map(is_, map(call, self._look_up, self._names), self._parts))
            and sum(map(len, self._tables)) == len(self._parts)
            and self._types == list(map(type, self._modules))
            and self._lie == self._places() and self._learn == self._learning()
            and not any(map(watched, self._tensors))
        )  # fmt: skip

    def _places(self) -> list[int]:
        return list(map(Tensor.data_ptr, self._tensors))

    def _learning(self) -> list[bool]:
        return [one.requires_grad for one in self._tensors]
