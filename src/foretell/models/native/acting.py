"""A Decision Transformer's next action in few calls: what stays the same between them is looked up once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from foretell.models.native import ends, stack
from foretell.models.native.stack import StackSettings, addresses


class Reader:
    """What a network predicts of the newest timestep of windows: `forward`, with everything looked up before.

    Its parameters are those of when this was made, where they lay then; who learns may go on writing into them.
    """

    def __init__(
        self, front: Sequence[Tensor], blocks: Sequence[Tensor], tail: Sequence[Tensor],
        settings: StackSettings, *, bounded: bool,
    ):  # fmt: skip
        self._bounded = bounded
        self._front, self._blocks, self._tail = list(front), list(blocks), list(tail)
        self._lie = self._addresses()
        self._tables = addresses(front), addresses(blocks)
        self._settings = replace(settings, outputs=slice(-1, None))
        self._shapes: tuple[tuple[int, ...], ends.Front, stack.Shape] | None = None

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
        predicted = functional.linear(
            functional.layer_norm(hidden[:, 0], gain.shape, gain, shift, stack.EPS), weight, bias
        )
        return torch.tanh(predicted) if self._bounded else predicted

    def _hidden(self, inputs: Sequence[Tensor], timesteps: Tensor, allowed: Tensor) -> Float[Tensor, "batch 1 width"]:
        size = *timesteps.shape, *allowed.shape, torch.get_num_threads()
        if self._shapes is None or self._shapes[0] != size:
            front = ends.front_shape(inputs, self._front, allowed.shape[-1])
            tokens = stack.empty(front.windows, front.tokens, front.width)  # for its shape
            blocks = stack.shape_of(tokens, allowed, self._blocks, self._settings, None, keep=False)
            self._shapes = size, front, blocks
        _, front, blocks = self._shapes
        tokens, _ = ends.front_forward(front, timesteps, inputs, self._tables[0])
        return stack.stack_forward(blocks, tokens, allowed, self._tables[1])[0]
