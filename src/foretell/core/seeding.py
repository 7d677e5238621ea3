"""Independent random streams from one root seed. Nothing here, and nothing in Foretell, seeds globally."""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np

from foretell.core.errors import UsageError

WORD = 2**32
"""Smaller numbers are one word of what a sequence is seeded with."""
DRAWN_AT_ONCE = 200
"""Seeds of a list that come from one draw: as many as there are start states where nobody asks for more."""


def _sequence(root_seed: int, name: str, indices: tuple[int, ...]) -> np.random.SeedSequence:
    if root_seed < 0:
        raise UsageError(f"seed {root_seed}; expected 0 or a larger whole number.")
    entropy = [root_seed, *_words(name), *indices]
    if 0 <= min(entropy) <= max(entropy) < WORD:  # the words that NumPy would make of them, in a third of the time
        return np.random.SeedSequence(np.array(entropy, np.uint32))
    return np.random.SeedSequence(entropy)


@lru_cache(maxsize=64)
def _words(name: str) -> tuple[int, ...]:
    return tuple(
        map(int, np.frombuffer(hashlib.sha256(name.encode(errors="surrogateescape")).digest()[:16], dtype="<u4"))
    )


def stream(root_seed: int, name: str, *indices: int) -> np.random.Generator:
    """Return the generator that belongs to (root seed, name, indices): a pure function of them.

    Streams of different names or indices are independent, so training seeds, data seeds and start states never
    share numbers, and update 1,000 draws the same batch whether or not the run was interrupted before it.
    """
    return np.random.Generator(np.random.PCG64(_sequence(root_seed, name, indices)))


def derive_seed(root_seed: int, name: str, *indices: int) -> int:
    """Return a 63-bit seed for (root seed, name, indices), for libraries that take an integer."""
    return int(_sequence(root_seed, name, indices).generate_state(1, np.uint64)[0] >> 1)


def derive_seeds(root_seed: int, name: str, count: int) -> list[int]:
    """Return `count` distinct 31-bit seeds, fewer of them the first of more; Gymnasium's `reset(seed=...)` takes them.

    The first `DRAWN_AT_ONCE` come from one draw without replacement, which for another size has other numbers; those
    behind them one by one from a stream of their own, what is there already left out.
    """
    drawn = stream(root_seed, name).choice(2**31 - 1, size=DRAWN_AT_ONCE, replace=False)
    seeds = dict.fromkeys(map(int, drawn))
    more = stream(root_seed, name, 1)
    while len(seeds) < count:
        seeds[int(more.integers(2**31 - 1))] = None
    return list(seeds)[:count]
