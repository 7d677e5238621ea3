"""Muon with clipped gradients: hidden matrices move along the orthogonal matrix next to their momentum."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim.adamw import adamw

from foretell.training.clipped import ClippedOptimizer
from foretell.training.native import adamw as native_adamw
from foretell.training.native import gradients as native_gradients
from foretell.training.native import muon as native_muon
from foretell.training.native.tables import Table

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5
"""A polynomial that sends the singular values of a matrix near 1, and how often it is applied (Jordan et al. 2024)."""
MOMENTUM = 0.95
BETAS, EPSILON = (0.9, 0.999), 1e-8
"""Those of Adam (Kingma and Ba 2015, section 2), as in PyTorch."""


class ClippedMuon(ClippedOptimizer):
    r"""Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon) for hidden matrices, AdamW for everything else.

    Of a matrix $W$ of `rows` by `columns`, with gradient $G$ and momentum $M \leftarrow 0.95 M + 0.05 G$, the step is
    $\sqrt{\max(1, rows / columns)}\, O$, where $O$ is next to $0.05 G + 0.95 M$ among the matrices whose singular
    values are 1: a step goes as far in every direction as in the one that the gradients are largest in. Matrices that
    are stored in one, such as those of queries, keys and values, are told apart.

    Beside PyTorch's `torch.optim.Muon`, it computes in float32: in C on the CPU where there is a compiler; elsewhere
    matrices of the same shape at once.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], matrices: Sequence[tuple[nn.Parameter, int]], *,
        learning_rate: float, matrix_learning_rate: float, weight_decay: float,
    ):  # fmt: skip
        """`matrices` are those of the `parameters` that Muon moves, each with the number of matrices stored in it.

        `learning_rate` is AdamW's; Muon's is larger by the ratio of `matrix_learning_rate` to it, at every update.
        """
        ratio = matrix_learning_rate / learning_rate
        moved = dict(matrices)
        others = [one for one in parameters if one not in moved]
        groups = [
            {"params": others, "ratio": 1.0, "stored": ()},
            {"params": list(moved), "ratio": ratio, "stored": tuple(moved.values())},
        ]
        # of fused optimisers PyTorch loads the numbers of steps to where the parameters lie
        super().__init__(groups, {"lr": learning_rate, "weight_decay": weight_decay, "fused": True})
        self._look_up()

    def _look_up(self) -> None:
        super()._look_up()
        self._states: dict[tuple[str, ...], tuple[list[nn.Parameter], list[list[Tensor]], list[Table]]] = {}

    def norm(self) -> Tensor:
        """Return the norm of all gradients together; in C where that can be had, which rounds differently."""
        gradients = self.gradients()
        found = native_gradients.norm(self._table("all gradients", gradients)) if gradients else None
        return super().norm() if found is None else found

    def advance(self, norm: Tensor, clip_norm: float, learning_rate: float) -> None:
        """Scale the gradients, of this `norm`, down to at most `clip_norm`, and step along them."""
        self.clip(norm, clip_norm)
        for group in self.param_groups:
            group["lr"] = learning_rate
        if self._optimizer_step_pre_hooks or self._optimizer_step_post_hooks:
            self.step()
        else:  # what PyTorch does around a step takes a tenth of it
            self._step()

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Step along the gradients as they are; the learning rate may be a tensor, and `found_inf` stop everything."""
        assert closure is None
        self._step()

    @torch.no_grad()
    def _step(self) -> None:
        others, matrices = self.param_groups
        frozen = getattr(self, "found_inf", None)
        self._advance_others(others, frozen)
        self._advance_matrices(matrices, frozen)

    def _advance_others(self, group: dict[str, Any], frozen: Tensor | None) -> None:
        parameters = [one for one in group["params"] if one.grad is not None]
        gradients = [one.grad for one in parameters]
        (first, second, steps), tables = self._states_of(parameters, "exp_avg", "exp_avg_sq", "step")
        if frozen is None and isinstance(group["lr"], float) and native_adamw.step(
            self._table("others", parameters), self._table("gradients of others", gradients),
            *tables, rate=group["lr"], betas=BETAS, epsilon=EPSILON, decay=group["weight_decay"],
        ):  # fmt: skip
            return
        adamw(
            parameters, gradients, first, second, [], steps, fused=True, amsgrad=False,
            beta1=BETAS[0], beta2=BETAS[1], lr=group["lr"], weight_decay=group["weight_decay"], eps=EPSILON,
            maximize=False, found_inf=frozen,
        )  # fmt: skip

    def _states_of(self, parameters: list[nn.Parameter], *names: str) -> tuple[list[list[Tensor]], list[Table]]:
        """Return each state of these parameters, zeros at first, and where it lies.

        Looked up once, while the same parameters learn where they lie; what was loaded is looked up again.
        """
        before, found, tables = self._states.get(names, ([], [], []))
        if len(before) != len(parameters) or not all(map(operator.is_, before, parameters)) or not found:
            self.make_moments(parameters, *names)
            found = [[self.state[one][name] for one in parameters] for name in names]
            tables = [Table(one) for one in found]
            self._states[names] = parameters, found, tables
        return found, tables

    def _advance_matrices(self, group: dict[str, Any], frozen: Tensor | None) -> None:
        moved = [(one, stored) for one, stored in zip(group["params"], group["stored"]) if one.grad is not None]
        if not moved:
            return
        parameters, gradients = [one for one, _ in moved], [one.grad for one, _ in moved]
        (momenta,), (table,) = self._states_of(parameters, "momentum")
        learning_rate, stored = group["lr"] * group["ratio"], [count for _, count in moved]
        if frozen is None and isinstance(learning_rate, float) and native_muon.step(
            self._table("matrices", parameters), self._table("gradients of matrices", gradients),
            table, stored, momentum=MOMENTUM, rate=learning_rate, decay=group["weight_decay"],
            coefficients=COEFFICIENTS, iterations=ITERATIONS,
        ):  # fmt: skip
            return
        if frozen is not None:  # what is not finite must not be multiplied by 0 either
            gradients = [torch.where(frozen > 0, momentum, one) for one, momentum in zip(gradients, momenta)]
            learning_rate = learning_rate * (1 - frozen)
        torch._foreach_lerp_(momenta, gradients, 1 - MOMENTUM)
        directions = torch._foreach_lerp(gradients, momenta, MOMENTUM)
        steps = steps_along(directions, stored)
        torch._foreach_mul_(parameters, 1 - learning_rate * group["weight_decay"])
        torch._foreach_mul_(steps, -learning_rate)
        torch._foreach_add_(parameters, steps)


def steps_along(directions: Sequence[Tensor], stored: Sequence[int]) -> list[Tensor]:
    r"""Return $\sqrt{\max(1, rows / columns)}\, O$ for each direction, of which the rows are `stored` matrices.

    Those of the same shape, or of its transpose, are computed together.
    """
    pieces = [piece for one, count in zip(directions, stored) for piece in one.chunk(count)]
    lying = [piece.mT if piece.shape[0] > piece.shape[1] else piece for piece in pieces]
    found: list[Tensor] = list(lying)
    for shape in dict.fromkeys(one.shape for one in lying):
        alike = [place for place, one in enumerate(lying) if one.shape == shape]
        for place, orthogonal in zip(alike, orthogonalized(torch.stack([lying[place] for place in alike]))):
            found[place] = orthogonal
    scaled = iter([
        one.mT * (piece.shape[0] / piece.shape[1]) ** 0.5 if piece.shape[0] > piece.shape[1] else one
        for one, piece in zip(found, pieces)
    ])  # fmt: skip
    return [torch.cat([next(scaled) for _ in range(count)]) for count in stored]


def orthogonalized(matrices: Float[Tensor, "matrices rows columns"]) -> Float[Tensor, "matrices rows columns"]:
    r"""Return about $U V^\top$ for each matrix $U \Sigma V^\top$, of at most as many rows as columns.

    By Newton and Schulz: $X \leftarrow aX + (bA + cA^2)X$ with $A = XX^\top$, from a norm of 1. The coefficients
    raise small singular values fast rather than end at 1: what comes out lies between 0.7 and 1.2 (Jordan et al. 2024).

    >>> orthogonalized(torch.tensor([[[3.0, 0.0], [0.0, -0.5]]])).round(decimals=1)  # the signs of a diagonal
    tensor([[[ 0.7,  0.0],
             [ 0.0, -1.1]]])
    """
    first, second, third = COEFFICIENTS
    found = matrices / (torch.linalg.vector_norm(matrices, dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(ITERATIONS):
        squares = found @ found.mT
        squares = torch.baddbmm(squares, squares, squares, beta=second, alpha=third)
        found = torch.baddbmm(found, squares, found, beta=first)
    return found
