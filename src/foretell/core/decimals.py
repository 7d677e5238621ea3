"""How numbers are written: with one decimal, and more where they are small; very large ones as 1.0e12; counts with what
is counted."""

from __future__ import annotations

import math

MOST = 12
"""Smaller numbers are shown as 0."""
LARGE = 1e7
"""From here on a number is written with its power of ten."""


def decimals_of(*numbers: float | None) -> int:
    """Return decimals that leave two digits of the largest of these that stand beside each other; one from 1 on.

    >>> decimals_of(-1253.72), decimals_of(0.04, 0.0), decimals_of(0.5), decimals_of(0.0)
    (1, 3, 2, 1)
    """
    largest = max((abs(number) for number in numbers if number is not None), default=0.0)
    if not 0 < largest < 1:
        return 1
    return min(MOST, 1 - math.floor(math.log10(largest)))


def decimals_between(low: float | None, high: float | None) -> int:
    """Return decimals that show numbers from `low` to `high`, and how far these are apart.

    >>> decimals_between(-1600.0, -100.0), decimals_between(1000.0, 1000.004), decimals_between(7.0, 7.0)
    (1, 4, 1)
    """
    apart = None if low is None or high is None else high - low
    return max(decimals_of(low, high), decimals_of(apart))


def shown(number: float, *beside: float | None) -> str:
    """Return a number with the decimals that it and those `beside` it need.

    >>> shown(-1253.72), shown(0.04, 0.001), shown(0.001, 0.04)
    ('-1253.7', '0.040', '0.001')
    """
    return f"{number:.{decimals_of(number, *beside)}f}"


def written(decimals: int, number: float, *beside: float, sign: str = "") -> str:
    """Return a number with so many decimals; as 1.0e12 where it, or one `beside` it, is large, with the digits that
    tell these apart. A `sign` of + is written before positive numbers too.

    >>> written(1, -1253.72), written(2, 3.0, sign="+"), written(1, 1e12, 1.1e12), written(1, 1.2e8, 1.2e8, 120000800.0)
    ('-1253.7', '+3.00', '1.00e12', '1.2000000e8')
    """
    largest = max(map(abs, (number, *beside)))
    if largest < LARGE:
        return f"{number:{sign}.{decimals}f}"
    apart = max(number, *beside) - min(number, *beside) if beside else 0.0
    digits = 1 if apart == 0 else max(1, 1 + math.floor(math.log10(largest)) - math.floor(math.log10(apart)))
    mantissa, _, power = f"{number:{sign}.{min(MOST, digits)}e}".partition("e")
    return f"{mantissa}e{int(power)}"


def counted(number: int, thing: str) -> str:
    """Return so many things.

    >>> counted(1, "start state"), counted(2_000, "start state")
    ('1 start state', '2,000 start states')
    """
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
