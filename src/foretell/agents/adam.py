"""Adam for networks so small that the optimiser's own bookkeeping costs more than its arithmetic."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.optim.adam import adam
from torch.optim.optimizer import StateDict

from foretell.agents.native.building import usable
from foretell.agents.native.tables import AdamTables, Tables
from foretell.agents.untraced import Untraced

NEGLIGIBLE = 1e-30
"""First moments below it move no float32 weight: their step is below learning rate / eps * 1e-30."""
FLUSH_EVERY = 128
"""Steps of PyTorch's operators between setting them to 0: 1e-30 * 0.9^128 = 1e-36 is not subnormal yet."""


class SmallAdam(Untraced, torch.optim.Adam):
    """PyTorch's fused Adam, and `advance`: the same step without hooks and checks, and without subnormal moments.

    In C where that can be had, which rounds differently.

    A unit that relu has silenced has a gradient of 0, and the first moment of its weights decays into the subnormal
    numbers and stays there, where a processor is ten times slower: a third of all moments after 20,000 steps of SAC.
    """

    _tables: Tables | None = None
    _in_c: AdamTables | None = None

    def __init__(self, parameters: list[nn.Parameter], learning_rate: float):
        super().__init__(parameters, lr=learning_rate, fused=True)

    def load_state_dict(self, state_dict: StateDict) -> None:
        """Put back moments; they lie elsewhere then."""
        super().load_state_dict(state_dict)
        self._tables = None

    def advance(self) -> None:
        """Step along `grad` of every parameter; each has one."""
        self._advance(checked=False)

    def advance_if_finite(self, loss: float) -> bool:
        """Step where `loss` and every gradient are finite; return whether they are.

        Gradients of which the squares outgrow float32 are taken for infinite.
        """
        return self._advance(checked=True, loss=loss)

    def _advance(self, *, checked: bool, loss: float = 0.0) -> bool:
        tables = self._found()
        if (functions := tables.functions) and (step := self._step_in_c(tables)):
            return bool(functions.adam(step, checked, loss, torch.get_num_threads()))
        if checked and not math.isfinite(loss + self.squared_norm()):
            return False
        if not self.state:
            self.make_moments(self.param_groups[0]["params"], "step", "exp_avg", "exp_avg_sq")
            self._tables = None
        self._advance_by_operators()
        return True

    def in_c(self) -> int | None:
        """Return the address of what the next step takes, for C; None where PyTorch's operators take that step."""
        return self._step_in_c(self._found())

    def _step_in_c(self, tables: Tables) -> int | None:
        if not self.state or not tables.functions:
            return None
        if self._in_c is None:
            self._in_c = AdamTables(tables, NEGLIGIBLE)
        group = self.param_groups[0]
        self._in_c.set(group["lr"], group["betas"], group["eps"])
        return self._in_c.address

    @torch.no_grad()
    def _advance_by_operators(self) -> None:
        group = self.param_groups[0]
        first, second, steps = self._moments()
        beta1, beta2 = group["betas"]
        adam(
            group["params"], self.gradients(), first, second, [], steps, fused=True, amsgrad=False, beta1=beta1,
            beta2=beta2, lr=group["lr"], weight_decay=0.0, eps=group["eps"], maximize=False,
        )  # fmt: skip
        if int(steps[0]) % FLUSH_EVERY == 0:
            for moments in first:
                moments.masked_fill_(moments.abs() < NEGLIGIBLE, 0.0)

    def gradients(self) -> list[Tensor]:
        """Return `grad` of every parameter."""
        return [parameter.grad for parameter in self.param_groups[0]["params"]]

    def squared_norm(self) -> float:
        """Return the sum of the squared gradients; not finite where one of them is not, or outgrows float32."""
        tables = self._found()
        if functions := tables.functions:
            return functions.squares(tables.count, tables.counts, tables.addresses[1])
        return float(torch.stack([gradient.square().sum() for gradient in self.gradients()]).sum())

    def _moments(self) -> list[list[Tensor]]:
        """First moments, second moments and numbers of steps; none before the first step."""
        states = [self.state[parameter] for parameter in self.param_groups[0]["params"]] if self.state else []
        return [[state[name] for state in states] for name in ("exp_avg", "exp_avg_sq", "step")]

    def _found(self) -> Tables:
        """Where parameters, gradients and moments lie."""
        groups = self.param_groups[0]["params"], self.gradients()
        watched = [*groups[0], *groups[1]]
        moments = bool(self.state)  # of which a table made before the first step knows nothing
        if self._tables is None or not self._tables.hold(watched) or bool(self._tables.groups[-1]) != moments:
            self._tables = Tables(usable(*watched), watched, *groups, *self._moments())
            self._in_c = None
        return self._tables


class Following:
    """Tensors that move after others, such as the weights of a target network."""

    def __init__(self, old: list[Tensor], new: list[Tensor]):
        self._old, self._new = old, new
        self._tables: Tables | None = None

    def move(self, rate: float) -> None:
        """Move each of the old tensors by `rate` of the way to the new one."""
        watched = [*self._old, *self._new]
        if self._tables is None or not self._tables.hold(watched):
            self._tables = Tables(usable(*watched), watched, self._old, self._new)
        if functions := self._tables.functions:
            functions.follow(
                self._tables.count, self._tables.counts, *self._tables.addresses, rate, torch.get_num_threads()
            )
            return
        with torch.no_grad():
            for target, source in zip(self._old, self._new):
                target.lerp_(source, rate)
