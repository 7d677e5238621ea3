"""Targets of the value functions, their errors, and soft values of the policy's actions; in C where that can be had."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from foretell.agents.native.building import usable
from foretell.agents.native.soft_values import NativeSoftValues


@runtime_checkable
class SoftValues(Protocol):
    """What is done to the values of all members; in C the numbers are those of PyTorch's operators, bit for bit.

    But for the losses, which no other number follows from: they are summed in float64 there.
    """

    def targets(
        self,
        rewards: Float[Tensor, " batch"],
        terminations: Bool[Tensor, " batch"],
        next_values: Float[Tensor, "members batch 1"],
        next_log_probs: Float[Tensor, " batch"] | None,
        temperature: Float[Tensor, ""],
        discount: float,
    ) -> Float[Tensor, " batch"]:
        """Return the Bellman target of the lowest next value, less the temperature times the log-density if given."""
        ...

    def squared_error(
        self, values: Float[Tensor, "members batch 1"], targets: Float[Tensor, " batch"]
    ) -> tuple[Float[Tensor, ""], Float[Tensor, "members batch 1"]]:
        """Return half the mean squared error, added over the members, and its gradient with respect to the values."""
        ...

    def lowest(
        self,
        values: Float[Tensor, "members batch 1"],
        log_probs: Float[Tensor, " batch"],
        temperature: Float[Tensor, ""],
    ) -> tuple[Float[Tensor, " batch"], Float[Tensor, ""], Float[Tensor, "members batch 1"]]:
        """Return the soft value of each row, of its lowest member, minus their mean, and its gradient."""
        ...


def soft_values(*tensors: Tensor) -> SoftValues:
    """Return what computes with tensors of this kind."""
    functions = usable(*tensors)
    return NativeSoftValues(functions) if functions else TorchSoftValues()


def bellman_target(
    rewards: Float[Tensor, " batch"],
    terminations: Bool[Tensor, " batch"],
    next_values: Float[Tensor, " batch"],
    discount: float,
) -> Float[Tensor, " batch"]:
    r"""Return $r + \gamma V(s')$ (Eq. 7 of the report): beyond a truncation too, never beyond a termination.

    >>> bellman_target(torch.tensor([1.0, 1.0]), torch.tensor([False, True]), torch.tensor([10.0, 10.0]), 0.5)
    tensor([6., 1.])
    """
    return rewards + discount * ~terminations * next_values


class TorchSoftValues:
    """`SoftValues` of PyTorch's operators, for any type of number."""

    def targets(
        self,
        rewards: Float[Tensor, " batch"],
        terminations: Bool[Tensor, " batch"],
        next_values: Float[Tensor, "members batch 1"],
        next_log_probs: Float[Tensor, " batch"] | None,
        temperature: Float[Tensor, ""],
        discount: float,
    ) -> Float[Tensor, " batch"]:
        """See `SoftValues`."""
        lowest = next_values.amin(0).squeeze(-1)
        if next_log_probs is not None:
            lowest = lowest - temperature * next_log_probs
        return bellman_target(rewards, terminations, lowest, discount)

    def squared_error(
        self, values: Float[Tensor, "members batch 1"], targets: Float[Tensor, " batch"]
    ) -> tuple[Float[Tensor, ""], Float[Tensor, "members batch 1"]]:
        """See `SoftValues`."""
        errors = values.squeeze(-1) - targets
        return 0.5 * errors.square().mean(-1).sum(), (errors / len(targets)).unsqueeze(-1)

    def lowest(
        self,
        values: Float[Tensor, "members batch 1"],
        log_probs: Float[Tensor, " batch"],
        temperature: Float[Tensor, ""],
    ) -> tuple[Float[Tensor, " batch"], Float[Tensor, ""], Float[Tensor, "members batch 1"]]:
        """See `SoftValues`."""
        found, chosen = values.min(0)
        gradient = torch.zeros_like(values).scatter_(0, chosen[None], -1 / len(chosen))
        soft = found.squeeze(-1) - temperature * log_probs
        return soft, -soft.mean(), gradient
