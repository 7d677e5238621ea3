"""The C libraries of this folder, loaded once a process; where anything is missing, nothing is loaded."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import torch

from foretell.core.compiling import PRODUCTS, SPARSE, loaded


class Native:
    """The loaded functions, and the matrix product of the BLAS that PyTorch brings."""

    def __init__(self, stack: ctypes.CDLL, ends: ctypes.CDLL):
        torchs = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
        self.product = ctypes.cast(torchs.sgemm_, ctypes.c_void_p)
        self._limit: Callable[[int], int] = getattr(torchs, "MKL_Set_Num_Threads_Local", lambda _: 0)
        self.kept_floats, self.forward, self.backward = (
            stack.foretell_kept_floats, stack.foretell_stack_forward, stack.foretell_stack_backward,
        )  # fmt: skip
        self.kept_floats.restype = ctypes.c_int64
        self.front_forward, self.front_backward, self.tail = (
            ends.foretell_front_forward, ends.foretell_front_backward, ends.foretell_tail,
        )  # fmt: skip

    @contextmanager
    def one_thread_a_product(self) -> Generator[None]:
        """Keep the BLAS from threads of its own: the blocks are what is shared out, and products here are small.

        MKL alone can be told so for one caller; any other BLAS is left as it is.
        """
        before = self._limit(1)
        try:
            yield
        finally:
            self._limit(before)


@cache
def native() -> Native | None:
    """Return the libraries, built if they have to be; None where they are switched off or cannot be had."""
    folder = Path(__file__).parent
    headers = [folder / f"{name}.h" for name in ("attention", "kernels", "one_window", "stack")]
    stack = loaded(folder / "stack.c", [*headers, *SPARSE], ["-fopenmp"])
    if stack and (ends := loaded(folder / "ends.c", [folder / "kernels.h", *PRODUCTS], ["-fopenmp"])):
        with suppress(OSError, AttributeError):  # where PyTorch brings its BLAS otherwise
            return Native(stack, ends)
    return None


def kernels() -> str:
    """Return which operators compute transformer blocks on the CPU: native or torch. Runs of both differ by rounding
    and in the units that dropout drops."""
    return "native" if native() else "torch"
