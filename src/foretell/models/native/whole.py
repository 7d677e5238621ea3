"""Loss and gradients of a Decision Transformer in five calls, without a graph: the numbers are those of its graph."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from foretell.models.dropout import kept_units
from foretell.models.native import ends, stack
from foretell.models.native.building import Native
from foretell.models.native.stack import StackSettings, address, addresses
from foretell.models.standing import Standing
from foretell.sequences.batch import SequenceBatch


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The parameters of a network as the library takes them, in the order of `ends.embedded`, `stack.run_stack` and
    `ends.imitation_loss_of`."""

    front: Sequence[Tensor]
    blocks: Sequence[Tensor]
    tail: Sequence[Tensor]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How a network reads windows; `dropout` is the embedded tokens', that of the blocks stands in `blocks`."""

    tokens: int
    blocks: StackSettings
    bounded: bool
    absolute: bool
    dropout: float


class Gradients:
    """Memory for the gradients of some parameters, each thread's one after the other; the next update takes it again.

    Made anew each time it would be pages that the system first has to clear.
    """

    def __init__(self, parameters: Sequence[Tensor], threads: int):
        self.offsets = stack.offsets_of(parameters)
        self.sums = stack.empty(threads, self.offsets[-1])
        self._total = self.sums[0] if threads == 1 else stack.empty(self.offsets[-1])
        parts = zip(parameters, stack.parts_of(self._total, parameters), strict=True)
        self._learned = [(parameter, part) for parameter, part in parts if parameter.requires_grad]

    def write(self) -> None:
        """Leave the sums as `grad` of the parameters; they last until the next update."""
        if len(self.sums) > 1:
            torch.sum(self.sums, 0, out=self._total)
        for parameter, gradient in self._learned:
            if parameter.grad is not gradient:
                parameter.grad = gradient


class Whole:
    """What is looked up once for a network that takes update after update, and the memory that they take.

    A copy of the network looks it up for itself.
    """

    def __init__(self) -> None:
        self._standing: Standing | None = None
        self._parts: Parts | None = None
        self._passes: Passes | None = None

    def __reduce__(self) -> tuple[type[Whole], tuple[()]]:
        return Whole, ()

    def parts(self, network: nn.Module, look_up: Callable[[], Parts | None]) -> Parts | None:
        """Return what `look_up` returns of the network; it is asked again where something of it has changed."""
        if self._standing is None or not self._standing.stands():
            self._parts = look_up()
            self._standing = None if self._parts is None else Standing(network)
        return self._parts

    @torch.no_grad()
    def write_gradients(
        self, parts: Parts, reading: Reading, inputs: Sequence[Tensor], batch: SequenceBatch, allowed: Tensor,
        generator: torch.Generator | None,
    ) -> Tensor:  # fmt: skip
        """Return the loss and leave `grad` on the parameters."""
        alike = parts, reading, inputs[0].shape, batch.actions.shape, torch.get_num_threads()
        if self._passes is None or not self._passes.fit(*alike):
            self._passes = None  # the old memory is gone before the new is there
            self._passes = Passes(*alike, inputs)
        return self._passes.write_gradients(inputs, batch, allowed, generator)


class Passes:
    """Forward and backward passes over windows of one shape: their memory, and where it lies."""

    def __init__(
        self, parts: Parts, reading: Reading, windows: torch.Size, actions: torch.Size, threads: int,
        inputs: Sequence[Tensor],
    ):  # fmt: skip
        self._parts, self._alike = parts, (reading, windows, actions, threads)
        self._reading, (count, time, _) = reading, windows
        self._front = ends.front_shape(inputs, parts.front, reading.tokens)
        width = self._front.width
        self._tokens, self._moments = stack.empty(count, reading.tokens, width), stack.empty(count, reading.tokens, 2)
        self._blocks = stack.shape_of(self._tokens, self._tokens, parts.blocks, reading.blocks, None, keep=True)
        self._states = stack.empty(count, self._blocks.outputs, width)
        self._tail = ends.Tail(count, time, width, actions[-1], reading.bounded, reading.absolute, threads)
        self._upstream, self._downstream = torch.empty_like(self._states), torch.empty_like(self._tokens)
        groups = parts.front, parts.blocks, parts.tail
        self._tables = [addresses(group) for group in groups]
        self._gradients = [Gradients(group, threads) for group in groups]

    def fit(self, parts: Parts, *alike: object) -> bool:
        """Whether they were made for these parameters, and are of this shape."""
        return parts is self._parts and alike == self._alike

    def write_gradients(
        self, inputs: Sequence[Tensor], batch: SequenceBatch, allowed: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        """See `Whole.write_gradients`."""
        for gradients in self._gradients:
            gradients.sums.zero_()
        library = stack.loaded()
        # what lies in these has to live as long as the calls
        *inputs, timesteps, actions, mask, allowed = (
            one.contiguous() for one in (*inputs, batch.timesteps, batch.actions, batch.mask, allowed)
        )
        read = addresses(inputs), address(timesteps), self._tables[0]  # by both passes through the front
        shape, moments = ctypes.byref(self._front), address(self._moments)
        failed = library.front_forward(shape, *read, moments, address(self._tokens))
        ends.check(failed, self._front, timesteps)
        dropout = self._reading.dropout
        kept = kept_units(self._tokens, dropout, generator) if dropout and generator else None
        if kept is not None:
            self._tokens.mul_(kept)
        self._blocks.masks = len(allowed) > 1  # one for all windows where none is padded
        stack.draw_key(self._blocks, self._reading.blocks, generator)
        with library.one_thread_a_product():
            loss = self._through_blocks(library, address(allowed), actions, mask)
        if kept is not None:
            self._downstream.mul_(kept)
        front = self._gradients[0]
        failed = library.front_backward(
            shape, *read, front.offsets, moments, address(self._downstream), address(front.sums)
        )
        ends.check(failed)
        for gradients in self._gradients:
            gradients.write()
        return loss

    def _through_blocks(self, library: Native, allowed: ctypes.c_void_p, actions: Tensor, mask: Tensor) -> Tensor:
        """Return the loss, and leave the gradient of the tokens in `_downstream`."""
        (_, of_blocks, of_tail), (_, blocks, tail) = self._tables, self._gradients
        shape, product = ctypes.byref(self._blocks), library.product
        tokens, states, upstream = map(address, (self._tokens, self._states, self._upstream))
        needed, loss = stack.workspace(self._blocks), stack.empty()
        kept = address(needed)
        failed = library.forward(shape, product, of_blocks, allowed, tokens, kept, states)
        stack.check(failed, self._blocks)
        ends.check(library.tail(
            ctypes.byref(self._tail), states, address(actions), address(mask), of_tail, tail.offsets, address(loss),
            upstream, address(tail.sums),
        ))  # fmt: skip
        failed = library.backward(
            shape, product, of_blocks, blocks.offsets, allowed, tokens, kept, upstream, address(self._downstream),
            address(blocks.sums),
        )  # fmt: skip
        stack.check(failed, self._blocks)
        return loss
