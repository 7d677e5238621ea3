"""Pieces that networks share: masked mean, attention, pre-norm blocks, action head."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn
from torch.nn import functional

from foretell.models.configs import SequenceShape
from foretell.models.dropout import add_dropped, dropout
from foretell.models.native.stack import StackSettings, all_of, known_norm, parameters_of, run_stack, usable
from foretell.models.recorded import known_whole
from foretell.models.standing import hooked


def masked_mean(values: Float[Tensor, "batch time"], mask: Bool[Tensor, "batch time"]) -> Float[Tensor, ""]:
    """Mean over real timesteps alone; padding neither adds to the sum nor to the count.

    >>> float(masked_mean(torch.tensor([[9.0, 1.0, 3.0]]), torch.tensor([[False, True, True]])))
    2.0
    """
    return torch.where(mask, values, 0.0).sum() / mask.sum()


def causal_mask(mask: Bool[Tensor, "batch tokens"]) -> Bool[Tensor, "batch 1 tokens tokens"]:
    """Which key each query may attend to: itself and earlier real tokens.

    A padded query attends to itself, so that its row of weights is finite; nobody reads its output.
    """
    tokens = mask.shape[1]
    earlier = torch.ones(tokens, tokens, dtype=torch.bool, device=mask.device).tril()
    itself = torch.eye(tokens, dtype=torch.bool, device=mask.device)
    return ((earlier & mask[:, None, :]) | itself)[:, None]


def behind(
    front: Float[Tensor, "batch front width"] | None,
    embedded: Float[Tensor, "batch tokens width"],
    seen: Bool[Tensor, "batch tokens"],
) -> tuple[Float[Tensor, "batch all width"], Bool[Tensor, "batch all"]]:
    """Return the tokens with what stands in front of them, which all may see."""
    if front is None:
        return embedded, seen
    return torch.cat([front, embedded], 1), torch.cat([seen.new_ones(front.shape[:2]), seen], 1)


def allowed_by(mask: Bool[Tensor, "batch tokens"]) -> Bool[Tensor, "#batch 1 tokens tokens"]:
    """Return the causal mask, one for all windows where none is padded."""
    shared = mask.is_cpu and known_whole(mask)  # on a GPU, asking would wait for it
    return unpadded_mask(mask.shape[1]) if shared else causal_mask(mask)


@lru_cache(maxsize=8)
def unpadded_mask(tokens: int) -> Bool[Tensor, "1 1 tokens tokens"]:
    """Return the causal mask on the CPU where nothing is padded: the same at every call, so it is made once.

    Few are kept: a long context's takes megabytes, and only those of full windows are asked for again and again.
    """
    with torch.inference_mode(False):  # what is made while acting is asked for in training, too
        return causal_mask(torch.ones(1, tokens, dtype=torch.bool))


def attend(
    queries: Float[Tensor, "batch heads queries head_dim"],
    keys: Float[Tensor, "batch heads keys head_dim"],
    values: Float[Tensor, "batch heads keys head_dim"],
    allowed: Bool[Tensor, "#batch 1 queries keys"],
    probability: float = 0.0,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "batch heads queries head_dim"]:
    r"""Scaled dot-product attention, $\mathrm{softmax}(QK^\top / \sqrt{d_k}) V$ (Eq. 1 of the report).

    `allowed` is True where a query may see a key. Dropout, where there is any, falls on the weights.
    """
    if generator is None or probability == 0.0:
        return functional.scaled_dot_product_attention(queries, keys, values, attn_mask=allowed)
    scores = (queries * (1 / math.sqrt(queries.shape[-1]))) @ keys.transpose(-1, -2)
    weights = torch.where(allowed, scores, -torch.inf).softmax(-1)
    return dropout(weights, probability, generator) @ values


def _gelu(inputs: Tensor) -> Tensor:
    return functional.gelu(inputs, approximate="tanh")  # GPT-2's form


ACTIVATIONS = {"relu": torch.relu, "gelu": _gelu}
"""Nonlinearities by name; none writes over its input, a view of a product, which PyTorch would copy back and forth."""


PARTS = {
    "norm_attention": (1,), "query_key_value": (3, 1), "attention_output": (1, 1), "norm_feedforward": (1,),
    "feedforward_in": (4, 1), "feedforward_out": (1, 4),
}  # fmt: skip
"""Of a block, as the library takes them: the shape of each one's weight, in widths."""


