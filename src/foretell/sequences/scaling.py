"""Between the environment's units and the networks' units."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float

from foretell.core.errors import UsageError
from foretell.core.settings import number


@dataclass(frozen=True, kw_only=True)
class ActionRange:
    """The environment's action bounds; networks see and produce actions in [-1, 1].

    An unscaled tanh head on Pendulum, whose torque is in [-2, 2], can use half of it and no more.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]

    def __post_init__(self) -> None:
        """Raise `UsageError` where the bounds are no numbers, not as many of one as of the other, or the wrong way
        round; NumPy's become Python's."""
        for name in ("low", "high"):
            given = getattr(self, name)
            try:
                numbers = given.tolist() if hasattr(given, "tolist") else list(given)  # of NumPy's and PyTorch's
                numbers = None if isinstance(given, str) else [number(f"action range: {name}", one) for one in numbers]
            except TypeError:
                numbers = None
            if numbers is None:
                raise UsageError(f"action range: {name} is {given!r:.100}; expected a number for each component.")
            object.__setattr__(self, name, tuple(numbers))
        if len(self.low) != len(self.high):
            raise UsageError(f"action range: low {self.low} and high {self.high}; expected as many numbers in both.")
        if not all(low <= high for low, high in zip(self.low, self.high, strict=True)):  # nor of NaN
            raise UsageError(f"action range: low {self.low} and high {self.high}; expected no low above its high.")

    def to_unit(self, actions: Float[np.ndarray, "*batch action_dim"]) -> Float[np.ndarray, "*batch action_dim"]:
        """Environment units to [-1, 1], float32.

        >>> ActionRange(low=(-2.0,), high=(2.0,)).to_unit(np.array([[1.0]]))
        array([[0.5]], dtype=float32)
        """
        return ((actions - self._limits[0]) * self._to_unit - 1).astype(np.float32, copy=False)

    def to_environment(self, actions: Float[np.ndarray, "*batch action_dim"]) -> Float[np.ndarray, "*batch action_dim"]:
        """[-1, 1] to environment units, clipped to the bounds, float32.

        >>> ActionRange(low=(-2.0,), high=(2.0,)).to_environment(np.array([[0.5], [7.0]]))
        array([[1.],
               [2.]], dtype=float32)
        """
        low, high = self._limits
        actions = (actions + 1) * self._half_width + low
        return np.minimum(np.maximum(actions, low), high).astype(np.float32, copy=False)

    @cached_property
    def _limits(self) -> tuple[Float[np.ndarray, " action_dim"], Float[np.ndarray, " action_dim"]]:
        """The outermost float32 within the bounds; the nearest ones where none lies within."""
        low, high = np.asarray(self.low, np.float32), np.asarray(self.high, np.float32)
        inner_low = np.where(low < np.asarray(self.low), np.nextafter(low, np.float32(np.inf)), low)
        inner_high = np.where(high > np.asarray(self.high), np.nextafter(high, np.float32(-np.inf)), high)
        within = inner_low <= inner_high
        return np.where(within, inner_low, low), np.where(within, inner_high, high)

    @cached_property
    def _half_width(self) -> Float[np.ndarray, " action_dim"]:
        low, high = self._limits
        return (high - low) / 2

    @cached_property
    def _to_unit(self) -> Float[np.ndarray, " action_dim"]:
        low, high = self._limits
        return 2 / np.where(high > low, high - low, 1.0)  # a component that never changes is -1

    def log_volume(self) -> float:
        """Log of the volume ratio of environment units to [-1, 1], to turn one log-density into the other; a
        component of one value alone has no part in it."""
        return self._log_volume

    @cached_property
    def _log_volume(self) -> float:
        widths = np.asarray(self.high) - np.asarray(self.low)
        return float(np.sum(np.log(widths[widths > 0] / 2)))
