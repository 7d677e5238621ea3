"""One step of dynamic programming on Pendulum-v1: from the best return of k timesteps to that of k + 1, on a grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32

from foretell.environments.pendulum import (
    GRAVITY,
    LENGTH,
    MASS,
    MAX_SPEED,
    MAX_TORQUE,
    STEP_SECONDS,
    TORQUE_COST,
    VELOCITY_COST,
    normalized,
)

GRAVITY_PUSH = 3 * GRAVITY / (2 * LENGTH) * STEP_SECONDS
"""What gravity adds to the velocity in one timestep where the sine of the angle is 1, radians per second."""
TORQUE_PUSH = 3.0 / (MASS * LENGTH**2) * STEP_SECONDS
"""What a torque of 1 newton metre adds to the velocity in one timestep, radians per second."""
ROWS_TOGETHER = 64
"""Rows of a table whose maximum over torques is taken at once, so that they stay in the processor's cache."""


@dataclass(frozen=True, kw_only=True)
class PendulumGrid:
    """Nodes of a value table: angles over the circle, 0 (upright) first, and velocities from 0 up.

    Negative velocities are left out: turning the signs of angle, velocity and torque changes neither dynamics nor
    rewards. Velocities lie as far apart as the torques tried push them apart, and go a little beyond the speed limit
    of 8, where no pendulum is, so that interpolation at the limit has neighbours on both sides.
    """

    angles: int
    torques: int

    @property
    def angle_step(self) -> float:
        """Distance of neighbouring angles, radians."""
        return 2 * np.pi / self.angles

    @property
    def velocity_step(self) -> float:
        """Distance of neighbouring velocities, radians per second."""
        return TORQUE_PUSH * 2 * MAX_TORQUE / (self.torques - 1)

    @property
    def rows(self) -> int:
        """Number of velocities."""
        return int(MAX_SPEED / self.velocity_step) + 4

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of a value table: (velocities, angles)."""
        return self.rows, self.angles


class Backup:
    r"""The Bellman equation without discount, on a grid.

    $V_{k+1}(\theta, v) = -\theta^2 - 0.1 v^2 + \max_u [W_k(\theta, v + 0.75 \sin\theta + 0.15 u) - 0.001 u^2]$, where
    $W_k(\theta, w) = V_k(\theta + 0.05 w, w)$ is what remains once the velocity has become w, in [-8, 8]. So no step
    interpolates in more than one direction: W along the angle, by a shift that is the same for a whole row, then the
    argument of the maximum along the velocity; after that, every torque leads from node to node.
    """

    def __init__(self, grid: PendulumGrid):
        self.grid = grid
        angles = grid.angle_step * np.arange(grid.angles)
        velocities = grid.velocity_step * np.arange(grid.rows)
        squares = (normalized(angles) ** 2)[None] + VELOCITY_COST * (velocities**2)[:, None]
        self._rewards = (-squares).astype(np.float32)
        self._torque_costs = TORQUE_COST * np.linspace(-MAX_TORQUE, MAX_TORQUE, grid.torques, dtype=np.float32) ** 2

        shift = STEP_SECONDS * velocities / grid.angle_step
        whole = np.floor(shift).astype(int)
        self._angle_fraction = (shift - whole)[:, None].astype(np.float32)
        columns = (np.arange(grid.angles + 3) + whole[:, None] - 1) % grid.angles
        self._angle_take = columns + grid.angles * np.arange(grid.rows)[:, None]

        half = grid.torques // 2
        reached = grid.velocity_step * np.arange(-half, grid.rows + half)[:, None] + GRAVITY_PUSH * np.sin(angles)
        position = np.minimum(reached, MAX_SPEED) / grid.velocity_step
        whole = np.floor(position).astype(int)
        self._below = 1 - int(whole.min())  # rows of negative velocity that the interpolation asks for
        self._velocity_fraction = (position - whole).astype(np.float32)
        self._velocity_take = (whole - 1 + self._below) * grid.angles + np.arange(grid.angles)
        self._mirrored = -np.arange(grid.angles) % grid.angles

    def __call__(self, table: Float32[np.ndarray, "velocities angles"]) -> Float32[np.ndarray, "velocities angles"]:
        """Return the table of one more timestep; reward units."""
        rows, width = self.grid.shape
        near = table.ravel().take(self._angle_take)
        moved = interpolate(near[:, :-3], near[:, 1:-2], near[:, 2:-1], near[:, 3:], self._angle_fraction)
        moved = np.concatenate([moved[self._below : 0 : -1, self._mirrored], moved]).ravel()
        taps = [moved[tap * width :].take(self._velocity_take) for tap in range(4)]
        remaining = interpolate(taps[0], taps[1], taps[2], taps[3], self._velocity_fraction)
        best = np.full(self.grid.shape, -np.inf, np.float32)
        for first in range(0, rows, ROWS_TOGETHER):
            block = best[first : first + ROWS_TOGETHER]
            for torque, cost in enumerate(self._torque_costs, first):
                np.maximum(block, remaining[torque : torque + len(block)] - cost, out=block)
        return best + self._rewards


def interpolate(
    before: Float[np.ndarray, "*shape"],
    left: Float[np.ndarray, "*shape"],
    right: Float[np.ndarray, "*shape"],
    after: Float[np.ndarray, "*shape"],
    fraction: Float[np.ndarray, "*#shape"],
) -> Float[np.ndarray, "*shape"]:
    """Interpolate between `left` and `right` (`fraction` 0 and 1), without overshooting at kinks.

    A straight line, bent by the smaller of the second differences around `left` and `right`, and not at all where
    they differ in sign: essentially non-oscillatory interpolation of second order (Harten et al. 1987). Exact for
    quadratics. A cubic would overshoot where two ways up are equally good, and the maximum over torques would feed
    on what it made up, step after step.

    >>> interpolate(*np.array([[1.0], [0.0], [1.0], [4.0]]), fraction=np.array([0.5]))
    array([0.25])
    """
    first, second = before - 2 * left + right, left - 2 * right + after
    bend = np.maximum(np.minimum(first, second), 0) + np.minimum(np.maximum(first, second), 0)
    return left + fraction * ((right - left) - (1 - fraction) / 2 * bend)
