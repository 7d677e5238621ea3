"""The loss of imitating recorded actions, one for all networks."""

from __future__ import annotations

from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional

from foretell.models.configs import ActionLoss
from foretell.models.layers import masked_mean
from foretell.sequences.batch import SequenceBatch


def imitation_loss(
    predicted: Float[Tensor, "batch time action_dim"],
    batch: SequenceBatch,
    *,
    discrete: bool,
    kind: ActionLoss = "squared",
) -> Float[Tensor, ""]:
    r"""Mean over real timesteps of `imitation_errors`: $L = \sum_{b,t} m_{bt} \ell_{bt} / \sum_{b,t} m_{bt}$."""
    return masked_mean(imitation_errors(predicted, batch.actions, discrete=discrete, kind=kind), batch.mask)


def imitation_errors(
    predicted: Float[Tensor, "batch time action_dim"],
    actions: Shaped[Tensor, "batch time ..."],
    *,
    discrete: bool,
    kind: ActionLoss = "squared",
) -> Float[Tensor, "batch time"]:
    """Squared or absolute error in [-1, 1] units, averaged over action dimensions; cross-entropy in nats, whatever the
    kind, of `discrete` actions.

    >>> import torch
    >>> predicted, actions = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[0.0, 0.5]]])
    >>> imitation_errors(predicted, actions, discrete=False)
    tensor([[0.6250]])
    >>> imitation_errors(predicted, actions, discrete=False, kind="absolute")
    tensor([[0.7500]])
    """
    if discrete:
        return functional.cross_entropy(predicted.transpose(1, 2), actions, reduction="none")
    errors = predicted - actions
    return (errors.abs() if kind == "absolute" else errors.square()).mean(-1)
