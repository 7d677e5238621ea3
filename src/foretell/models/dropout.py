"""Dropout whose units follow from a generator that training seeds, drawn one by one or for a whole pass at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

WORD = 4
"""Units that share one 64-bit number, sixteen bits each."""


class PassGenerator(torch.Generator):
    """A generator from which `draw` takes the units of all dropouts of a pass together: on a GPU three kernels for what
    would be three for each. On the CPU they are, bit for bit, those that would be drawn one by one."""

    _counting = False
    _units = 0
    """Of one pass, in whole words."""
    _kept: tuple[float, Tensor] | None = None
    """What the dropouts of the pass under way multiply by, and with which probability."""
    _next = 0

    def count(self, one_pass: Callable[[], object]) -> None:
        """Call a pass, which drops nothing, and remember how many units it would ask for."""
        self._counting, self._units, self._kept = True, 0, None
        try:
            one_pass()
        finally:
            self._counting = False

    def draw(self, probability: float, device: torch.device) -> None:
        """Draw the units of a pass, for as many as were counted; the next pass takes them."""
        if self._units and probability:
            self._kept, self._next = (probability, _drawn(device, self._units, probability, self)), 0

    def forget(self) -> None:
        """Go back to drawing one by one."""
        self._kept = None

    def counts(self, units: int) -> bool:
        """Whether a pass is being counted; if so, these units are."""
        self._units += self._counting * -(-units // WORD) * WORD
        return self._counting

    def taken(self, units: int, probability: float) -> Float[Tensor, " units"] | None:
        """Return the next units of the pass under way; None where they are to be drawn one by one."""
        if self._kept is None:
            return None
        drawn_for, kept = self._kept
        start, self._next = self._next, self._next + -(-units // WORD) * WORD
        if probability != drawn_for or self._next > len(kept):
            raise RuntimeError(
                f"a pass asks for unit {self._next} with probability {probability}; expected at most {len(kept)} "
                f"units, all with {drawn_for}. Count the pass anew, or forget what was drawn."
            )
        return kept[start : start + units]


def dropout(inputs: Tensor, probability: float, generator: torch.Generator | None) -> Tensor:
    """Drop units with `probability` and scale up the rest; without a generator return the inputs as they are.

    Training passes a generator seeded by (seed, update), acting passes none: dropout cannot stay on by mistake, and
    draws nothing from the global state. Sixteen random bits a unit: the probability is met to 1 in 65,536.
    """
    if generator is None or probability == 0.0:
        return inputs
    if isinstance(generator, PassGenerator) and generator.counts(inputs.numel()):
        return inputs
    # of few bits, the product is rounded and not the scale, which would be the same bias
    return (inputs * kept_units(inputs, probability, generator)).to(inputs.dtype)


def add_dropped(
    tokens: Float[Tensor, "*shape"],
    branch: Float[Tensor, "*shape"],
    probability: float,
    generator: torch.Generator | None,
) -> Float[Tensor, "*shape"]:
    """Return tokens + dropout(branch); of a branch of fewer bits, what stays is rounded no more."""
    if generator is None or probability == 0.0:
        return tokens + branch
    if isinstance(generator, PassGenerator) and generator.counts(branch.numel()):
        return tokens + branch
    return (tokens + branch * kept_units(branch, probability, generator)).to(tokens.dtype)


def kept_units(inputs: Tensor, probability: float, generator: torch.Generator) -> Float[Tensor, "*shape"]:
    """Return what `dropout` multiplies these units by, in float32: 0, or what scales up those that stay."""
    kept = generator.taken(inputs.numel(), probability) if isinstance(generator, PassGenerator) else None
    if kept is None:
        kept = _drawn(inputs.device, inputs.numel(), probability, generator)
    return kept.view(inputs.shape)


def _drawn(device: torch.device, units: int, probability: float, generator: torch.Generator) -> Float[Tensor, " units"]:
    words = torch.empty(-(-units // WORD), dtype=torch.int64, device=device)
    bits = words.random_(-(2**63), None, generator=generator).view(torch.int16)[:units]
    dropped = round(probability * 65536)
    return ((bits >= dropped - 32768) * (65536 / (65536 - dropped))).to(torch.float32)
