"""Squashed actions from what the policy's perceptron gives out, and the gradient back; in C where that can be had."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from foretell.agents.native.building import usable
from foretell.agents.native.squashing import NativeSquashing
from foretell.agents.networks import LOG_STD_RANGE, GaussianPolicy
from foretell.agents.squashed_gaussian import Squashed, sample_squashed


@runtime_checkable
class Squashing(Protocol):
    """Both directions; in C they give the numbers of PyTorch's operators, bit for bit."""

    def sample(
        self, outputs: Float[Tensor, "1 rows twice_action_dim"], noise: Float[Tensor, "rows action_dim"]
    ) -> Squashed:
        """Return the actions for this standard normal noise."""
        ...

    def gradient(
        self,
        outputs: Float[Tensor, "1 rows twice_action_dim"],
        sampled: Squashed,
        of_actions: Float[Tensor, "first_rows action_dim"],
        temperature: Float[Tensor, ""],
    ) -> Float[Tensor, "1 first_rows twice_action_dim"]:
        """Return the gradient of Eq. 8 with respect to the first rows of the outputs; `of_actions` is that of -Q.

        It goes by way of a = tanh(u), u = mean + deviation: d log pi(a) / du = 2 a, and -1 more for each log standard
        deviation, which stays in its range.
        """
        ...


def squashing(outputs: Tensor, noise: Tensor) -> Squashing:
    """Return what computes with tensors of this kind."""
    functions = usable(outputs, noise)
    return NativeSquashing(functions) if functions else TorchSquashing()


class TorchSquashing:
    """A `Squashing` of PyTorch's operators, for any type of number."""

    def sample(
        self, outputs: Float[Tensor, "1 rows twice_action_dim"], noise: Float[Tensor, "rows action_dim"]
    ) -> Squashed:
        """See `Squashing`."""
        mean, log_std = GaussianPolicy.split(outputs)
        actions, log_probs = sample_squashed(mean, log_std, noise)
        return Squashed(actions=actions, log_probs=log_probs, deviations=log_std.exp() * noise)

    def gradient(
        self,
        outputs: Float[Tensor, "1 rows twice_action_dim"],
        sampled: Squashed,
        of_actions: Float[Tensor, "first_rows action_dim"],
        temperature: Float[Tensor, ""],
    ) -> Float[Tensor, "1 first_rows twice_action_dim"]:
        """See `Squashing`."""
        rows, action_dim = of_actions.shape
        actions, weight = sampled.actions[:rows], temperature / rows
        of_mean = 2 * weight * actions + of_actions * (1 - actions.square())
        of_log_std = of_mean * sampled.deviations[:rows] - weight
        low, high = LOG_STD_RANGE
        raw = outputs[0, :rows, action_dim:]
        of_log_std = torch.where((raw >= low) & (raw <= high), of_log_std, 0.0)
        return torch.cat([of_mean, of_log_std], -1)[None]
