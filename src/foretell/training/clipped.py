"""What training asks of an optimiser, for networks so small that its bookkeeping is most of it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from foretell.agents.untraced import Untraced
from foretell.training.native import gradients as in_c
from foretell.training.native.tables import Table


class ClippedOptimizer(Untraced):
    """Scales the gradients of all parameters together down to a norm, and steps along them."""

    parameters: list[nn.Parameter]
    """Every parameter, of whichever group."""
    _tables: dict[str, Table]
    """Where groups of tensors lie, by name."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take what a copy or `load_state_dict` brings; parameters and moments may lie elsewhere then."""
        super().__setstate__(state)
        self._look_up()

    def _look_up(self) -> None:
        """Look up what stays the same from update to update."""
        self.parameters = [one for group in self.param_groups for one in group["params"]]
        self._tables = {}

    def _table(self, name: str, tensors: Sequence[Tensor]) -> Table:
        """Return where these lie; `name` is what they are called at every update."""
        found = self._tables.get(name)
        if found is None or not found.holds(tensors):
            found = self._tables[name] = Table(tensors)
        return found

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
        if not in_c.clip(self._table("all gradients", gradients), norm, clip_norm):
            torch._foreach_mul_(gradients, (clip_norm / (norm + 1e-6)).clamp(max=1.0))
        return gradients

    def gradients(self) -> list[Tensor]:
        """Return the gradients that there are."""
        return [one.grad for one in self.parameters if one.grad is not None]
