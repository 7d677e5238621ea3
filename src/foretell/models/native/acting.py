"""A Decision Transformer's next action in few calls: what stays the same between them is looked up once."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from foretell.models.native import ends, stack
from foretell.models.native.building import Native
from foretell.models.native.stack import StackSettings, address, addresses


@dataclass(frozen=True, kw_only=True)
class _Pass:
    """What the library is to know of windows of one shape, and memory for what lies between its calls."""

    front: ends.Front
    blocks: stack.Shape
    moments: Tensor
    tokens: Tensor


class Reader:
    """What a network predicts of the newest timestep of windows: `forward`, with everything looked up before.

    Its parameters are those of when this was made, where they lay then; who learns may go on writing into them. For
    one thread of Python at a time.
    """

    def __init__(
        self, library: Native, front: Sequence[Tensor], blocks: Sequence[Tensor], tail: Sequence[Tensor],
        settings: StackSettings, *, bounded: bool,
    ):  # fmt: skip
        self._library, self._bounded = library, bounded
        self._front, self._blocks, self._tail = list(front), list(blocks), list(tail)
        self._lie = self._addresses()
        self._tables = addresses(front), addresses(blocks)
        self._settings = replace(settings, outputs=slice(-1, None))
        self._pass: tuple[tuple[int, ...], _Pass] | None = None

    def reads(self, inputs: Sequence[Tensor], timesteps: Tensor, mask: Tensor) -> bool:
        """Whether it takes these windows: the parameters lie where they lay, and the windows fit them."""
        return self._lie == self._addresses() and ends.fits(inputs, timesteps, mask, self._front)

    def _addresses(self) -> list[int]:
        return [one.data_ptr() for one in (*self._front, *self._blocks, *self._tail)]

    def __call__(
        self,
        inputs: Sequence[Float[Tensor, "batch time _"]],
        timesteps: Int[Tensor, "batch time"],
        allowed: Bool[Tensor, "#batch 1 tokens tokens"],
    ) -> Float[Tensor, "batch action_dim"]:
        """Return actions or logits; only what it `reads`. Raises `IndexError` and `MemoryError`."""
        hidden = self._hidden([one.contiguous() for one in inputs], timesteps.contiguous(), allowed.contiguous())
        gain, shift, weight, bias = self._tail
        predicted = functional.linear(functional.layer_norm(hidden, gain.shape, gain, shift, stack.EPS), weight, bias)
        return torch.tanh(predicted) if self._bounded else predicted

    def _hidden(self, inputs: Sequence[Tensor], timesteps: Tensor, allowed: Tensor) -> Float[Tensor, "batch width"]:
        found, (front, blocks) = self._pass_of(inputs, timesteps, allowed), self._tables
        hidden, tokens = stack.empty(len(timesteps), found.blocks.width), address(found.tokens)
        failed = self._library.front_forward(
            ctypes.byref(found.front), addresses(inputs), address(timesteps), front, address(found.moments), tokens
        )
        ends.check(failed, found.front, timesteps)
        with self._library.one_thread_a_product():
            failed = self._library.forward(
                ctypes.byref(found.blocks), self._library.product, blocks, address(allowed), tokens, None,
                address(hidden),
            )  # fmt: skip
        stack.check(failed, found.blocks)
        return hidden

    def _pass_of(self, inputs: Sequence[Tensor], timesteps: Tensor, allowed: Tensor) -> _Pass:
        """Return what the last call had, where the windows are of that shape."""
        shape = *timesteps.shape, *allowed.shape, torch.get_num_threads()
        if self._pass is None or self._pass[0] != shape:
            front = ends.front_shape(inputs, self._front, allowed.shape[-1])
            tokens = stack.empty(front.windows, front.tokens, front.width)
            blocks = stack.shape_of(tokens, allowed, self._blocks, self._settings, None, keep=False)
            moments = stack.empty(front.windows, front.tokens, 2)
            self._pass = shape, _Pass(front=front, blocks=blocks, moments=moments, tokens=tokens)
        return self._pass[1]
