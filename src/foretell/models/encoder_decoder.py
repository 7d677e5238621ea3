"""The original Transformer for control: the encoder reads the past and the target, the decoder writes actions.

Encoder and decoder are those of `models/transformer` (Vaswani et al. 2017, section 3). Tokens of the source are
return-to-go, observation and action of the last `context_length` timesteps, the newest action not being there yet;
the target sequence is the next `horizon` actions. Numbers take the place of symbols: linear embeddings, and an action
head in place of the softmax.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from foretell.models.configs import EncoderDecoderConfig, SequenceShape
from foretell.models.dropout import dropout
from foretell.models.encoders import observation_encoder
from foretell.models.initialization import initialize
from foretell.models.interface import SequenceModel
from foretell.models.layers import ActionHead, action_inputs
from foretell.models.losses import imitation_errors
from foretell.models.transformer.configs import StackConfig
from foretell.models.transformer.stacks import Decoder, DecoderCache, Encoder, initialize_xavier, sinusoidal_positions
from foretell.sequences.batch import SequenceBatch


class EncoderDecoder(SequenceModel[EncoderDecoderConfig]):
    """Writes the next actions after reading the past; every timestep of a window is read with the K up to it."""

    positions: Tensor

    def __init__(self, config: EncoderDecoderConfig, shape: SequenceShape, generator: torch.Generator):
        super().__init__(config, shape)
        width = config.width
        stack = StackConfig(
            width=width, layers=config.layers, heads=config.heads, feedforward_width=config.feedforward_width,
            dropout=config.dropout,
        )  # fmt: skip
        self.embed_return = nn.Linear(1, width)
        self.embed_observation = observation_encoder(shape.observation_shape, width)
        self.embed_action = nn.Linear(shape.action_dim, width)
        self.embed_written = nn.Linear(shape.action_dim, width)
        self.start = nn.Parameter(torch.empty(width))
        self.action_head = ActionHead(width, shape, config.action_head)
        initialize(self, generator)
        self.encoder, self.decoder = Encoder(stack), Decoder(stack)
        for part in (self.encoder, self.decoder):
            initialize_xavier(part, generator)
        with torch.no_grad():
            self.start.normal_(generator=generator)
        longest = max(shape.max_timesteps, config.horizon)
        self.register_buffer("positions", sinusoidal_positions(longest, width), persistent=False)

    def forward(
        self, batch: SequenceBatch, generator: torch.Generator | None = None, *, last_only: bool = False
    ) -> Float[Tensor, "batch outputs action_dim"]:
        """Return the next action at every timestep or the last alone (`SequenceModel.forward`)."""
        memory, seen = self._read(batch, generator, last_only=last_only)
        written = self._write(self._decoder_inputs(memory, None, generator), memory, seen, generator)
        return written[:, 0].unflatten(0, (len(batch.mask), -1))

    def loss(self, batch: SequenceBatch, generator: torch.Generator | None = None) -> Float[Tensor, ""]:
        """Mean of the imitation errors of the next `horizon` actions, as many as the window has, at every timestep."""
        memory, seen = self._read(batch, generator)
        length, horizon = batch.mask.shape[1], self.config.horizon
        later = torch.arange(length)[:, None] + torch.arange(horizon)  # (time, horizon)
        inside, later = later < length, later.clamp_max(length - 1)
        targets = batch.actions[:, later].flatten(0, 1)  # (batch * time, horizon, ...)
        known = (batch.mask[:, :, None] & inside).flatten(0, 1)
        inputs = self._decoder_inputs(memory, targets[:, :-1], generator)
        predicted = self._write(inputs, memory, seen, generator)
        errors = imitation_errors(predicted, targets, discrete=self.shape.discrete, kind=self.config.action_loss)
        return torch.where(known, errors, 0.0).sum() / known.sum()

    def write(self, batch: SequenceBatch) -> Float[Tensor, "batch horizon action_dim"]:
        """Return the next `horizon` actions after the last timestep, each written after those before it."""
        memory, seen = self._read(batch, None, last_only=True)
        token, written, cache = self._decoder_inputs(memory, None, None), [], self.decoder.cache()
        for h in range(self.config.horizon):
            predicted = self._write(token, memory, seen, None, cache)[:, -1:]
            written.append(predicted)
            chosen = predicted.argmax(-1) if self.shape.discrete else predicted.clamp(-1, 1)  # as it will be taken
            if h + 1 < self.config.horizon:
                token = self.embed_written(action_inputs(chosen, self.shape)) + self.positions[h + 1]
        return torch.cat(written, dim=1)

    def _read(
        self, batch: SequenceBatch, generator: torch.Generator | None, *, last_only: bool = False
    ) -> tuple[Float[Tensor, "histories tokens width"], Bool[Tensor, "histories tokens"]]:
        """Encode the past of every timestep, or of the last alone; histories are windows times timesteps."""
        position = self.positions[batch.timesteps]
        tokens = torch.stack(
            [
                self.embed_return(batch.returns_to_go),
                self.embed_observation(batch.observations),
                self.embed_action(action_inputs(batch.actions, self.shape)),
            ],
            dim=2,
        )  # (batch, time, 3, width)
        tokens = dropout(tokens + position[:, :, None], self.config.dropout, generator)
        length, past = batch.mask.shape[1], self.config.context_length
        ends = torch.arange(length)[-1:] if last_only else torch.arange(length)
        rows = ends[:, None] + torch.arange(1 - past, 1)  # (histories of a window, past)
        there = rows >= 0
        rows = rows.clamp_min(0)
        seen = (batch.mask[:, rows] & there).flatten(0, 1)
        histories = tokens[:, rows].flatten(0, 1).flatten(1, 2)[:, :-1]  # without the newest action
        seen = seen.repeat_interleave(3, 1)[:, :-1]
        return self.encoder(histories, seen, generator), seen

    def _decoder_inputs(
        self, memory: Tensor, actions: Tensor | None, generator: torch.Generator | None
    ) -> Float[Tensor, "histories written width"]:
        """Return the start token, and behind it the actions."""
        tokens = self.start.expand(len(memory), 1, -1)
        if actions is not None:
            tokens = torch.cat([tokens, self.embed_written(action_inputs(actions, self.shape))], dim=1)
        return dropout(tokens + self.positions[: tokens.shape[1]], self.config.dropout, generator)

    def _write(
        self,
        tokens: Float[Tensor, "histories written width"],
        memory: Float[Tensor, "histories tokens width"],
        seen: Bool[Tensor, "histories tokens"],
        generator: torch.Generator | None,
        cache: DecoderCache | None = None,
    ) -> Float[Tensor, "histories written action_dim"]:
        return self.action_head(self.decoder(tokens, memory, seen, generator, cache=cache))
