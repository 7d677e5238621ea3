"""What the tokens of one window attend to, in every layer and head: the weights of a network's own pass.

The pass is the network's; the inputs of its attention are taken down on the way, and the weights of Eq. 1 of Vaswani
et al. 2017, $\\mathrm{softmax}(QK^\\top / \\sqrt{d_k})$, computed from them with the network's own projections.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from foretell.core.errors import UsageError
from foretell.models.decision_transformer import DecisionTransformer
from foretell.models.encoder_decoder import EncoderDecoder
from foretell.models.interface import SequenceModel
from foretell.models.layers import Block
from foretell.models.trajectory_transformer import TrajectoryTransformer
from foretell.models.transformer.attention import attention_weights
from foretell.models.transformer.layers import AttentionMaps
from foretell.sequences.batch import SequenceBatch

Token = tuple[str, int | None]
"""What a token is (R, s, a, r, a dimension behind it where each has a token), and of which timestep."""


@dataclass(frozen=True, kw_only=True)
class AttentionMap:
    """One kind of attention: how much each query takes of each key; rows add up to 1, what is not seen is 0."""

    name: str
    weights: Float[Tensor, "layers heads queries keys"]
    queries: tuple[Token, ...]
    keys: tuple[Token, ...]


@torch.inference_mode()
def attention_maps(model: SequenceModel, batch: SequenceBatch) -> list[AttentionMap]:
    """Return the weights of `model` on a batch of one window without padding.

    One map of a network that has self-attention alone; three of an encoder-decoder, whose decoder writes its actions
    as in acting. Raises `UsageError` for a network without attention, and for another kind of batch.
    """
    if len(batch.mask) != 1 or not bool(batch.mask.all()):
        raise UsageError(f"{len(batch.mask)} windows, {int((~batch.mask).sum())} padded timesteps; expected 1 and 0.")
    if isinstance(model, DecisionTransformer):
        return [_of_decision_transformer(model, batch)]
    if isinstance(model, TrajectoryTransformer):
        return [_of_trajectory_transformer(model, batch)]
    if isinstance(model, EncoderDecoder):
        return _of_encoder_decoder(model, batch)
    raise UsageError(f"{type(model).__name__} has no attention; expected a run of a transformer.")


def block_weights(
    block: Block, tokens: Float[Tensor, "batch tokens width"], allowed: Bool[Tensor, "#batch 1 tokens tokens"]
) -> Float[Tensor, "batch heads tokens tokens"]:
    """Return how much each token takes of each in a block that reads these."""
    projected = block.query_key_value(block.norm_attention(tokens)).chunk(3, dim=-1)
    queries, keys, _ = (part.unflatten(-1, (block.heads, -1)).transpose(1, 2) for part in projected)
    return attention_weights(queries, keys, allowed)


def _of_decision_transformer(model: DecisionTransformer, batch: SequenceBatch) -> AttentionMap:
    with _read_by(model.transformer.blocks) as read:
        model(batch)
    return _self_attention(read, _tokens(("R", "s", "a"), batch)[:-1])  # the last action is no token


def _of_trajectory_transformer(model: TrajectoryTransformer, batch: SequenceBatch) -> AttentionMap:
    with _read_by(model.blocks) as read:
        model.logits(model.symbols(batch), batch.mask, front=model.front(batch))
    numbered = _numbered("s", model.observation_slots)
    slots = (*numbered, *_numbered("a", model.action_slots), "r", "R")
    goal = tuple((f"goal {name}", None) for name in numbered) if model.config.goals and batch.goals is not None else ()
    told = (("R asked", None),) if model.config.told else ()
    return _self_attention(read, (*told, *goal, *_tokens(slots, batch)))


def _of_encoder_decoder(model: EncoderDecoder, batch: SequenceBatch) -> list[AttentionMap]:
    maps = AttentionMaps()

    def hand_over(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, {**kwargs, "maps": maps}

    handles = [part.register_forward_pre_hook(hand_over, with_kwargs=True) for part in (model.encoder, model.decoder)]
    try:
        model.write(batch)
    finally:
        for handle in handles:
            handle.remove()
    past = _tokens(("R", "s", "a"), batch)[:-1]  # the newest action is not there yet
    newest, layers = int(batch.timesteps[0, -1]), len(model.encoder.layers)
    written: tuple[Token, ...] = (
        ("start", None),
        *(("a", newest + step) for step in range(model.config.horizon - 1)),
    )
    own = torch.stack([_step_by_step(maps.decoder[layer::layers]) for layer in range(layers)])
    memory = torch.stack([_step_by_step(maps.memory[layer::layers]) for layer in range(layers)])
    real = slice(-len(past), None)  # before them the encoder's window is filled up with what nobody sees
    return [
        AttentionMap(
            name="encoder, on itself", weights=torch.cat(maps.encoder)[..., real, real], queries=past, keys=past
        ),
        AttentionMap(name="decoder, on itself", weights=own, queries=written, keys=written),
        AttentionMap(name="decoder, on what was encoded", weights=memory[..., real], queries=written, keys=past),
    ]


@contextmanager
def _read_by(blocks: Iterable[nn.Module]) -> Generator[list[tuple[Block, Tensor, Tensor]]]:
    """Take down what each block is given: itself, the tokens, and which key each query may see."""
    read: list[tuple[Block, Tensor, Tensor]] = []

    def take_down(block: nn.Module, args: tuple[Any, ...]) -> None:
        if isinstance(block, Block):
            read.append((block, args[0], args[1]))

    handles = [block.register_forward_pre_hook(take_down) for block in blocks]
    try:
        yield read
    finally:
        for handle in handles:
            handle.remove()


def _self_attention(read: list[tuple[Block, Tensor, Tensor]], tokens: tuple[Token, ...]) -> AttentionMap:
    weights = torch.cat([block_weights(*given) for given in read])
    return AttentionMap(name="self-attention", weights=weights, queries=tokens, keys=tokens)


def _step_by_step(steps: list[Float[Tensor, "1 heads 1 _"]]) -> Float[Tensor, "heads steps keys"]:
    """Put the rows of decoding step by step below each other; what a step did not know yet is 0."""
    keys = steps[-1].shape[-1]
    return torch.cat([functional.pad(row, (0, keys - row.shape[-1])) for row in steps], dim=2)[0]


def _tokens(kinds: tuple[str, ...], batch: SequenceBatch) -> tuple[Token, ...]:
    return tuple((kind, timestep) for timestep in batch.timesteps[0].tolist() for kind in kinds)


def _numbered(letter: str, count: int) -> tuple[str, ...]:
    return (letter,) if count == 1 else tuple(f"{letter}{number}" for number in range(1, count + 1))
