"""A fixed set of actions to compare in every state."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from foretell.agents.backpropagation import Passes
from foretell.agents.networks import QFunctions
from foretell.core.seeding import stream
from foretell.values.functions import ValueFunctions

GRID = 41
"""Candidates where an action is one number: steps of a twentieth of the half-range, both bounds among them."""
SAMPLES = 256
"""Candidates where an action has more components."""

CACHED_ROWS = 1_024
"""Rows that go through the networks at a time: their hidden layers stay in the processor's cache."""


def candidate_actions(functions: ValueFunctions, *, seed: int = 0) -> Float32[Tensor, "candidates action_dim"]:
    """Return actions in [-1, 1], or one-hot: every choice; a grid of one number; or draws from the whole range."""
    if functions.discrete:
        return torch.eye(functions.action_dim)
    if functions.action_dim == 1:
        return torch.linspace(-1, 1, GRID)[:, None]
    drawn = stream(seed, "candidate-actions").uniform(-1, 1, (SAMPLES, functions.action_dim))
    return torch.from_numpy(drawn.astype(np.float32))


def q_of_candidates(
    functions: ValueFunctions, states: Float[Tensor, "rows obs_dim"], candidates: Float[Tensor, "candidates action_dim"]
) -> Float[Tensor, "rows candidates"]:
    """Return Q of each candidate in each state, the smaller of two, in network units.

    Pairs are made as they go through the networks: where there are many choices, all at once would take gigabytes.
    """
    rows, count = len(states), len(candidates)
    parts = torch.arange(rows * count).split(CACHED_ROWS)
    pairs = (torch.cat([states[some // count], candidates[some % count]], -1) for some in parts)
    return _smaller(functions, pairs, states.shape[1]).reshape(rows, count)


def smaller_q(
    functions: ValueFunctions, states: Float[Tensor, "rows obs_dim"], actions: Float[Tensor, "rows action_dim"]
) -> Float[Tensor, " rows"]:
    """Return Q of each action in its state, the smaller of two, in network units; for any number of rows."""
    return _smaller(functions, torch.cat([states, actions], -1).split(CACHED_ROWS), states.shape[1])


def _smaller(functions: ValueFunctions, pairs: Iterable[Tensor], observation_dim: int) -> Float[Tensor, " rows"]:
    """Return the smaller Q of pairs that come a few at a time; memory is taken for these alone."""
    passes, q = Passes(), functions.q
    if type(q) is not QFunctions:  # whose passes are not known
        found = [q(some[:, :observation_dim], some[:, observation_dim:]).amin(0) for some in pairs]
    else:
        with torch.no_grad():
            found = [passes.of(q.mlp, len(some)).forward(some).squeeze(-1).amin(0) for some in pairs]
    return torch.cat(found) if found else torch.empty(0)