class Block(nn.Module):
    """Pre-norm transformer block: x + attention(norm(x)), then x + feed-forward(norm(x)) (GPT-2)."""

    def __init__(self, width: int, heads: int, probability: float, activation: str):
        super().__init__()
        self.heads, self.probability = heads, probability
        self.norm_attention = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.attention_output = nn.Linear(width, width)
        self.norm_feedforward = nn.LayerNorm(width)
        self.feedforward_in = nn.Linear(width, 4 * width)
        self.feedforward_out = nn.Linear(4 * width, width)
        self.activation = ACTIVATIONS[activation]

    def forward(
        self,
        tokens: Float[Tensor, "batch tokens width"],
        allowed: Bool[Tensor, "#batch 1 tokens tokens"],
        generator: torch.Generator | None = None,
        outputs: slice = slice(None),
    ) -> Float[Tensor, "batch outputs width"]:
        """Transform the tokens; `outputs` names those whose result is wanted, so that no other is computed."""
        normed = self.norm_attention(tokens)
        tokens = tokens[:, outputs]
        if outputs == slice(None):
            queries, keys, values = map(self._split, self.query_key_value(normed).chunk(3, dim=-1))
        else:
            width = normed.shape[-1]
            both = self.query_key_value.weight, self.query_key_value.bias
            (weight, weights), (bias, biases) = (one.split([width, 2 * width]) for one in both)
            queries = self._split(functional.linear(normed[:, outputs], weight, bias))
            keys, values = map(self._split, functional.linear(normed, weights, biases).chunk(2, dim=-1))
            allowed = allowed[:, :, outputs]
        attended = attend(queries, keys, values, allowed, self.probability, generator)
        attended = attended.transpose(1, 2).flatten(2)  # (batch, outputs, width)
        tokens = add_dropped(tokens, self.attention_output(attended), self.probability, generator)
        hidden = self.activation(self.feedforward_in(self.norm_feedforward(tokens)))
        return add_dropped(tokens, self.feedforward_out(hidden), self.probability, generator)

    def with_memory(
        self, tokens: Float[Tensor, "batch tokens width"], allowed: Bool[Tensor, "#batch 1 tokens tokens"]
    ) -> tuple[Float[Tensor, "batch tokens width"], tuple[Tensor, Tensor]]:
        """As `forward`, without dropout; also return keys and values `(batch, heads, tokens, head_dim)`."""
        queries, keys, values = map(self._split, self.query_key_value(self.norm_attention(tokens)).chunk(3, dim=-1))
        attended = attend(queries, keys, values, allowed)
        return self._after_attention(tokens, attended.transpose(1, 2).flatten(2)), (keys, values)

    def extend(
        self,
        token: Float[Tensor, "batch branches width"],
        keys: Float[Tensor, "batch heads read head_dim"],
        values: Float[Tensor, "batch heads read head_dim"],
        seen: Bool[Tensor, "batch read"],
        own: tuple[Tensor, Tensor],
    ) -> tuple[Float[Tensor, "batch branches width"], tuple[Tensor, Tensor]]:
        """Transform one new token of every branch, without dropout.

        It sees the `keys` that all branches share where `seen`, those of its `own` branch
        `(batch, heads, branches, tokens, head_dim)`, and itself. Also returns the branches with the new token behind.
        """
        queries, key, value = map(self._split, self.query_key_value(self.norm_attention(token)).chunk(3, dim=-1))
        own_keys, own_values = (torch.cat([old, new[..., None, :]], 3) for old, new in zip(own, (key, value)))
        queries = queries * (1 / math.sqrt(queries.shape[-1]))
        shared = (queries @ keys.transpose(-1, -2)).masked_fill(~seen[:, None, None], -torch.inf)
        scores = torch.cat([shared, (own_keys @ queries[..., None])[..., 0]], -1)
        weights = scores.softmax(-1)
        attended = (
            weights[..., : keys.shape[2]] @ values + (weights[..., None, keys.shape[2] :] @ own_values)[..., 0, :]
        )
        return self._after_attention(token, attended.transpose(1, 2).flatten(2)), (own_keys, own_values)

    def _after_attention(
        self, tokens: Float[Tensor, "batch tokens width"], attended: Float[Tensor, "batch tokens width"]
    ) -> Float[Tensor, "batch tokens width"]:
        tokens = tokens + self.attention_output(attended)
        return tokens + self.feedforward_out(self.activation(self.feedforward_in(self.norm_feedforward(tokens))))

    def _split(self, values: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "batch heads tokens head_dim"]:
        return values.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class CausalTransformer(nn.Module):
    """A stack of pre-norm blocks and a last LayerNorm: GPT without embeddings of its own (report, section II-B)."""

    def __init__(self, *, width: int, layers: int, heads: int, probability: float, activation: str):
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, heads, probability, activation) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(
        self,
        tokens: Float[Tensor, "batch tokens width"],
        mask: Bool[Tensor, "batch tokens"],
        generator: torch.Generator | None = None,
        outputs: slice = slice(None),
    ) -> Float[Tensor, "batch outputs width"]:
        """Return the last hidden states of the tokens that `outputs` names."""
        return self.norm(through_blocks(self.blocks, tokens, allowed_by(mask), generator, outputs))


