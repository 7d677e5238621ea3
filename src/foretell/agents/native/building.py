"""The C libraries of this folder, loaded once a process."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from foretell.agents.transitions import Transitions
from foretell.core.compiling import EXACT, SPARSE, loaded

_POINTER, _NUMBER, _REAL, _SINGLE, _COUNT = (
    ctypes.c_void_p, ctypes.c_int64, ctypes.c_double, ctypes.c_float, ctypes.c_int,
)  # fmt: skip


class Library:
    """The loaded functions, and the address of the matrix product of the BLAS that PyTorch brings."""

    def __init__(self, library: ctypes.CDLL, losses: ctypes.CDLL):
        torchs = ctypes.CDLL(str(Path(torch.__file__).parent / "lib/libtorch_cpu.so"))
        self.sgemm = ctypes.cast(torchs.sgemm_, _POINTER).value
        self.forward, self.backward = library.foretell_perceptrons_forward, library.foretell_perceptrons_backward
        self.adam, self.squares, self.follow = (
            library.foretell_adam, library.foretell_squares, library.foretell_follow,
        )  # fmt: skip
        self.forward.argtypes = [_POINTER, _POINTER, _COUNT]
        self.inputs = library.foretell_perceptrons_inputs
        self.backward.argtypes = [_POINTER, _NUMBER, *[_POINTER] * 3, _COUNT]
        self.inputs.argtypes = [_POINTER, _NUMBER, _POINTER, _NUMBER, _NUMBER, _POINTER, _POINTER, _COUNT]
        self.learner = library.foretell_learner
        self.learner.argtypes = [*[_POINTER] * 6, _SINGLE, _SINGLE, _COUNT]
        self.learner.restype = None
        self.critic, self.actor, self.both = library.foretell_critic, library.foretell_actor, library.foretell_both
        self.one_row = library.foretell_one_row
        self.one_row.argtypes, self.one_row.restype = [_POINTER, _NUMBER, *[_POINTER] * 6], None
        self.critic.argtypes = [*[_POINTER] * 9, _SINGLE, _COUNT]
        self.actor.argtypes = [*[_POINTER] * 6, _COUNT]
        self.both.argtypes = [*[_POINTER] * 10, _SINGLE, *[_POINTER] * 3, _COUNT]
        self.both.restype = _COUNT
        self.critic.restype = self.actor.restype = _REAL
        self.adam.argtypes = [_POINTER, _COUNT, _REAL, _COUNT]
        self.squares.argtypes = [_NUMBER, _POINTER, _POINTER]
        self.follow.argtypes = [_NUMBER, *[_POINTER] * 3, _REAL, _COUNT]
        self.forward.restype = self.backward.restype = self.inputs.restype = self.follow.restype = None
        self.adam.restype, self.squares.restype = _COUNT, _SINGLE
        self._declare_losses(losses)

    def _declare_losses(self, library: ctypes.CDLL) -> None:
        self.clamped, self.unsquashed, self.squashed = (
            library.foretell_clamped, library.foretell_unsquashed, library.foretell_squashed,
        )  # fmt: skip
        self.policy_gradient, self.targets = library.foretell_policy_gradient, library.foretell_targets
        self.errors, self.soft_values = library.foretell_errors, library.foretell_soft_values
        self.expectile = library.foretell_expectile
        self.clamped.argtypes = [_NUMBER, _NUMBER, _POINTER, _SINGLE, _SINGLE, _POINTER]
        self.unsquashed.argtypes = [_NUMBER, _NUMBER, *[_POINTER] * 8]
        self.squashed.argtypes = [_NUMBER, *[_POINTER] * 3]
        self.policy_gradient.argtypes = [_NUMBER, _NUMBER, *[_POINTER] * 5, _SINGLE, _SINGLE, _POINTER]
        self.targets.argtypes = [_NUMBER, _NUMBER, *[_POINTER] * 5, _SINGLE, _POINTER]
        self.errors.argtypes = [_NUMBER, _NUMBER, _POINTER, _POINTER, _SINGLE, _POINTER]
        self.soft_values.argtypes = [_NUMBER, _NUMBER, *[_POINTER] * 5]
        self.clamped.restype = self.unsquashed.restype = self.squashed.restype = self.policy_gradient.restype = None
        self.targets.restype = None
        self.expectile.argtypes = [_NUMBER, _NUMBER, *[_POINTER] * 5, _SINGLE, _SINGLE, *[_POINTER] * 3]
        self.errors.restype = self.soft_values.restype = self.expectile.restype = _REAL


@cache
def library() -> Library | None:
    """Return the library, built if it has to be; None where it is switched off or cannot be had."""
    folder = Path(__file__).parent
    perceptrons = loaded(folder / "perceptrons.c", [folder / "steps.h", *SPARSE], ["-fopenmp"])
    if perceptrons and (losses := loaded(folder / "losses.c", flags=EXACT)):
        with contextlib.suppress(OSError, AttributeError):  # where PyTorch brings its BLAS otherwise
            return Library(perceptrons, losses)
    return None


def usable(*tensors: Tensor) -> Library | None:
    """Return the library where it takes these: float32 on the CPU, in one piece each."""
    for tensor in tensors:
        if tensor.dtype is not torch.float32 or not tensor.is_cpu or not tensor.is_contiguous():
            return None
    return library()


def takes(batch: Transitions, *more: Tensor) -> bool:
    """Whether calls for whole updates take such a batch and `more` beside it: on the CPU, in one piece each, float32,
    terminations as truth values."""
    floats = batch.observations, batch.actions, batch.next_observations, batch.rewards, *more
    return (
        all(one.dtype is torch.float32 and one.is_cpu for one in floats) and batch.terminations.dtype is torch.bool
        and all(map(Tensor.is_contiguous, (*floats, batch.terminations)))
    )  # fmt: skip


def addresses(tensors: Sequence[Tensor]) -> ctypes.Array:
    """Return a table of where the tensors lie; it does not keep them alive."""
    return (ctypes.c_void_p * len(tensors))(*[tensor.data_ptr() for tensor in tensors])


def counts(tensors: Sequence[Tensor]) -> ctypes.Array:
    """Return how many numbers each holds."""
    return (ctypes.c_int64 * len(tensors))(*[tensor.numel() for tensor in tensors])
