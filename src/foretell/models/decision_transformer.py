"""Decision Transformer (Chen et al. 2021; the report's section II-B and Algorithm 1).

| paper | here |
|---|---|
| $\\hat R_t, s_t, a_t, t$ | `returns_to_go`, `observations`, `actions`, `timesteps` |
| `embed_R`, `embed_s`, `embed_a`, `embed_t` | `embed_return`, `embed_observation`, `embed_action`, `embed_timestep` |
| $K$ | `context_length` |
| `pred_a` | `action_head` |

Where we differ from the published code: actions are in [-1, 1] of the environment's range, padding is invisible,
there is no second position embedding, and the loss is a mean over real timesteps. A window's last action, which no
prediction may see, is no token.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from foretell.models.configs import DecisionTransformerConfig, SequenceShape
from foretell.models.dropout import dropout
from foretell.models.encoders import observation_encoder
from foretell.models.initialization import EMBEDDING_STD, initialize
from foretell.models.interface import SequenceModel
from foretell.models.layers import (
    ActionHead,
    CausalTransformer,
    action_inputs,
    allowed_by,
    causal_mask,
    stack_parameters,
    stack_settings,
    through_blocks,
    unpadded_mask,
)
from foretell.models.native.acting import Reader
from foretell.models.native.ends import embedded, fits, imitation_loss_of, readable, usable
from foretell.models.native.stack import all_of, as_read, known_norm, parameters_of
from foretell.models.native.whole import Parts, Reading, Whole
from foretell.models.standing import hooked, watched
from foretell.models.transformer.stacks import sinusoidal_positions
from foretell.sequences.batch import SequenceBatch

TOKENS = 3
"""Tokens a timestep: return-to-go, observation, action."""
OBSERVATIONS = slice(1, None, TOKENS)
"""The tokens that predict an action."""
KEPT_MASKS = 1 << 18
"""Bytes up to which the masks of all windows that can be padded are kept."""


class SinusoidalEmbedding(nn.Module):
    """Position encodings in the place of a learned table, as long as its vectors; nothing of it is saved."""

    table: Tensor

    def __init__(self, length: int, width: int):
        super().__init__()
        self.register_buffer("table", EMBEDDING_STD * sinusoidal_positions(length, width), persistent=False)

    def forward(self, timesteps: Int[Tensor, "batch time"]) -> Float[Tensor, "batch time width"]:
        """Return the encoding of each timestep. Raises `IndexError` past the table's end."""
        return functional.embedding(timesteps, self.table)


TABLES: dict[str, type[nn.Module]] = {"learned": nn.Embedding, "sinusoidal": SinusoidalEmbedding}
"""Of timesteps, by `timestep_embedding`."""


