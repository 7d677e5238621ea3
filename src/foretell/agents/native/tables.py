"""Tables of addresses for C, looked up once for tensors that are stepped thousands of times."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Sequence

from torch import Tensor

from foretell.agents.native.building import Library, addresses, counts


class Tables:
    """Where groups of tensors lie, each group as many and of the same sizes; good until one of `watched` moves.

    `functions` is the library that takes them, None where there is none.
    """

    def __init__(self, functions: Library | None, watched: Iterable[Tensor], *groups: Sequence[Tensor]):
        self._places = _places(watched)
        self.functions, self.groups = functions, groups  # lest anything of them is freed, whoever replaces it
        self.count = len(groups[0])
        self.counts = counts(groups[0])
        self.addresses: list[ctypes.Array] = [addresses(group) for group in groups]

    def hold(self, watched: Iterable[Tensor]) -> bool:
        """Say whether these lie where those lay that the tables were made for."""
        return self._places == _places(watched)


class _Adam(ctypes.Structure):
    _fields_ = [
        ("tensors", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("counts", "weights", "gradients", "first", "second", "steps")),
        *((name, ctypes.c_double) for name in ("rate", "beta1", "beta2", "epsilon", "negligible")),
    ]  # fmt: skip


class AdamTables:
    """What C takes for a step of Adam: tables of weights, gradients, both moments and steps, and settings."""

    def __init__(self, tables: Tables, negligible: float):
        self._tables = tables  # what the structure points to has to live as long
        self._of = _Adam(
            tables.count, *map(ctypes.addressof, (tables.counts, *tables.addresses)), negligible=negligible
        )
        self.address = ctypes.addressof(self._of)

    def set(self, rate: float, betas: tuple[float, float], epsilon: float) -> None:
        """Take the settings of the next step."""
        self._of.rate, self._of.epsilon = rate, epsilon
        self._of.beta1, self._of.beta2 = betas


def _places(tensors: Iterable[Tensor]) -> list[int]:
    return [tensor.data_ptr() for tensor in tensors]
