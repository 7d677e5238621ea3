"""The loss of imitating recorded actions, one for all networks."""

from __future__ import annotations

from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional

from foretell.models.layers import masked_mean
from foretell.sequences.batch import SequenceBatch


def imitation_loss(
    predicted: Float[Tensor, "batch time action_dim"], batch: SequenceBatch, *, discrete: bool
) -> Float[Tensor, ""]:
    r"""Mean over real timesteps of `imitation_errors`: $L = \sum_{b,t} m_{bt} \ell_{bt} / \sum_{b,t} m_{bt}$."""
    return masked_mean(imitation_errors(predicted, batch.actions, discrete=discrete), batch.mask)


def imitation_errors(
    predicted: Float[Tensor, "batch time action_dim"], actions: Shaped[Tensor, "batch time ..."], *, discrete: bool
) -> Float[Tensor, "batch time"]:
    """Squared error in [-1, 1] units, averaged over action dimensions; cross-entropy in nats of `discrete` actions.

    >>> import torch
    >>> imitation_errors(torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[0.0, 0.5]]]), discrete=False)
    tensor([[0.6250]])
    """
    if discrete:
        return functional.cross_entropy(predicted.transpose(1, 2), actions, reduction="none")
    return (predicted - actions).square().mean(-1)
