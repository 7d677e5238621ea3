"""How the Transformer is fitted: learning rate, optimiser and label smoothing (Vaswani et al. 2017, section 5)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from foretell.core.errors import UsageError
from foretell.core.settings import whole

ADAM_BETAS = (0.9, 0.98)
"""Section 5.3."""
ADAM_EPSILON = 1e-9
"""Section 5.3."""


def adam(parameters: Iterable[nn.Parameter]) -> torch.optim.Adam:
    """Return the optimiser of section 5.3; set the learning rate of its groups before each step."""
    return torch.optim.Adam(parameters, lr=0.0, betas=ADAM_BETAS, eps=ADAM_EPSILON, fused=True)


def transformer_learning_rate(update: int, width: int, warmup_updates: int = 4_000) -> float:
    r"""Return the learning rate of update 0, 1, ...: linear up to the warm-up's end, then as $1/\sqrt{update}$.

    $lrate = d_{model}^{-0.5} \min(step^{-0.5}, step \cdot warmup^{-1.5})$ (Eq. 3); $step$ -> `update` + 1,
    for the paper counts from 1. Raises `UsageError` for other than whole numbers, and a width or warm-up below 1.

    >>> [round(transformer_learning_rate(step - 1, 512), 7) for step in (1, 2000, 4000, 16000)]
    [2e-07, 0.0003494, 0.0006988, 0.0003494]
    """
    step = whole("update", update) + 1
    width, warmup_updates = whole("width", width, 1), whole("warmup_updates", warmup_updates, 1)
    return width**-0.5 * min(step**-0.5, step * warmup_updates**-1.5)


def label_smoothed_errors(
    logits: Float[Tensor, "batch time vocabulary"], targets: Int[Tensor, "batch time"], smoothing: float
) -> Float[Tensor, "batch time"]:
    r"""Cross-entropy in nats with $(1 - \epsilon_{ls})$ on the target plus $\epsilon_{ls}$ spread over all symbols.

    The target is one of all symbols (Szegedy et al. 2016, which section 5.4 cites), as PyTorch has it.

    >>> label_smoothed_errors(torch.tensor([[[2.0, 0.0]]]), torch.tensor([[0]]), 0.1)
    tensor([[0.2269]])
    """
    return functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none", label_smoothing=smoothing)


def averaged_weights(states: Iterable[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return the mean of each tensor over state dictionaries of one network: its last checkpoints (section 6.1).

    The learning rate is still high when training ends; the mean of where the weights went is better than the last of
    them. Raises `UsageError` where there is none, or they are of different networks.

    >>> averaged_weights([{"bias": torch.tensor([1.0, 5.0])}, {"bias": torch.tensor([3.0, 5.0])}])
    {'bias': tensor([2., 5.])}
    """
    given = list(states) if isinstance(states, Iterable) else [states]
    if not all(isinstance(state, Mapping) for state in given):
        raise UsageError(
            f"states is of type {type(states).__name__}; expected several state dictionaries, "
            "[model.state_dict(), ...]."
        )
    if not given:
        raise UsageError("no states to average; expected state dictionaries of one network, at least one.")
    shapes = [{name: tensor.shape for name, tensor in state.items()} for state in given]
    for place, found in enumerate(shapes):
        if found != shapes[0]:
            raise UsageError(f"state {place} has other tensors than state 0; expected all to be of one network.")
    return {name: torch.stack([state[name] for state in given]).mean(0) for name in given[0]}
