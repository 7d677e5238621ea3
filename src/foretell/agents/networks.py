"""The networks of Soft Actor-Critic: policy, Q-functions (several in one batched product) and value function."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

LOG_STD_RANGE = (-20.0, 2.0)
"""Bounds on the log standard deviation before squashing (Haarnoja et al. 2018a, published implementation)."""


class EnsembleMLP(nn.Module):
    """`members` perceptrons of equal shape with ReLU, evaluated as one batched matrix product.

    Initialised as `nn.Linear` initialises (uniform in plus or minus 1/sqrt(inputs)), from `generator` alone.
    """

    layers: tuple[tuple[nn.Parameter, nn.Parameter], ...]
    """Weight and bias of each layer."""

    def __init__(self, members: int, sizes: Sequence[int], generator: torch.Generator):
        super().__init__()
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        for inputs, outputs in pairwise(sizes):
            bound = 1 / math.sqrt(inputs)
            for group, shape in ((self.weights, (members, inputs, outputs)), (self.biases, (members, 1, outputs))):
                group.append(nn.Parameter(torch.empty(shape).uniform_(-bound, bound, generator=generator)))
        self.members = members
        self.register_load_state_dict_post_hook(_look_up)
        _look_up(self)

    def forward(self, inputs: Float[Tensor, "batch inputs"]) -> Float[Tensor, "members batch outputs"]:
        """Apply every member to the same inputs."""
        hidden = inputs.expand(self.members, *inputs.shape)
        for weight, bias in self.layers[:-1]:
            hidden = torch.baddbmm(bias, hidden, weight).relu_()
        weight, bias = self.layers[-1]
        return torch.baddbmm(bias, hidden, weight)


def _look_up(network: nn.Module, _: object = None) -> None:
    """Keep weights and biases where they are at hand: to ask a list of parameters for them takes a while.

    To load a state may put others in their place.
    """
    assert isinstance(network, EnsembleMLP)
    network.layers = tuple(zip(network.weights, network.biases))


class QFunctions(nn.Module):
    """`members` soft Q-functions $Q_\\theta(s, a)$, actions in [-1, 1]."""

    def __init__(
        self, members: int, observation_dim: int, action_dim: int, hidden: Sequence[int], generator: torch.Generator
    ):
        super().__init__()
        self.mlp = EnsembleMLP(members, (observation_dim + action_dim, *hidden, 1), generator)

    def forward(
        self, observations: Float[Tensor, "batch obs_dim"], actions: Float[Tensor, "batch action_dim"]
    ) -> Float[Tensor, "members batch"]:
        """Return each member's estimate of the soft return from (observation, action) on, in reward units."""
        return self.mlp(torch.cat([observations, actions], dim=-1)).squeeze(-1)


class ValueFunction(nn.Module):
    """Soft state value $V_\\psi(s)$ (Eq. 5 of the report)."""

    def __init__(self, observation_dim: int, hidden: Sequence[int], generator: torch.Generator):
        super().__init__()
        self.mlp = EnsembleMLP(1, (observation_dim, *hidden, 1), generator)

    def forward(self, observations: Float[Tensor, "batch obs_dim"]) -> Float[Tensor, " batch"]:
        """Return the soft return from each observation on, in reward units."""
        return self.mlp(observations).squeeze(-1).squeeze(0)


class GaussianPolicy(nn.Module):
    """Squashed Gaussian $\\pi_\\phi(a|s)$: mean and log standard deviation of u, where a = tanh(u) lies in [-1, 1]."""

    def __init__(self, observation_dim: int, action_dim: int, hidden: Sequence[int], generator: torch.Generator):
        super().__init__()
        self.mlp = EnsembleMLP(1, (observation_dim, *hidden, 2 * action_dim), generator)

    def forward(
        self, observations: Float[Tensor, "batch obs_dim"]
    ) -> tuple[Float[Tensor, "batch action_dim"], Float[Tensor, "batch action_dim"]]:
        """Return mean and log standard deviation before squashing."""
        return self.split(self.mlp(observations))

    @staticmethod
    def split(
        outputs: Float[Tensor, "1 batch outputs"],
    ) -> tuple[Float[Tensor, "batch action_dim"], Float[Tensor, "batch action_dim"]]:
        """Read mean and log standard deviation out of what the perceptron gives out."""
        mean, log_std = outputs.squeeze(0).chunk(2, dim=-1)
        return mean, log_std.clamp(*LOG_STD_RANGE)