def through_blocks(
    blocks: nn.ModuleList,
    tokens: Float[Tensor, "batch tokens width"],
    allowed: Bool[Tensor, "#batch 1 tokens tokens"],
    generator: torch.Generator | None = None,
    outputs: slice = slice(None),
) -> Float[Tensor, "batch outputs width"]:
    """Transform the tokens by one `Block` after the other; of the last one, those that `outputs` names.

    In C where it can be had (`models/native`): the same to rounding, but for the units that dropout drops. Blocks with
    hooks, on themselves or on a part, are called one by one, so that the hooks see what they expect.
    """
    parameters = stack_parameters(blocks, tokens.shape[-1])
    settings = stack_settings(blocks, outputs) if parameters else None
    if settings and usable(tokens):
        return run_stack(tokens, allowed, parameters, settings, generator)
    for block in blocks[:-1]:
        tokens = block(tokens, allowed, generator)
    return blocks[-1](tokens, allowed, generator, outputs)


def stack_parameters(blocks: nn.ModuleList, width: int) -> list[Tensor]:
    """Return the parameters of blocks as the library takes them, for tokens of this width; none where a part is unknown
    to it, of another size, or watched."""
    found: list[Tensor | None] = []
    for block in blocks:
        parts = [part for name in PARTS if (part := block._modules.get(name)) is not None]
        known = type(block) is Block and len(parts) == len(block._modules) == len(PARTS)
        if not known or hooked(block, *parts) or not all(type(one) is nn.Linear or known_norm(one) for one in parts):
            return []
        for part, (rows, *columns) in zip(parts, PARTS.values(), strict=True):
            found += parameters_of(part, rows * width, *(one * width for one in columns))
    return all_of(found) or []


def stack_settings(blocks: nn.ModuleList, outputs: slice) -> StackSettings | None:
    """Return what the library is told of blocks; None where they differ, or it knows no such thing."""
    own = [block for block in blocks if isinstance(block, Block)]
    found = {(one.heads, one.probability, one.activation) for one in own}
    if len(own) < len(blocks) or len(found) != 1:
        return None
    ((heads, probability, activation),) = found
    if activation not in ACTIVATIONS.values() or own[0].norm_attention.normalized_shape[0] % heads:
        return None
    return StackSettings(heads=heads, probability=probability, gelu=activation is _gelu, outputs=outputs)


class ActionHead(nn.Linear):
    """From the last hidden state to actions in [-1, 1] (tanh), to unbounded ones, or to logits of discrete ones."""

    def __init__(self, width: int, shape: SequenceShape, kind: str):
        super().__init__(width, shape.action_dim)
        self.bounded = kind == "tanh" and not shape.discrete

    def forward(self, input: Float[Tensor, "batch outputs width"]) -> Float[Tensor, "batch outputs action_dim"]:
        """Return the predictions that belong to the hidden states."""
        predicted = super().forward(input)
        return torch.tanh(predicted) if self.bounded else predicted


def action_inputs(
    actions: Shaped[Tensor, "batch time ..."], shape: SequenceShape
) -> Float[Tensor, "batch time action_dim"]:
    """Actions as a network reads them: as they are, or one-hot where they are discrete."""
    return functional.one_hot(actions, shape.action_dim).float() if shape.discrete else actions
