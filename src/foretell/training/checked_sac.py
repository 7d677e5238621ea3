"""Soft Actor-Critic with its losses and gradients checked, network by network, before each of them takes its step."""

from __future__ import annotations

from torch import Tensor

from foretell.agents.native.actor_critic import NativeActorCritic
from foretell.agents.sac import SoftActorCritic
from foretell.agents.squashed_gaussian import Squashed
from foretell.agents.transitions import Transitions
from foretell.core.errors import DivergedError
from foretell.models.finite import named_gradients, where_not_finite


class NotFiniteError(Exception):
    """The loss of one network, or its gradient, is not finite; networks before it may have taken their step."""

    def __init__(self, network: str, loss: Tensor):
        super().__init__(network)
        self.network, self.loss = network, loss


class CheckedActorCritic(SoftActorCritic):
    """An agent of which no network takes a step whose loss or gradient is not finite: `update` raises `NotFiniteError`.

    The Q-functions step first, and the losses of the others are of Q-functions that have: where a later network fails,
    it is for the caller to take the earlier steps back.
    """

    def _learn_together(
        self, native: NativeActorCritic, batch: Transitions, sampled: Squashed, temperature: Tensor
    ) -> dict[str, Tensor]:
        """Steps included, one call; a call for each where Adam's moments are not there yet, or `_step` is another's."""
        of_q, of_policy = self.optimizers["q"].in_c(), self.optimizers["policy"].in_c()
        if getattr(self._step, "__func__", None) is not _STEP or of_q is None or of_policy is None:
            return super()._learn_together(native, batch, sampled, temperature)
        stepped, losses = native.both(batch, sampled, temperature, self.config.discount, of_q, of_policy)
        if stepped < len(losses):
            raise NotFiniteError(list(losses)[stepped], list(losses.values())[stepped])
        return losses

    def _step(self, name: str, loss: Tensor) -> None:
        if not self.optimizers[name].advance_if_finite(float(loss)):
            raise NotFiniteError(name, loss)

    def diverged(self, step: int, batch: Transitions, found: NotFiniteError) -> DivergedError:
        """Return the error that says what is not finite, and where."""
        names = {id(parameter): name for name, parameter in self.named_parameters()}
        stepping = self.optimizers[found.network].param_groups[0]["params"]
        where = where_not_finite(
            batch, ("row",), self.state_dict(), {f"loss of {found.network}": found.loss},
            named_gradients((names[id(parameter)], parameter) for parameter in stepping),
        )  # fmt: skip
        return DivergedError(f"SAC, step {step}: {where} Nothing of this update was kept.")


_STEP = CheckedActorCritic._step
