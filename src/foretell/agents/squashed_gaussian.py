"""A Gaussian squeezed into [-1, 1] by tanh, with its exact log-density."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus


@dataclass(frozen=True, kw_only=True)
class Squashed:
    """Actions in [-1, 1] with their log-densities, and how they came about."""

    actions: Float[Tensor, "rows action_dim"]
    log_probs: Float[Tensor, " rows"]
    deviations: Float[Tensor, "rows action_dim"]
    """Standard deviation times noise, before squashing."""


def sample_squashed(
    mean: Float[Tensor, "batch action_dim"],
    log_std: Float[Tensor, "batch action_dim"],
    noise: Float[Tensor, "batch action_dim"],
) -> tuple[Float[Tensor, "batch action_dim"], Float[Tensor, " batch"]]:
    r"""Return a = tanh(mean + std * noise) and log pi(a), differentiable in mean and log_std.

    $\log\pi(a) = \log\mathcal N(u) - \sum_i \log(1 - \tanh^2 u_i)$ (Haarnoja et al. 2018a, appendix C). The last
    term is computed as $2(\log 2 - u - \mathrm{softplus}(-2u))$, exact where $1 - \tanh^2 u$ rounds to 0.
    Density with respect to actions in [-1, 1].
    """
    unsquashed = mean + log_std.exp() * noise
    gaussian = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)
    log_jacobian = 2 * (math.log(2) - unsquashed - softplus(-2 * unsquashed))
    return torch.tanh(unsquashed), (gaussian - log_jacobian).sum(-1)
