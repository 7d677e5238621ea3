"""The C libraries of this folder, each loaded once a process; where anything is missing, nothing is loaded."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

from foretell.core.compiling import EXACT, PRODUCTS, loaded

_POINTER, _NUMBER, _SINGLE, _COUNT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float, ctypes.c_int


class Library:
    """The loaded functions."""

    def __init__(self, adamw: ctypes.CDLL, gradients: ctypes.CDLL, muon: ctypes.CDLL):
        self.adamw, self.adamw_norm = adamw.foretell_adamw, adamw.foretell_adamw_norm
        self.muon = muon.foretell_muon
        self.norm, self.scale = gradients.foretell_norm, gradients.foretell_scale
        self.adamw.argtypes = [_POINTER, _NUMBER, *[_POINTER] * 6]
        self.adamw_norm.argtypes = [_NUMBER, *[_POINTER] * 4]
        self.norm.argtypes = [_NUMBER, *[_POINTER] * 3]
        self.scale.argtypes = [_NUMBER, *[_POINTER] * 2, _SINGLE]
        self.muon.argtypes = [_POINTER, _NUMBER, _POINTER, _COUNT]
        self.adamw.restype = self.adamw_norm.restype = self.norm.restype = self.scale.restype = None
        self.muon.restype = _COUNT


@cache
def library() -> Library | None:
    """Return the libraries, built if they have to be; None where they are switched off or cannot be had."""
    folder = Path(__file__).parent
    if (
        (adamw := loaded(folder / "adamw.c", flags=EXACT))
        and (gradients := loaded(folder / "gradients.c"))
        and (muon := loaded(folder / "muon.c", PRODUCTS, flags=["-fopenmp"]))
    ):
        return Library(adamw, gradients, muon)
    return None
