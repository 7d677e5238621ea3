"""Beam search in the continuations that a Trajectory Transformer expects (Janner et al. 2021, section 3.2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from foretell.core.seeding import derive_seed
from foretell.evaluation.configs import PlanningConfig
from foretell.models.trajectory_transformer import Branches, Read, TrajectoryTransformer

Worth = Callable[[Int[Tensor, "batch branches observation_slots"], Int[Tensor, "batch branches action_slots"]], Tensor]
"""From symbols of an observation and an action to what is earned from there on, `(batch, branches)` reward units."""


@dataclass
class _Beams:
    """Continuations of each window: logits of their next symbol, and what the network keeps of the symbols so far."""

    model: TrajectoryTransformer
    read: Read
    place: int
    logits: Float[Tensor, "batch branches vocabulary"]
    branches: Branches
    symbols: Int[Tensor, "batch branches tokens"]

    @classmethod
    def start(
        cls,
        model: TrajectoryTransformer,
        symbols: Int[Tensor, "batch tokens"],
        front: Float[Tensor, "batch front width"] | None,
        count: int,
    ) -> _Beams:
        logits, read = model.read(symbols, front)
        batch, place = symbols.shape
        several = logits[:, None].expand(-1, count, -1)
        return cls(model, read, place, several, model.no_branches(batch, count), symbols.new_zeros(batch, count, 0))

    @property
    def slot(self) -> int:
        """Slot of the next symbol."""
        return self.place % self.model.slots

    def append(self, symbols: Int[Tensor, "batch branches"]) -> None:
        """Go on by a symbol for each branch."""
        self.end(symbols)
        self.logits, self.branches = self.model.extend(symbols, self.place, self.read, self.branches)
        self.place += 1

    def end(self, symbols: Int[Tensor, "batch branches"]) -> None:
        """Put the last symbol to each branch: the network, which takes the time, is not asked what comes behind it."""
        self.symbols = torch.cat([self.symbols, symbols[..., None]], -1)

    def select(self, chosen: Int[Tensor, "batch kept"]) -> None:
        """Keep the chosen branches of each window, in this order; one may be chosen more than once."""
        self.logits = self.logits.gather(1, chosen[..., None].expand(-1, -1, self.logits.shape[-1]))
        self.symbols = self.symbols.gather(1, chosen[..., None].expand(-1, -1, self.symbols.shape[-1]))
        self.branches = [(_selected(keys, chosen), _selected(values, chosen)) for keys, values in self.branches]


def _selected(
    kept: Float[Tensor, "batch heads branches tokens head_dim"], chosen: Int[Tensor, "batch chosen"]
) -> Float[Tensor, "batch heads chosen tokens head_dim"]:
    where = chosen[:, None, :, None, None].expand(-1, kept.shape[1], -1, *kept.shape[3:])
    return kept.gather(2, where)


def likeliest(
    model: TrajectoryTransformer,
    symbols: Int[Tensor, "batch tokens"],
    steps: int,
    beam_width: int,
    front: Float[Tensor, "batch front width"] | None = None,
) -> Int[Tensor, "batch steps"]:
    """Return the likeliest next `steps` symbols of each window, found by beam search (the paper's Algorithm 1).

    A width of at least vocabulary ** (steps - 1) leaves nothing out.
    """
    beams = _Beams.start(model, symbols, front, 1)
    scores = torch.zeros(len(symbols), 1)
    for step in range(steps):
        logits = _allowed(model, beams.logits, beams.slot)
        extended = scores[..., None] + logits.log_softmax(-1)
        scores, order = extended.flatten(1).topk(min(beam_width, extended[0].numel()))
        parent, symbol = order // model.vocabulary, order % model.vocabulary
        beams.select(parent)
        if step + 1 == steps:
            return torch.cat([beams.symbols, symbol[..., None]], -1)[:, 0]
        beams.append(symbol)
    return beams.symbols[:, 0]


def best_actions(
    model: TrajectoryTransformer,
    symbols: Int[Tensor, "batch tokens"],
    config: PlanningConfig,
    worth: Worth | None = None,
    return_scale: float = 1.0,
    front: Float[Tensor, "batch front width"] | None = None,
) -> Int[Tensor, "batch action_slots"]:
    r"""Return the action that begins the best plan of each window, which ends with the newest observation.

    The worth of a plan of timesteps 0 to $h$ is $\sum_{i<h} \gamma^i r_i + \gamma^h \hat R_h$: rewards and, of its
    last timestep, the return-to-go, both means of what the model expects, or what `worth` says in the latter's place.
    After every timestep the best `beam_width` stay.
    """
    count, first = config.beam_width * config.expansion, model.observation_slots
    beams = _Beams.start(model, symbols, front, count)
    observations = symbols[:, None, -first:].expand(-1, count, -1)
    scores = earned = torch.zeros(len(symbols), count)
    ended = torch.zeros(len(symbols), count, dtype=torch.bool)
    for h in range(config.horizon):
        final = h + 1 == config.horizon
        for slot in range(model.action_slots):
            logits = _allowed(model, beams.logits, beams.slot)
            noise = _noise(config, h, slot, logits)
            drawn = _drawn(logits, noise, config.action_top_k, config.action_percentile)
            if final and worth is not None and slot + 1 == model.action_slots:
                beams.end(drawn)
            else:
                beams.append(drawn)
        rewards = earned if final else model.mean(beams.logits, beams.slot)  # the final one's are not asked for
        if worth is not None:
            rest = worth(observations, beams.symbols[..., -model.action_slots :])
        else:
            beams.append(beams.logits[..., : model.config.bins].argmax(-1))
            rest = return_scale * model.mean(beams.logits, beams.slot)
        scores = earned + config.discount**h * torch.where(ended, 0.0, rest)
        if final:
            break
        earned = earned + config.discount**h * torch.where(ended, 0.0, rewards)
        kept = scores.topk(config.beam_width).indices
        beams.select(kept)
        earned, ended = earned.gather(1, kept), ended.gather(1, kept)
        while beams.slot:  # what is left of reward and return-to-go
            beams.append(beams.logits[..., : model.config.bins].argmax(-1))
        for slot in range(first):
            logits = _allowed(model, beams.logits, slot, ending=not slot)
            noise = _noise(config, h, model.action_slots + slot, logits)
            symbols_ahead = _drawn(logits, noise, config.observation_top_k, config.observation_percentile)
            ended = ended | (symbols_ahead == model.stop)
            beams.append(symbols_ahead.clamp_max(model.config.bins - 1))
        several = torch.arange(config.beam_width).repeat_interleave(config.expansion).expand(len(symbols), -1)
        beams.select(several)
        earned, ended = earned.gather(1, several), ended.gather(1, several)
        observations = beams.symbols[..., -first:]
    best = scores.argmax(1)
    return beams.symbols[torch.arange(len(best)), best, : model.action_slots]


def _allowed(
    model: TrajectoryTransformer, logits: Float[Tensor, "*batch vocabulary"], slot: int, *, ending: bool = False
) -> Float[Tensor, "*batch vocabulary"]:
    """Return the logits with minus infinity where a symbol has no meaning in its slot; the end has if `ending`."""
    numbers = torch.arange(model.vocabulary)
    choices = model.shape.action_dim if model.shape.discrete and slot == model.observation_slots else model.config.bins
    return logits.masked_fill((numbers >= choices) & ~((numbers == model.stop) & ending), -torch.inf)


def _drawn(
    logits: Float[Tensor, "batch branches symbols"],
    noise: Float[Tensor, "branches symbols"],
    top_k: int | None,
    percentile: float | None,
) -> Int[Tensor, "batch branches"]:
    """Draw a symbol for every branch: the largest logit with Gumbel noise on it, among those that the filters leave."""
    if top_k == 1:
        return logits.argmax(-1)
    if top_k is not None and top_k < logits.shape[-1]:
        least = logits.topk(top_k).values[..., -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    if percentile is not None:
        ordered, order = logits.softmax(-1).sort(-1, descending=True)
        beyond = ordered.cumsum(-1) - ordered >= percentile  # those before it are enough
        logits = logits.masked_fill(beyond.scatter(-1, order, beyond), -torch.inf)
    return (logits + noise).argmax(-1)


def _noise(config: PlanningConfig, timestep: int, slot: int, logits: Tensor) -> Float[Tensor, "branches symbols"]:
    generator = torch.Generator().manual_seed(derive_seed(config.seed, "plan", timestep, slot))
    uniform = torch.rand(logits.shape[1:], generator=generator).clamp_min(1e-20)
    return -(-uniform.log()).log()
