"""Hidden states of a Decision Transformer in two calls: what stays the same between calls is looked up once."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

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
    """What a network makes of windows up to the hidden state of their last token: `forward` before its last norm.

    Its parameters are those of when this was made, where they lay then. Who learns may go on writing into them; others
    that are put in their place are not seen.
    """

    def __init__(self, library: Native, front: Sequence[Tensor], blocks: Sequence[Tensor], settings: StackSettings):
        self._library = library
        self._front, self._blocks = ([one.detach() for one in part] for part in (front, blocks))
        self._tables = addresses(self._front), addresses(self._blocks)  # of memory that is held, so they stay true
        self._settings = replace(settings, outputs=slice(-1, None))
        self._passes: dict[tuple[int, ...], _Pass] = {}

    def __call__(
        self,
        inputs: Sequence[Float[Tensor, "batch time _"]],
        timesteps: Int[Tensor, "batch time"],
        allowed: Bool[Tensor, "#batch 1 tokens tokens"],
    ) -> Float[Tensor, "batch 1 width"]:
        """Return the hidden states; only where `ends.usable(*inputs)`. Raises `IndexError` and `MemoryError`."""
        inputs, timesteps = [one.contiguous() for one in inputs], timesteps.contiguous()
        allowed = allowed.contiguous()
        shape = *timesteps.shape, *allowed.shape, torch.get_num_threads()
        found = self._passes.get(shape) or self._passes.setdefault(shape, self._pass_of(inputs, allowed))
        hidden = torch.empty(len(timesteps), 1, found.blocks.width)
        tokens, (front, blocks) = address(found.tokens), self._tables
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

    def _pass_of(self, inputs: Sequence[Tensor], allowed: Tensor) -> _Pass:
        front = ends.front_shape(inputs, self._front, allowed.shape[-1])
        tokens = torch.empty(front.windows, front.tokens, front.width)
        blocks = stack.shape_of(tokens, allowed, self._blocks, self._settings, None, keep=False)
        return _Pass(front=front, blocks=blocks, moments=torch.empty(*tokens.shape[:2], 2), tokens=tokens)
