"""The Trajectory Transformer one window, one token at a time, in NumPy and float64; windows come without padding."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch

from reference.making import SHAPES, small_model

FRONTS = [{}, {"goals": True}, {"told": True}, {"told": True, "goals": True}]
"""What can stand in front of a window."""
WEIGHTS = {"action_weight": 5.0, "reward_weight": 2.0, "return_weight": 0.5}


def trajectory_model(kind="continuous", *, seed=0, **changes):
    """A small model whose bins were fitted on numbers like those of the batches."""
    model = small_model("trajectory-transformer", SHAPES[kind], seed=seed, **{**WEIGHTS, **changes})
    rows = np.random.default_rng(seed).normal(size=(200, model.slots)).astype(np.float32)
    model.discretizer.fit(rows, "quantile")
    return model


def ended(batch, *rows):
    """The batch with a termination at the end of these windows."""
    terminations = batch.terminations.clone()
    terminations[list(rows), -1] = True
    return replace(batch, terminations=terminations)


def toward(batch, seed=3):
    """The batch with a goal for each window."""
    goals = torch.randn(batch.observations[:, 0].shape, generator=torch.Generator().manual_seed(seed))
    return replace(batch, goals=goals)


def encode_slowly(edges, value):
    """The bin of a number: that of no width where the number is one, else the last that begins at or below it."""
    bins = len(edges) - 1
    for symbol in range(bins):
        if edges[symbol] == value == edges[symbol + 1]:
            return symbol
    return min(max(sum(edge <= value for edge in edges) - 1, 0), bins - 1)


def timesteps_of(model, batch, row):
    """The real timesteps of one window as lists of symbols, `stop` behind a termination."""
    edges, shape = model.discretizer.edges.numpy(), model.shape
    found = []
    for t in np.flatnonzero(batch.mask[row].numpy()):
        numbers = [*batch.observations[row, t].tolist()]
        numbers += [0.0] if shape.discrete else batch.actions[row, t].tolist()
        numbers += [float(batch.rewards[row, t]), float(batch.returns_to_go[row, t, 0])]
        symbols = [encode_slowly(edges[slot], number) for slot, number in enumerate(np.float32(numbers))]
        if shape.discrete:
            symbols[len(batch.observations[row, t])] = int(batch.actions[row, t])
        found.append(symbols)
    length = batch.mask.shape[1]
    if bool(batch.terminations[row, -1]) and length > 1:
        found = [*found, [model.stop] * model.slots][-length:]
    return found


def goal_of(model, batch, row):
    """A window's goal as symbols; none without."""
    if batch.goals is None:
        return []
    edges = model.discretizer.edges.numpy()
    return [encode_slowly(edges[slot], np.float32(number)) for slot, number in enumerate(batch.goals[row].tolist())]


def front_of(model, batch, row, skipped=0):
    """What stands in front of a window, embedded: what its first timestep behind so many is told, and the goal."""
    w = {name: value.double().numpy() for name, value in model.state_dict().items()}
    found = []
    if model.config.told:
        first = int(np.flatnonzero(batch.mask[row].numpy())[skipped])
        time = int(batch.timesteps[row, first]) / model.shape.max_timesteps
        numbers = np.array([float(batch.returns_to_go[row, first, 0]), time])
        found.append(w["embed_told.weight"] @ numbers + w["embed_told.bias"])
    for i, symbol in enumerate(goal_of(model, batch, row) if model.config.goals else ()):
        embedded = _embedding(model, w["embed_symbol.weight"], model.slots + i, symbol)
        found.append(embedded + w["embed_position.weight"][model.config.context_length * model.slots + i])
    return found


def _embedding(model, rows, table, symbol):
    """A symbol's embedding: its row, or the mean of the rows near it."""
    weights = _near(model, table, symbol, model.config.table_smoothing)
    return sum(weights[other] * rows[table * model.vocabulary + other] for other in np.flatnonzero(weights))


def _norm(values, weight, bias):
    centred = values - values.mean()
    return centred / math.sqrt(centred.var() + 1e-5) * weight + bias


