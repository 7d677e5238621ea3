"""Numbers as they are written in figures and beside axes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.ticker import Formatter

from foretell.core.decimals import LARGE, decimals_of, written


def format_return(value: float, digits: int | None = None, *beside: float) -> str:
    """Return a return as it is written in figures: a true minus sign, one digit after the point, of small ones more; of
    large ones what tells them from those `beside` them.

    >>> format_return(-1228.31), format_return(0.042), format_return(1.0, 3), format_return(-1e12)
    ('−1,228.3', '0.042', '1.000', '−1.0e12')
    """
    digits = decimals_of(value) if digits is None else digits
    large = max(map(abs, (value, *beside))) >= LARGE
    return (written(digits, value, *beside) if large else f"{value:,.{digits}f}").replace("-", "−")


def format_tick(value: float) -> str:
    """Return a number by itself as it is written beside an axis, whole where it is not small.

    >>> format_tick(-1250.4), format_tick(0.25), format_tick(3.0), format_tick(1e12)
    ('−1,250', '0.25', '3', '1.0e12')
    """
    if abs(value) >= LARGE:
        return format_return(value)
    return (f"{value:,.0f}" if abs(value) >= 10 else f"{value:g}").replace("-", "−")


class ReturnTicks(Formatter):
    """Ticks of returns: all of an axis with as many digits, as few as they need.

    >>> ReturnTicks().format_ticks([-83.0, -82.5, -82.0]), ReturnTicks().format_ticks([0.0, 5.0, 1250.0])
    (['−83.0', '−82.5', '−82.0'], ['0', '5', '1,250'])
    """

    def __call__(self, value: float, pos: int | None = None) -> str:
        """Return the label of one tick by itself."""
        return format_tick(value)

    def format_ticks(self, values: Sequence[float]) -> list[str]:
        """Return the labels of all ticks of an axis."""
        largest = max(map(abs, values), default=0.0)
        if largest >= LARGE:
            power = int(np.floor(np.log10(largest)))
            digits = max(1, _digits([value / 10**power for value in values]))
            return [_with_power(value, digits, power) for value in values]
        digits = _digits(values)
        return [f"{value + 0.0:,.{digits}f}".replace("-", "−") for value in values]


def _with_power(value: float, digits: int, power: int) -> str:
    return "0" if value == 0 else f"{value / 10**power:.{digits}f}e{power}".replace("-", "−")


def _digits(values: Sequence[float]) -> int:
    """Return the fewest decimals that leave all values where they are, as far as they are apart."""
    apart = min(np.diff(sorted({float(value) for value in values})), default=1.0)
    few = (digits for digits in range(9) if all(abs(round(value, digits) - value) < 1e-3 * apart for value in values))
    return next(few, 9)
