"""An update of Soft Actor-Critic with target Q-functions: a call for each network or one for both, memory made once."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from foretell.agents.native.building import Library
from foretell.agents.native.perceptrons import NativePass
from foretell.agents.networks import LOG_STD_RANGE
from foretell.agents.squashed_gaussian import Squashed
from foretell.agents.transitions import Transitions

_PASSES, _FUNCTIONS = ("target", "q", "policy"), ("targets", "errors", "soft_values", "policy_gradient")
_MEMORY = "taken", "of_targets", "soft", "of_q", "of_actions", "of_outputs", "found"


class _ActorCritic(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in (*_PASSES, *_FUNCTIONS)),
        *((name, ctypes.c_int64) for name in ("observation_dim", "action_dim")),
        *((name, ctypes.c_float) for name in ("low", "high")),
        *((name, ctypes.c_void_p) for name in (*_MEMORY, "q_partial", "policy_partial")),
    ]  # fmt: skip


class NativeActorCritic:
    """For batches of one size, through passes of the target Q-functions, the Q-functions and the policy.

    The policy's pass takes two batches at once: the observations, and those that followed them.
    """

    def __init__(self, functions: Library, target: NativePass, q: NativePass, policy: NativePass):
        self._functions, self.passes = functions, [target, q, policy]
        rows, members, observation_dim = q.rows, q.network.members, policy.network.weights[0].shape[1]
        both_dims = q.network.weights[0].shape[1]
        action_dim = both_dims - observation_dim
        counts = rows * both_dims, rows, rows, members * rows, rows * action_dim, 2 * rows * action_dim
        self._memory = [*map(torch.empty, counts), torch.empty(members * rows, dtype=torch.int64)]
        self._of = _ActorCritic(
            *[one.address for one in self.passes],
            *[ctypes.cast(getattr(functions, name), ctypes.c_void_p).value for name in _FUNCTIONS],
            observation_dim, action_dim, *LOG_STD_RANGE, *map(Tensor.data_ptr, self._memory),
        )  # fmt: skip
        self._address = ctypes.addressof(self._of)

    def both(
        self, batch: Transitions, sampled: Squashed, temperature: Tensor, discount: float, of_q: int, of_policy: int
    ) -> tuple[int, dict[str, Tensor]]:
        """Step the Q-functions and then the policy; return how many stepped, and the losses.

        `of_q` and `of_policy` are what `SmallAdam.in_c` gives of them. What is not finite, loss or gradients, does not
        step, nor does what comes behind it.
        """
        threads, losses = torch.get_num_threads(), torch.zeros(2)
        self._share_out(threads)
        tensors = (
            batch.observations, batch.actions, batch.next_observations, batch.rewards, batch.terminations,
            sampled.actions, sampled.log_probs, sampled.deviations, temperature,
        )  # fmt: skip
        stepped = self._functions.both(
            self._address, *map(Tensor.data_ptr, tensors), discount, of_q, of_policy, losses.data_ptr(), threads
        )
        return stepped, {"q": losses[0], "policy": losses[1]}

    def _share_out(self, threads: int) -> None:
        _, q, policy = self.passes
        self._of.q_partial, self._of.policy_partial = q.partial(threads).data_ptr(), policy.partial(threads).data_ptr()

    def of_q(self, batch: Transitions, sampled: Squashed, temperature: Tensor, discount: float) -> Tensor:
        """Return the loss of the Q-functions, and leave their gradients on the parameters."""
        threads = torch.get_num_threads()
        self._share_out(threads)
        tensors = (
            batch.observations, batch.actions, batch.next_observations, batch.rewards, batch.terminations,
            sampled.actions, sampled.log_probs, temperature,
        )  # fmt: skip
        return torch.tensor(self._functions.critic(self._address, *map(Tensor.data_ptr, tensors), discount, threads))

    def of_policy(self, sampled: Squashed, temperature: Tensor) -> Tensor:
        """Return the policy's loss, and leave its gradients on the parameters, of what its pass last read."""
        threads = torch.get_num_threads()
        self._share_out(threads)
        tensors = self.passes[2].read, sampled.actions, sampled.log_probs, sampled.deviations, temperature
        return torch.tensor(self._functions.actor(self._address, *map(Tensor.data_ptr, tensors), threads))