class DecisionTransformer(SequenceModel[DecisionTransformerConfig]):
    """Predicts $a_t$ from the token of $s_t$, given earlier timesteps and the return asked for."""

    def __init__(self, config: DecisionTransformerConfig, shape: SequenceShape, generator: torch.Generator):
        super().__init__(config, shape)
        width = config.width
        self.embed_return = nn.Linear(1, width)
        self.embed_observation = observation_encoder(shape.observation_shape, width)
        self.embed_action = nn.Linear(shape.action_dim, width)
        self.embed_timestep = TABLES[config.timestep_embedding](shape.max_timesteps, width)
        self.embed_norm = nn.LayerNorm(width)
        self.transformer = CausalTransformer(
            width=width, layers=config.layers, heads=config.heads, probability=config.dropout,
            activation=config.activation,
        )  # fmt: skip
        self.action_head = ActionHead(width, shape, config.action_head)
        self._whole = Whole()
        initialize(self, generator)

    def forward(
        self, batch: SequenceBatch, generator: torch.Generator | None = None, *, last_only: bool = False
    ) -> Float[Tensor, "batch outputs action_dim"]:
        """Return predicted actions or logits at every timestep or the last alone (`SequenceModel.forward`)."""
        tokens, mask, outputs = self._read(batch, generator, last_only)
        return self.action_head(self.transformer(tokens, mask, generator, outputs))

    def loss(self, batch: SequenceBatch, generator: torch.Generator | None = None) -> Float[Tensor, ""]:
        """Return the mean error (`SequenceModel.loss`), in C where it can be had (`models/native`)."""
        tail = self._tail() if self._acts_itself() and not self.shape.discrete else None
        if tail is None or not readable(batch.actions, batch.mask, tail):
            return super().loss(batch, generator)
        tokens, mask, outputs = self._read(batch, generator)
        states = through_blocks(self.transformer.blocks, tokens, allowed_by(mask), generator, outputs)
        return imitation_loss_of(
            states, batch.actions, batch.mask, tail,
            bounded=self.action_head.bounded, absolute=self.config.action_loss == "absolute",
        )  # fmt: skip

    def reader(self) -> Callable[[SequenceBatch], Float[Tensor, "batch action_dim"]]:
        """See `SequenceModel.reader`; the numbers are those of `forward`, bit for bit.

        Of a subclass with a `forward` of its own, or where somebody looks on at a module, it is `forward`.
        """
        plain, front, tail = super().reader(), self._front_parameters(), self._tail()
        blocks = self.transformer.blocks
        parameters = stack_parameters(blocks, self.config.width)
        settings = stack_settings(blocks, OBSERVATIONS) if parameters else None
        if not self._acts_itself() or hooked(*self.modules()):
            return plain
        if front is None or tail is None or settings is None or not usable():
            return plain
        read = Reader(front, parameters, tail, settings, bounded=self.action_head.bounded)

        def newest(batch: SequenceBatch) -> Tensor:
            inputs = self._inputs(batch)
            if torch.is_grad_enabled() or not read.reads(inputs, batch.timesteps, batch.mask):
                return plain(batch)
            return read(inputs, batch.timesteps, self._allowed(batch))

        return newest

    def write_gradients(
        self, batch: SequenceBatch, generator: torch.Generator | None = None
    ) -> Float[Tensor, ""] | None:
        """See `SequenceModel.write_gradients`; the numbers are those of `loss` and its graph, bit for bit.

        Of a subclass with a `forward` or `loss` of its own, or where somebody looks on at a module or a gradient, the
        graph is made.
        """
        own = self._acts_itself() and getattr(self.loss, "__func__", None) is _LOSS
        parts = self._whole.parts(self, self._parts) if own and not self.shape.discrete else None
        if parts is None:
            return None
        inputs = self._inputs(batch)
        if not fits(inputs, batch.timesteps, batch.mask, parts.front):
            return None
        if not readable(batch.actions, batch.mask, parts.tail):
            return None
        blocks = stack_settings(self.transformer.blocks, OBSERVATIONS)
        if blocks is None:
            return None
        reading = Reading(
            tokens=self._count(batch), blocks=blocks,
            bounded=self.action_head.bounded, absolute=self.config.action_loss == "absolute",
            dropout=self.config.dropout,
        )  # fmt: skip
        return self._whole.write_gradients(parts, reading, inputs, batch, self._allowed(batch), generator)

    def _parts(self) -> Parts | None:
        """Return the parameters as the library takes them; None where it knows not all, or not all of them learn."""
        front, tail = self._front_parameters(), self._tail()
        blocks = stack_parameters(self.transformer.blocks, self.config.width)
        if front is None or tail is None or not blocks or not usable():
            return None
        learned = [one for one in (*front, *blocks, *tail) if isinstance(one, nn.Parameter)]  # no table of sines
        if not all(one.requires_grad and not watched(one) for one in learned):
            return None
        return Parts(front=front, blocks=blocks, tail=tail)

    def _acts_itself(self) -> bool:
        """Whether `forward` is the one above, and nobody waits for it to be called."""
        return getattr(self.forward, "__func__", None) is _FORWARD and not hooked(self)

    def _read(
        self, batch: SequenceBatch, generator: torch.Generator | None, last_only: bool = False
    ) -> tuple[Float[Tensor, "batch tokens width"], Bool[Tensor, "batch tokens"], slice]:
        """Return tokens, which of them are real, and those that predict: the observations'."""
        count = self._count(batch)
        tokens = dropout(self._tokens(batch, count), self.config.dropout, generator)
        return tokens, self._token_mask(batch), slice(count - 1, None) if last_only else OBSERVATIONS

    def _count(self, batch: SequenceBatch) -> int:
        """Tokens of a window: all but that of the last action, which nobody may see."""
        return TOKENS * batch.mask.shape[1] - 1

    def _token_mask(self, batch: SequenceBatch) -> Bool[Tensor, "batch tokens"]:
        return _tokens_of(batch.mask, self._count(batch))

    def _allowed(self, batch: SequenceBatch) -> Bool[Tensor, "#batch 1 tokens tokens"]:
        """Return which token may see which, one for all windows where none is padded: only on the CPU."""
        mask, count = batch.mask.numpy(), self._count(batch)  # NumPy: small operators of PyTorch's take twice as long
        time = mask.shape[1]
        if mask.all():
            return unpadded_mask(count)
        if (time + 1) * count**2 <= KEPT_MASKS and (mask[:, 1:] >= mask[:, :-1]).all():
            return _masks_of_padded(time, count)[torch.from_numpy(mask.sum(1))]
        return allowed_by(self._token_mask(batch))

    def _tokens(self, batch: SequenceBatch, count: int) -> Float[Tensor, "batch tokens width"]:
        r"""Return the first `count` tokens of $\hat R_1, s_1, a_1, \hat R_2$ and so on, embedded and normed."""
        inputs, parameters = self._inputs(batch), self._front(batch)
        if parameters is not None:
            return embedded(inputs, batch.timesteps, parameters, count)
        time_embedding = self.embed_timestep(batch.timesteps)  # (batch, time, width)
        kinds = [embed(numbers) + time_embedding for embed, numbers in zip(self._embedders(), inputs, strict=True)]
        return self.embed_norm(torch.stack(kinds, dim=2).flatten(1, 2)[:, :count])  # (batch, time, 3, width) before

    def _inputs(self, batch: SequenceBatch) -> tuple[Tensor, Tensor, Tensor]:
        return batch.returns_to_go, batch.observations, action_inputs(batch.actions, self.shape)

    def _embedders(self) -> tuple[nn.Module, nn.Module, nn.Module]:
        return self.embed_return, self.embed_observation, self.embed_action

    def _front(self, batch: SequenceBatch) -> list[Tensor] | None:
        """Return the parameters of embedding as the library takes them; None where it cannot embed this batch."""
        found = self._front_parameters()
        return found if found and fits(self._inputs(batch), batch.timesteps, batch.mask, found) else None

    def _front_parameters(self) -> list[Tensor] | None:
        """Return the parameters of embedding; None where the library does not take them, or somebody looks on."""
        linear, timestep, norm = self._embedders(), self.embed_timestep, self.embed_norm
        known = all(type(one) is nn.Linear for one in linear) and type(timestep) in TABLES.values() and known_norm(norm)
        if not known or hooked(*linear, timestep, norm):
            return None
        width = self.config.width
        table = timestep.table if isinstance(timestep, SinusoidalEmbedding) else timestep._parameters.get("weight")
        found = all_of([
            *(each for one in linear if isinstance(one, nn.Linear)
              for each in parameters_of(one, width, one.in_features)),
            as_read(table, self.shape.max_timesteps, width), *parameters_of(norm, width),
        ])  # fmt: skip
        return found if found and usable() else None

    def _tail(self) -> list[Tensor] | None:
        """Return the parameters of reading actions off states as the library takes them, likewise."""
        norm, head = self.transformer.norm, self.action_head
        known = known_norm(norm) and type(head) is ActionHead
        if not known or hooked(self.transformer, norm, head):
            return None
        width = self.config.width
        found = all_of([*parameters_of(norm, width), *parameters_of(head, self.shape.action_dim, width)])
        return found if found and usable() else None


def _tokens_of(mask: Bool[Tensor, "batch time"], count: int) -> Bool[Tensor, "batch count"]:
    return mask.repeat_interleave(TOKENS, dim=1)[:, :count]


@lru_cache(maxsize=8)
def _masks_of_padded(time: int, count: int) -> Bool[Tensor, "real 1 count count"]:
    """Return the causal masks of windows of which the last timesteps are real, from none of them to all.

    Windows are padded where they begin and nowhere else; made anew for every batch, masks take longer than to choose.
    """
    with torch.inference_mode(False):  # as in `unpadded_mask`
        real = torch.arange(time + 1)[:, None] > torch.arange(time).flip(0)
        return causal_mask(_tokens_of(real, count))


_FORWARD, _LOSS = DecisionTransformer.forward, DecisionTransformer.loss
"""What `reader` reads, and what `write_gradients` computes the gradients of."""
