"""Greedy and beam search with cached keys and values (Vaswani et al. 2017, section 6.1; Wu et al. 2016, Eq. 14)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from foretell.core.errors import UsageError
from foretell.core.settings import number, whole
from foretell.models.transformer.network import Transformer
from foretell.models.transformer.stacks import DecoderCache


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """One target for each source: symbols after `start`, `end` included, and padding behind it."""

    symbols: Int[Tensor, "batch time"]
    """As many columns as the longest has; a target without `end` was cut at `max_length`."""
    scores: Float[Tensor, " batch"]
    """Log-probability in nats; of a beam search, divided by the length penalty."""


def length_penalty(length: int, alpha: float) -> float:
    r"""What the log-probability of `length` symbols is divided by: $(5 + |Y|)^\alpha / 6^\alpha$ (Wu et al., Eq. 14).

    `end` counts as a symbol. 0 compares plain log-probabilities; the larger, the longer the target that is chosen.

    >>> round(length_penalty(7, 0.6), 4)
    1.5157
    """
    return ((5 + length) / 6) ** alpha


@torch.inference_mode()
def greedy_search(model: Transformer, sources: Int[Tensor, "batch source_time"], *, max_length: int) -> Decoded:
    """Take the most probable symbol, again and again, until every target has ended or has `max_length` symbols.

    Raises `UsageError` where `max_length` is less than 1 or more than the model's, or a source has no such symbol.
    """
    max_length = _checked_length(model, max_length)
    step = _Step(model, sources, 1)
    symbols = sources.new_full((len(sources), max_length + 1), model.config.padding)
    symbols[:, 0] = model.config.start
    scores = torch.zeros(len(sources), dtype=model.positions.dtype, device=sources.device)
    open_ = torch.ones_like(scores, dtype=torch.bool)
    for length in range(1, max_length + 1):
        best, chosen = step(symbols[:, length - 1]).max(-1)
        scores = scores + best.masked_fill(~open_, 0.0)
        symbols[:, length] = chosen.masked_fill(~open_, model.config.padding)
        open_ = open_ & (chosen != model.config.end)
        if not bool(open_.any()):
            break
    return _decoded(model, symbols[:, 1:], scores)


@torch.inference_mode()
def beam_search(
    model: Transformer,
    sources: Int[Tensor, "batch source_time"],
    *,
    max_length: int,
    beam_width: int = 4,
    alpha: float = 0.6,
) -> Decoded:
    """Follow the `beam_width` most probable targets of each source; return the best by its penalised score.

    A target that has ended leaves the beam, one narrower from there on, so that a beam of 1 is greedy search. A source
    is done when nothing in its beam can pass the best that has ended; the search stops when all are. A target that
    reaches `max_length` competes as it stands. All hypotheses of all sources are one batch. Defaults: section 6.1.
    Raises `UsageError` for a `max_length` or a symbol that the model has not, `beam_width` below 1, or an `alpha` that
    is negative or not finite.
    """
    max_length, beam_width = _checked_length(model, max_length), whole("beam_width", beam_width, 1)
    if not 0 <= (alpha := number("alpha", alpha)) < math.inf:
        raise UsageError(f"alpha is {alpha}; expected a number of 0 or more, and finite.")
    step, batch, vocabulary = _Step(model, sources, beam_width), len(sources), model.config.vocabulary_size
    symbols = sources.new_full((batch, beam_width, max_length + 1), model.config.padding)
    symbols[..., 0] = model.config.start
    best_symbols, ranks = symbols[:, 0].clone(), torch.arange(beam_width, device=sources.device)
    scores = torch.full((batch, beam_width), -torch.inf, dtype=model.positions.dtype, device=sources.device)
    scores[:, 0] = 0.0  # all rows of a beam begin alike: one of them counts
    best_scores, ended = torch.full_like(scores[:, 0], -torch.inf), torch.zeros_like(symbols[:, :1, 0])
    for length in range(1, max_length + 1):
        log_probabilities = step(symbols[..., length - 1].flatten()).unflatten(0, (batch, beam_width))
        scores, chosen = (scores[..., None] + log_probabilities).flatten(1).topk(beam_width)  # best first
        scores = scores.masked_fill(ranks >= beam_width - ended, -torch.inf)  # as many as have not ended
        parents = chosen // vocabulary  # (batch, beam_width), as all of these
        symbols = symbols.gather(1, parents[..., None].expand_as(symbols))
        symbols[..., length] = chosen % vocabulary
        ends = ((symbols[..., length] == model.config.end) | (length == max_length)) & scores.isfinite()
        penalised = scores.masked_fill(~ends, -torch.inf) / length_penalty(length, alpha)
        leading, leader = penalised.max(1)
        better = leading > best_scores
        best_scores = torch.where(better, leading, best_scores)
        candidate = symbols[torch.arange(batch, device=sources.device), leader]
        best_symbols = torch.where(better[:, None], candidate, best_symbols)
        ended = ended + ends.sum(1, keepdim=True)
        scores = scores.masked_fill(ends, -torch.inf)
        hope = scores.max(1).values / length_penalty(max_length, alpha)  # log-probabilities only fall
        if not bool((hope > best_scores).any()):
            break
        step.reorder(parents)
    return _decoded(model, best_symbols[:, 1:], best_scores)


class _Step:
    """Log-probabilities of the next symbol of `beam_width` targets for each source, one call a symbol."""

    def __init__(self, model: Transformer, sources: Int[Tensor, "batch source_time"], beam_width: int):
        self.model, self.beam_width = model, beam_width
        self.memory: Tensor = model.encode(sources).repeat_interleave(beam_width, 0)
        self.mask: Bool[Tensor, "rows source_time"] = model.mask(sources).repeat_interleave(beam_width, 0)
        self.cache: DecoderCache = model.decoder.cache()

    def __call__(self, newest: Int[Tensor, " rows"]) -> Float[Tensor, "rows vocabulary"]:
        """Read the newest symbol of every target; padding and `start` never come next."""
        logits = self.model.decode(newest[:, None], self.memory, self.mask, cache=self.cache)[:, 0]
        logits[:, [self.model.config.padding, self.model.config.start]] = -torch.inf
        return logits.log_softmax(-1)

    def reorder(self, parents: Int[Tensor, "batch beam_width"]) -> None:
        """Let each target go on from the one in its beam that `parents` names."""
        first = torch.arange(len(parents), device=parents.device)[:, None] * self.beam_width
        self.cache.reorder((first + parents).flatten())


def _checked_length(model: Transformer, max_length: int) -> int:
    found = whole("max_length", max_length, 1)
    if found > model.config.max_length:
        raise UsageError(f"max_length is {found}; expected 1 to the model's max_length, {model.config.max_length}.")
    return found


def _decoded(model: Transformer, symbols: Int[Tensor, "batch max_length"], scores: Float[Tensor, " batch"]) -> Decoded:
    longest = int((symbols != model.config.padding).sum(1).max()) if len(symbols) else 0
    return Decoded(symbols=symbols[:, :longest], scores=scores)