def _gelu(values):
    return 0.5 * values * (1 + np.tanh(math.sqrt(2 / math.pi) * (values + 0.044715 * values**3)))


def logits_slowly(model, tokens, front=()):
    """Logits `(tokens, vocabulary)` of the symbol after each of the tokens, which begin with a whole timestep."""
    w = {name: value.double().numpy() for name, value in model.state_dict().items()}
    slots, before, heads = model.slots, len(front), model.config.heads
    inputs = list(front)
    inputs += [
        _embedding(model, w["embed_symbol.weight"], k % slots, symbol) + w["embed_position.weight"][k]
        for k, symbol in enumerate(tokens)
    ]
    hidden = np.stack(inputs)
    for layer in range(model.config.layers):
        b = {name.removeprefix(f"blocks.{layer}."): value for name, value in w.items()}
        normed = np.stack([_norm(row, b["norm_attention.weight"], b["norm_attention.bias"]) for row in hidden])
        both = normed @ b["query_key_value.weight"].T + b["query_key_value.bias"]
        queries, keys, values = (part.reshape(len(hidden), heads, -1) for part in np.split(both, 3, axis=1))
        for q in range(len(hidden)):
            seen = [k for k in range(q + 1) if k == q or k < before or (k - before) % slots != slots - 1]
            mixed = []
            for h in range(heads):
                scores = np.array([queries[q, h] @ keys[k, h] for k in seen]) / math.sqrt(keys.shape[-1])
                shares = np.exp(scores - scores.max())
                mixed.append(sum(share * values[k, h] for share, k in zip(shares / shares.sum(), seen)))
            hidden[q] = hidden[q] + b["attention_output.weight"] @ np.concatenate(mixed) + b["attention_output.bias"]
        for q, row in enumerate(hidden):
            normed = _norm(row, b["norm_feedforward.weight"], b["norm_feedforward.bias"])
            inner = _gelu(b["feedforward_in.weight"] @ normed + b["feedforward_in.bias"])
            hidden[q] = row + b["feedforward_out.weight"] @ inner + b["feedforward_out.bias"]
    return np.stack([
        w["heads"][(k + 1) % slots] @ _norm(hidden[before + k], w["norm.weight"], w["norm.bias"])
        for k in range(len(tokens))
    ])  # fmt: skip


def probabilities(logits):
    """Softmax of one row of logits."""
    shares = np.exp(logits - logits.max())
    return shares / shares.sum()


def _near(model, slot, symbol, deviation):
    """A symbol by itself, or a normal distribution over the numbers near it."""
    shape = model.shape
    wanted = np.zeros(model.vocabulary)
    choice = shape.discrete and slot == model.observation_slots
    if not deviation or choice or symbol == model.stop:
        wanted[symbol] = 1.0
        return wanted
    numbers = np.arange(model.config.bins)
    wanted[: model.config.bins] = np.exp(-0.5 * ((numbers - symbol) / deviation) ** 2)
    return wanted / wanted.sum()


def loss_slowly(model, batch):
    """The weighted mean of $-log P$ over all real symbols but the first of each window."""
    config, total, weights = model.config, 0.0, 0.0
    of_slot = [1.0] * model.observation_slots + [config.action_weight] * model.action_slots
    of_slot += [config.reward_weight, config.return_weight]
    for row in range(len(batch.mask)):
        tokens = [symbol for timestep in timesteps_of(model, batch, row) for symbol in timestep]
        full = batch.mask[row].all() and batch.mask.shape[1] > 1
        skipped = int(full and batch.terminations[row, -1])  # to make room for the end
        logits = logits_slowly(model, tokens, front_of(model, batch, row, skipped))
        for k in range(1, len(tokens)):
            slot = k % model.slots
            wanted = _near(model, slot, tokens[k], config.smoothing)
            total -= of_slot[slot] * float(wanted @ np.log(probabilities(logits[k - 1])))
            weights += of_slot[slot]
    return total / weights
