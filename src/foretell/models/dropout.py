"""Dropout whose units follow from a generator that training seeds, drawn one by one or for a whole pass at once."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from jaxtyping import Float
from torch import Tensor

WORD = 4
"""Units that share one 64-bit number, sixteen bits each."""


class PassUnits:
    """The units that all dropouts of a pass keep, drawn together: on a GPU three kernels for what would be three for
    each. On the CPU they are, bit for bit, those that would be drawn one by one."""

    def __init__(self) -> None:
        self._count = 0
        self._kept: tuple[float, Tensor] | None = None

    @contextmanager
    def counting(self) -> Generator[None]:
        """Let the passes inside drop nothing; remember how many units the dropouts of one asked for, in whole words."""
        self._count, self._kept = 0, None
        with self._asked():
            yield

    @contextmanager
    def drawn(self, probability: float, device: torch.device, generator: torch.Generator) -> Generator[None]:
        """Draw the units that were counted; the dropouts of the one pass inside take them in turn."""
        if not self._count or not probability:
            yield
            return
        self._kept, self._next = (probability, _drawn(device, self._count, probability, generator)), 0
        try:
            with self._asked():
                yield
        finally:
            self._kept = None

    def take(self, inputs: Tensor, probability: float) -> Float[Tensor, "*shape"] | None:
        """Return what the next units are multiplied by, in the shape of `inputs`; None of a pass that is counted."""
        words = -(-inputs.numel() // WORD)
        if self._kept is None:
            self._count += WORD * words
            return None
        drawn_for, kept = self._kept
        start, self._next = self._next, self._next + WORD * words
        if probability != drawn_for or self._next > len(kept):
            raise RuntimeError(
                f"a pass asks for unit {self._next} with probability {probability}; expected at most {len(kept)} "
                f"units, all with {drawn_for}. Count the pass anew."
            )
        return kept[start : start + inputs.numel()].view(inputs.shape)

    @contextmanager
    def _asked(self) -> Generator[None]:
        token = _UNDER_WAY.set(self)
        try:
            yield
        finally:
            _UNDER_WAY.reset(token)


_UNDER_WAY: ContextVar[PassUnits | None] = ContextVar("units of the pass under way", default=None)
"""Whom the dropouts of this thread ask; without one, each draws its own."""


def dropout(inputs: Tensor, probability: float, generator: torch.Generator | None) -> Tensor:
    """Drop units with `probability` and scale up the rest; without a generator return the inputs as they are.

    Training passes a generator seeded by (seed, update), acting passes none: dropout cannot stay on by mistake, and
    draws nothing from the global state. Sixteen random bits a unit: the probability is met to 1 in 65,536.
    """
    if generator is None or probability == 0.0:
        return inputs
    kept = kept_units(inputs, probability, generator)
    # of few bits, the product is rounded and not the scale, which would be the same bias
    return inputs if kept is None else (inputs * kept).to(inputs.dtype)


def add_dropped(
    tokens: Float[Tensor, "*shape"],
    branch: Float[Tensor, "*shape"],
    probability: float,
    generator: torch.Generator | None,
) -> Float[Tensor, "*shape"]:
    """Return tokens + dropout(branch); of a branch of fewer bits, what stays is rounded no more."""
    if generator is None or probability == 0.0:
        return tokens + branch
    kept = kept_units(branch, probability, generator)
    return tokens + branch if kept is None else (tokens + branch * kept).to(tokens.dtype)


def kept_units(inputs: Tensor, probability: float, generator: torch.Generator) -> Float[Tensor, "*shape"] | None:
    """Return what `dropout` multiplies these units by, in float32: 0, or what scales up those that stay; None where the
    pass is only counted (`PassUnits`)."""
    units = _UNDER_WAY.get()
    if units is not None:
        return units.take(inputs, probability)
    return _drawn(inputs.device, inputs.numel(), probability, generator).view(inputs.shape)


def _drawn(device: torch.device, units: int, probability: float, generator: torch.Generator) -> Float[Tensor, " units"]:
    words = torch.empty(-(-units // WORD), dtype=torch.int64, device=device)
    bits = words.random_(-(2**63), None, generator=generator).view(torch.int16)[:units]
    dropped = round(probability * 65536)
    return ((bits >= dropped - 32768) * (65536 / (65536 - dropped))).to(torch.float32)
