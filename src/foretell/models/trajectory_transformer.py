"""Trajectory Transformer (Janner et al. 2021, arXiv:2106.02039): a GPT in which every number is a symbol.

| paper | here |
|---|---|
| $s_t^i, a_t^j, r_t, \\hat R_t$ as tokens | `symbols`, slots in this order |
| $N + M + 2$ | `slots` of a timestep |
| $V$ | `bins` |
| discount $\\gamma$ of $\\hat R_t$ | `discount` |

Where we differ from the published code: docs/trajectory-transformer.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from foretell.core.errors import UsageError
from foretell.models.configs import SequenceShape, TrajectoryTransformerConfig
from foretell.models.dropout import dropout
from foretell.models.initialization import EMBEDDING_STD, initialize
from foretell.models.interface import SequenceModel
from foretell.models.layers import Block, behind, causal_mask, through_blocks
from foretell.models.recorded import known_whole
from foretell.models.symbols import columns, neighbourhood, smooth_tables, symbol_errors
from foretell.sequences.batch import SequenceBatch
from foretell.sequences.discretization import Discretizer
from foretell.sequences.windows import WindowSampler

FITTED_ROWS = 200_000
"""Timesteps, evenly spaced, that the bins are fitted on where there are more."""

Branches = list[tuple[Float[Tensor, "batch heads branches _tokens head_dim"], Tensor]]
"""Keys and values of what each branch of a window read by itself, for every block."""


@dataclass(frozen=True)
class Read:
    """What every block keeps of the tokens read so far: keys and values, and which of them may be seen."""

    keys: list[Float[Tensor, "batch heads tokens head_dim"]]
    values: list[Float[Tensor, "batch heads tokens head_dim"]]
    seen: Bool[Tensor, "batch tokens"]


class TrajectoryTransformer(SequenceModel[TrajectoryTransformerConfig]):
    """A distribution over the next symbol of a trajectory, for each slot of a timestep by a head of its own.

    Returns-to-go are predicted and seen by no other token. Positions count from the window's first timestep. What
    stands in `front` of a window, a goal or what it is told, every token sees.
    """

    def __init__(self, config: TrajectoryTransformerConfig, shape: SequenceShape, generator: torch.Generator):
        super().__init__(config, shape)
        if len(shape.observation_shape) != 1:
            raise UsageError(
                f"observations of shape {shape.observation_shape}; expected a vector: the Trajectory Transformer "
                "makes a symbol of every number."
            )
        self.observation_slots = shape.observation_shape[0]
        self.action_slots = 1 if shape.discrete else shape.action_dim
        self.slots = self.observation_slots + self.action_slots + 2
        self.vocabulary = 1 + max(config.bins, shape.action_dim if shape.discrete else 0)
        self.stop = self.vocabulary - 1
        self.discretizer = Discretizer(self.slots, config.bins)
        width = config.width
        goals = self.observation_slots if config.goals else 0
        self.embed_symbol = nn.Embedding((self.slots + goals) * self.vocabulary, width)
        self.embed_position = nn.Embedding(goals + config.context_length * self.slots, width)
        self.blocks = nn.ModuleList(Block(width, config.heads, config.dropout, "gelu") for _ in range(config.layers))
        self.norm = nn.LayerNorm(width)
        self.embed_told = nn.Linear(2, width) if config.told else None
        self.heads = nn.Parameter(torch.empty(self.slots, self.vocabulary, width))
        initialize(self, generator)
        with torch.no_grad():
            tables = smooth_tables(self.slots + goals, self.vocabulary, width, generator)
            self.embed_symbol.weight.copy_(EMBEDDING_STD * tables.flatten(0, 1))
            self.heads.copy_(smooth_tables(self.slots, self.vocabulary, width, generator) / width**0.5)
        targets = self._spread(self.slots, config.smoothing).flatten(0, 1) if config.smoothing else None
        near = self._spread(self.slots + goals, config.table_smoothing) if config.table_smoothing else None
        self.register_buffer("targets", targets, persistent=False)
        self.register_buffer("near", near, persistent=False)

    @torch.no_grad()
    def prepare(self, sampler: WindowSampler) -> None:
        """Fit the bins on the data, evenly spaced rows of them."""
        rows = np.linspace(0, sampler.num_steps - 1, min(sampler.num_steps, FITTED_ROWS)).astype(np.int64)
        parts = np.array_split(rows, 1 + len(rows) // 4096)
        found = [columns(sampler.windows(part), self.shape)[:, -1] for part in parts]
        self.discretizer.fit(torch.cat(found).numpy(), self.config.binning)

    def symbols(self, batch: SequenceBatch) -> Int[Tensor, "batch time slots"]:
        """Return every timestep as symbols; of what is not known yet, the newest action say, those of the filling."""
        symbols = self.discretizer.encode(columns(batch, self.shape))
        if self.shape.discrete:
            symbols[..., self.observation_slots] = batch.actions
        return symbols

    def front(self, batch: SequenceBatch) -> Float[Tensor, "batch front width"] | None:
        """Return what stands in front of the windows, embedded: what they are told, then the goal; None for neither."""
        parts = [self._told(batch)] if self.embed_told is not None else []
        if self.config.goals and batch.goals is not None:
            parts.append(self._embed_goals(self.goal_symbols(batch.goals)))
        return torch.cat(parts, 1) if parts else None

    def _told(self, batch: SequenceBatch) -> Float[Tensor, "batch 1 width"]:
        """Embed what the first real timestep is told; a return says little without the timesteps that are left."""
        assert self.embed_told is not None
        rows, first = torch.arange(len(batch.mask)), batch.mask.int().argmax(1)
        time = batch.timesteps[rows, first, None] / self.shape.max_timesteps  # in [0, 1)
        return self.embed_told(torch.cat([batch.returns_to_go[rows, first], time], 1))[:, None]

    def goal_symbols(self, goals: Float[Tensor, "batch observation_slots"]) -> Int[Tensor, "batch observation_slots"]:
        """Return observations to be reached, in the networks' units, as symbols."""
        filling = goals.new_zeros(len(goals), self.slots - self.observation_slots)
        return self.discretizer.encode(torch.cat([goals, filling], 1))[:, : self.observation_slots]

    def loss(self, batch: SequenceBatch, generator: torch.Generator | None = None) -> Float[Tensor, ""]:
        r"""Weighted mean over real symbols of $-\log P(\text{symbol} \mid \text{those before})$, nats (section 3.1).

        Symbols of actions, rewards and returns weigh as the settings say, those of observations 1. The first symbol
        of a window is not predicted. After a termination the next timestep's symbols are all `stop`.
        """
        symbols, batch = self._with_ends(self.symbols(batch), batch)
        mask = batch.mask
        logits = self.logits(symbols, mask, generator, front=self.front(batch))[:, :-1]
        known = mask.repeat_interleave(self.slots, 1)
        weights = self._weights().repeat(mask.shape[1])[1:] * (known[:, 1:] & known[:, :-1])
        if self.targets is not None:  # every slot has its own rows of the table
            symbols = symbols + torch.arange(self.slots) * self.vocabulary
        errors = symbol_errors(logits.flatten(0, 1), symbols.flatten(1)[:, 1:].flatten(), self.targets)
        return (errors.view_as(weights) * weights).sum() / weights.sum()

    def forward(
        self, batch: SequenceBatch, generator: torch.Generator | None = None, *, last_only: bool = False
    ) -> Float[Tensor, "batch outputs action_dim"]:
        """Return the mean action in [-1, 1] under the model's distribution, or logits of discrete actions.

        Dimensions of an action follow each other: each is predicted after the likeliest symbols of those before.
        Every timestep is a pass of its own (the others' actions are read as they were taken).
        """
        times = [batch.mask.shape[1]] if last_only else range(1, batch.mask.shape[1] + 1)
        symbols, front = self.symbols(batch), self.front(batch)
        found = [self.next_actions(symbols[:, :t], batch.mask[:, :t], generator, front=front) for t in times]
        return torch.stack(found, dim=1)

    def next_actions(
        self,
        symbols: Int[Tensor, "batch time slots"],
        mask: Bool[Tensor, "batch time"],
        generator: torch.Generator | None = None,
        *,
        front: Float[Tensor, "batch front width"] | None = None,
        median: bool = False,
    ) -> Float[Tensor, "batch action_dim"]:
        """Return the last timestep's mean action, `median`, or logits; what fills the action's place is not read."""
        symbols, first, found = symbols.clone(), self.observation_slots, []
        for slot in range(first, first + self.action_slots):
            token = symbols[0].numel() - self.slots + slot - 1
            logits = self.logits(symbols, mask, generator, front=front, only=token)[:, 0]
            if self.shape.discrete:
                return logits[:, : self.shape.action_dim]
            found.append(self.median(logits, slot) if median else self.mean(logits, slot))
            symbols[:, -1, slot] = logits[:, : self.config.bins].argmax(-1)
        return torch.stack(found, dim=-1)

    def mean(self, logits: Float[Tensor, "*batch vocabulary"], slot: int) -> Float[Tensor, "*batch"]:
        """Return the mean of a slot's number under its distribution, the end of the episode left out; network units."""
        return logits[..., : self.config.bins].softmax(-1) @ self.discretizer.centers[slot]

    def median(self, logits: Float[Tensor, "*batch vocabulary"], slot: int) -> Float[Tensor, "*batch"]:
        """Return the number below which half of a slot's probability lies, as the middle of its bin; network units."""
        below = logits[..., : self.config.bins].softmax(-1).cumsum(-1) < 0.5
        return self.discretizer.centers[slot][below.sum(-1).clamp_max(self.config.bins - 1)]

    def numbers(self, symbols: Int[Tensor, "*batch slots"], first: int) -> Float[Tensor, "*batch slots"]:
        """Return what the symbols of slot `first` and those behind it stand for, in the networks' units."""
        slots = torch.arange(first, first + symbols.shape[-1])
        return self.discretizer.centers[slots, symbols]

    def logits(
        self,
        symbols: Int[Tensor, "batch time slots"],
        mask: Bool[Tensor, "batch time"],
        generator: torch.Generator | None = None,
        *,
        front: Float[Tensor, "batch front width"] | None = None,
        only: int | None = None,
    ) -> Float[Tensor, "batch outputs vocabulary"]:
        """Return logits of the symbol after every token of the windows, or after token `only` alone."""
        real = mask.repeat_interleave(self.slots, 1)
        places = (real.cumsum(1) - 1).clamp_min(0)  # padding before the first real token moves nothing
        embedded, seen = self._embed(symbols.flatten(1), places), real & self._seen(real.shape[1])
        before = 0 if front is None else front.shape[1]
        embedded, seen = behind(front, embedded, seen)
        embedded = dropout(embedded, self.config.dropout, generator)
        allowed = causal_mask(seen[: 1 if known_whole(mask) else None])
        embedded = through_blocks(self.blocks, embedded, allowed, generator)
        if only is not None:
            return self._head(embedded[:, before + only : before + only + 1], (only + 1) % self.slots)
        hidden = self.norm(embedded[:, before:]).unflatten(1, (-1, self.slots))
        predicted = torch.einsum("btsw,svw->btsv", hidden, self.heads.roll(-1, 0))  # slot s predicts slot s + 1
        return predicted.flatten(1, 2)

    def read(
        self, symbols: Int[Tensor, "batch tokens"], front: Float[Tensor, "batch front width"] | None = None
    ) -> tuple[Float[Tensor, "batch vocabulary"], Read]:
        """Read the beginning of a window, whole timesteps and the start of one; return logits of the next symbol."""
        tokens = symbols.shape[1]
        embedded, seen = self._embed(symbols, torch.arange(tokens)), self._seen(tokens).expand(len(symbols), -1)
        embedded, seen = behind(front, embedded, seen)
        allowed, keys, values = causal_mask(seen[:1]), [], []
        for block in self._blocks():
            embedded, found = block.with_memory(embedded, allowed)
            keys.append(found[0])
            values.append(found[1])
        return self._head(embedded[:, -1], tokens % self.slots), Read(keys, values, seen)

    def extend(
        self, symbols: Int[Tensor, "batch branches"], place: int, read: Read, branches: Branches
    ) -> tuple[Float[Tensor, "batch branches vocabulary"], Branches]:
        """Read one more symbol in every branch, the window's token number `place`; return logits of the next one.

        Branches of a window share what was `read`; what they read themselves is returned with the new token behind.
        """
        embedded, longer = self._embed(symbols, torch.tensor(place)), []
        kept = place % self.slots != self.slots - 1  # a return-to-go is seen by nobody later
        for block, keys, values, own in zip(self._blocks(), read.keys, read.values, branches, strict=True):
            embedded, new = block.extend(embedded, keys, values, read.seen, own)
            longer.append(new if kept else own)
        return self._head(embedded, (place + 1) % self.slots), longer

    def no_branches(self, batch: int, count: int) -> Branches:
        """Return the empty beginning of `count` branches of each window, to be extended."""
        empty = torch.zeros(batch, self.config.heads, count, 0, self.config.width // self.config.heads)
        return [(empty, empty) for _ in self.blocks]

    def _blocks(self) -> list[Block]:
        return [block for block in self.blocks if isinstance(block, Block)]

    def _head(self, embedded: Float[Tensor, "*batch width"], slot: int) -> Float[Tensor, "*batch vocabulary"]:
        return self.norm(embedded) @ self.heads[slot].T

    def _embed(
        self, symbols: Int[Tensor, "batch tokens"], places: Int[Tensor, "*places"]
    ) -> Float[Tensor, "batch tokens width"]:
        own = symbols + places % self.slots * self.vocabulary
        return functional.embedding(own, self._table()) + self.embed_position(places)

    def _table(self) -> Float[Tensor, "rows width"]:
        """Return the embeddings of all symbols, slot after slot."""
        rows = self.embed_symbol.weight
        return rows if self.near is None else (self.near @ rows.unflatten(0, (-1, self.vocabulary))).flatten(0, 1)

    def _embed_goals(
        self, goals: Int[Tensor, "batch observation_slots"]
    ) -> Float[Tensor, "batch observation_slots width"]:
        slots = torch.arange(self.observation_slots)
        own = goals + (self.slots + slots) * self.vocabulary
        return functional.embedding(own, self._table()) + self.embed_position(
            self.config.context_length * self.slots + slots
        )

    def _seen(self, tokens: int) -> Bool[Tensor, " tokens"]:
        """Which tokens others may see: all but returns-to-go."""
        return torch.arange(tokens) % self.slots != self.slots - 1

    def _with_ends(
        self, symbols: Int[Tensor, "batch time slots"], batch: SequenceBatch
    ) -> tuple[Int[Tensor, "batch time slots"], SequenceBatch]:
        """Move windows that end in a termination one timestep back, what they are told too, and let `stop` follow."""
        ended = batch.terminations[:, -1] & (batch.mask.shape[1] > 1)
        if not bool(ended.any()):
            return symbols, batch
        moved = symbols, batch.mask, batch.returns_to_go, batch.timesteps
        symbols, mask, returns_to_go, timesteps = (one.clone() for one in moved)
        for after, before in zip((symbols, mask, returns_to_go, timesteps), moved, strict=True):
            after[ended, :-1] = before[ended, 1:]
        symbols[ended, -1] = self.stop
        return symbols, replace(batch, mask=mask, returns_to_go=returns_to_go, timesteps=timesteps)

    def _spread(self, count: int, deviation: float) -> Float[Tensor, "count vocabulary vocabulary"]:
        """Return what symbols of the first `count` tables share with others; choices are no numbers and stay alone."""
        tables = neighbourhood(self.vocabulary, deviation, self.config.bins).repeat(count, 1, 1)
        if self.shape.discrete:
            tables[self.observation_slots] = torch.eye(self.vocabulary)
        return tables

    def _weights(self) -> Float[Tensor, " slots"]:
        config = self.config
        return torch.tensor(
            [1.0] * self.observation_slots + [config.action_weight] * self.action_slots
            + [config.reward_weight, config.return_weight]
        )  # fmt: skip
