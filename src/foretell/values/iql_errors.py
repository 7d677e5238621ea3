"""What lies between the passes of an update of implicit Q-learning: errors and their gradients; in C where that can be
had."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from foretell.agents.native.building import usable
from foretell.agents.soft_values import bellman_target
from foretell.agents.transitions import Transitions
from foretell.values.native.iql_errors import NativeErrors


@runtime_checkable
class Errors(Protocol):
    """In C the numbers are those of PyTorch's operators, bit for bit, but for the losses: summed in float64."""

    def of_values(
        self, of_data: Float[Tensor, "members batch 1"], values: Float[Tensor, "1 two_batches 1"], batch: Transitions,
        expectile: float, discount: float,
    ) -> tuple[Tensor, Float[Tensor, "1 batch 1"], Float[Tensor, " batch"], Float[Tensor, " batch"]]:  # fmt: skip
        """Return the expectile loss of V, its gradient, the targets of Q and the advantages of the data's actions.

        `of_data` are values of the data's actions; `values` V at the observations, then at the next ones.
        """
        ...

    def of_q(
        self, values: Float[Tensor, "members batch 1"], targets: Float[Tensor, " batch"]
    ) -> tuple[Tensor, Float[Tensor, "members batch 1"]]:
        """Return the mean squared error, added over the members, and its gradient."""
        ...


def errors(*tensors: Tensor) -> Errors:
    """Return what computes with tensors of this kind."""
    functions = usable(*tensors)
    return NativeErrors(functions) if functions else TorchErrors()


class TorchErrors:
    """`Errors` of PyTorch's operators, for any type of number."""

    def of_values(
        self, of_data: Float[Tensor, "members batch 1"], values: Float[Tensor, "1 two_batches 1"], batch: Transitions,
        expectile: float, discount: float,
    ) -> tuple[Tensor, Float[Tensor, "1 batch 1"], Float[Tensor, " batch"], Float[Tensor, " batch"]]:  # fmt: skip
        """See `Errors`."""
        here, following = values[0, :, 0].split(len(batch.rewards))
        advantages = of_data.squeeze(-1).amin(0) - here
        slopes = (expectile - (advantages < 0).to(values.dtype)).abs() * advantages
        targets = bellman_target(batch.rewards, batch.terminations, following, discount)
        return (slopes * advantages).mean(), (-2 / len(slopes) * slopes)[None, :, None], targets, advantages

    def of_q(
        self, values: Float[Tensor, "members batch 1"], targets: Float[Tensor, " batch"]
    ) -> tuple[Tensor, Float[Tensor, "members batch 1"]]:
        """See `Errors`."""
        found = values.squeeze(-1) - targets
        return found.square().mean(-1).sum(), (2 * (found / len(targets)))[..., None]
