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
        self.functions = functions
        self.count = len(groups[0])
        self.counts = counts(groups[0])
        self.addresses: list[ctypes.Array] = [addresses(group) for group in groups]

    def hold(self, watched: Iterable[Tensor]) -> bool:
        """Say whether these lie where those lay that the tables were made for."""
        return self._places == _places(watched)


def _places(tensors: Iterable[Tensor]) -> list[int]:
    return [tensor.data_ptr() for tensor in tensors]
