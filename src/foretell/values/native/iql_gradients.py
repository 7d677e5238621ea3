"""Losses and gradients of an update of implicit Q-learning without a policy: one call of C, in memory made once."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from foretell.agents.native.building import Library
from foretell.agents.native.perceptrons import NativePass
from foretell.agents.transitions import Transitions

_PASSES, _FUNCTIONS, _SIZES = ("target", "value", "q"), ("expectile", "errors"), ("observation_dim", "action_dim")
_MEMORY = "taken", "both", "advantages", "of_value", "targets", "of_q"
_OF_A_CALL = "value_partial", "q_partial", "losses"


class _Learner(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in (*_PASSES, *_FUNCTIONS)),
        *((name, ctypes.c_int64) for name in _SIZES),
        *((name, ctypes.c_void_p) for name in (*_MEMORY, *_OF_A_CALL)),
    ]  # fmt: skip


class NativeGradients:
    """For batches of one size, through passes of the slow Q-functions, the value function and the Q-functions."""

    def __init__(self, functions: Library, target: NativePass, value: NativePass, q: NativePass):
        self._functions, self.passes = functions, [target, value, q]
        rows, members, observation_dim = q.rows, q.network.members, value.network.weights[0].shape[1]
        both_dims = q.network.weights[0].shape[1]
        self._memory = [
            torch.empty(count) for count in (
                rows * both_dims, 2 * rows * observation_dim, rows, rows, rows, members * rows,
            )
        ]  # fmt: skip
        self._of = _Learner(
            *[one.address for one in self.passes],
            *[ctypes.cast(one, ctypes.c_void_p).value for one in (functions.expectile, functions.errors)],
            observation_dim, both_dims - observation_dim, *map(Tensor.data_ptr, self._memory),
        )  # fmt: skip
        self._address = ctypes.addressof(self._of)

    def write(self, batch: Transitions, expectile: float, discount: float) -> tuple[Tensor, Tensor]:
        """Return the losses of V and Q, and leave their gradients on the parameters."""
        threads, (_, value, q) = torch.get_num_threads(), self.passes
        mine = value.partial(threads), q.partial(threads), (losses := torch.empty(2, dtype=torch.float32))
        self._of.value_partial, self._of.q_partial, self._of.losses = map(Tensor.data_ptr, mine)
        tensors = batch.observations, batch.actions, batch.next_observations, batch.rewards, batch.terminations
        self._functions.learner(self._address, *map(Tensor.data_ptr, tensors), expectile, discount, threads)
        return losses[0], losses[1]
