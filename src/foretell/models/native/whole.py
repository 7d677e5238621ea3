"""Loss and gradients of a Decision Transformer in five calls, without a graph: the numbers are those of its graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from foretell.models.layers import kept_units
from foretell.models.native import ends, stack
from foretell.models.native.stack import StackSettings
from foretell.sequences.batch import SequenceBatch


@dataclass(frozen=True, kw_only=True)
class Parts:
    """A network as the library takes it: what `ends.embedded`, `stack.run_stack` and `ends.imitation_loss_of` take."""

    front: Sequence[Tensor]
    blocks: Sequence[Tensor]
    tail: Sequence[Tensor]
    settings: StackSettings
    bounded: bool
    absolute: bool


class Gradients:
    """Memory for the gradients of some parameters, each thread's one after the other; the next update takes it again.

    Made anew each time it would be pages that the system first has to clear.
    """

    def __init__(self) -> None:
        self._sums, self._total = stack.empty(0, 0), stack.empty(0)
        self._parts: list[Tensor] = []

    def zeros(self, parameters: Sequence[Tensor]) -> Tensor:
        """Return zeros for the gradients of all of them, a row a thread."""
        shape = torch.get_num_threads(), stack.offsets_of(parameters)[-1]
        if self._sums.shape != shape:
            self._sums = stack.empty(*shape)
            self._total = self._sums[0] if len(self._sums) == 1 else stack.empty(shape[1])
            self._parts = stack.parts_of(self._total, parameters)
        return self._sums.zero_()

    def write(self, parameters: Sequence[Tensor]) -> None:
        """Leave the sums as `grad` of the parameters; they last until the next update."""
        if len(self._sums) > 1:
            torch.sum(self._sums, 0, out=self._total)
        for parameter, gradient in zip(parameters, self._parts, strict=True):
            if parameter.requires_grad:
                parameter.grad = gradient


class Whole:
    """The memory of one network's gradients, part by part. A copy of the network has memory of its own."""

    def __init__(self) -> None:
        self._front, self._blocks, self._tail = Gradients(), Gradients(), Gradients()

    def __reduce__(self) -> tuple[type[Whole], tuple[()]]:
        return Whole, ()

    @torch.no_grad()
    def write_gradients(
        self, parts: Parts, inputs: Sequence[Tensor], batch: SequenceBatch, allowed: Tensor, tokens: int,
        dropout: float, generator: torch.Generator | None,
    ) -> Tensor:  # fmt: skip
        """Return the loss and leave `grad` on the parameters; `dropout` is the embedded tokens'."""
        embedding, timesteps, *tensors = ends.front_of(inputs, batch.timesteps, parts.front, tokens)
        embedded, moments = ends.front_forward(embedding, timesteps, tensors[:3], stack.addresses(tensors[3:]))
        kept = kept_units(embedded, dropout, generator) if dropout and generator else None
        if kept is not None:
            embedded.mul_(kept)
        allowed = allowed.contiguous()
        shape = stack.shape_of(embedded, allowed, parts.blocks, parts.settings, generator, keep=True)
        states, needed = stack.stack_forward(shape, embedded, allowed, stack.addresses(parts.blocks))
        reading = ends.tail_of(states, batch.actions, bounded=parts.bounded, absolute=parts.absolute)
        actions, mask = batch.actions.contiguous(), batch.mask.contiguous()
        loss, gradient = ends.tail(reading, actions, mask, states, parts.tail, self._tail.zeros(parts.tail))
        assert gradient is not None
        sums = self._blocks.zeros(parts.blocks)
        gradient = stack.stack_backward(shape, embedded, allowed, needed, parts.blocks, gradient, sums)
        if kept is not None:
            gradient.mul_(kept)
        ends.front_backward(embedding, timesteps, moments, tensors, gradient, self._front.zeros(parts.front))
        self._front.write(parts.front)
        self._blocks.write(parts.blocks)
        self._tail.write(parts.tail)
        return loss
