"""A batch of single timesteps, as updates of value functions read them."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Transitions:
    """A batch of single timesteps; actions in [-1, 1]. Only terminations stop value: a time limit does not."""

    observations: Float[Tensor, "batch obs_dim"]
    actions: Float[Tensor, "batch action_dim"]
    rewards: Float[Tensor, " batch"]
    next_observations: Float[Tensor, "batch obs_dim"]
    terminations: Bool[Tensor, " batch"]
