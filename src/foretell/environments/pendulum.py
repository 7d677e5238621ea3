"""Gymnasium's Pendulum-v1, many at once: the same arithmetic on arrays, equal to it up to the last bits of float64."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Float32

MAX_SPEED, MAX_TORQUE, STEP_SECONDS, GRAVITY, MASS, LENGTH = 8.0, 2.0, 0.05, 10.0, 1.0, 1.0
VELOCITY_COST, TORQUE_COST = 0.1, 0.001
"""Weights beside the squared angle, whose weight is 1."""
START_BOUND = np.array([np.pi, 1.0])
HORIZON = 200


class BatchedPendulum:
    """`num_envs` pendulums in one array.

    The state is (angle in radians, angular velocity in radians per second), float64 as in Gymnasium; observations
    are (cos, sin, velocity), float32; torque in [-2, 2] newton metres; 200 timesteps, then a truncation.
    Source: `gymnasium/envs/classic_control/pendulum.py`, whose order of operations and mixture of float32 and
    float64 is kept: states agree to 1e-12 over an episode (NumPy's array and scalar sines differ in the last bit).
    """

    def __init__(self, num_envs: int):
        self.num_envs = num_envs
        self.state = np.zeros((num_envs, 2))
        self.elapsed = 0

    def reset(self, seeds: Sequence[int]) -> Float32[np.ndarray, "num_envs 3"]:
        """Start every pendulum where `gymnasium.make("Pendulum-v1").reset(seed=...)` would; one seed each."""
        drawn = np.array([_drawn(seed) for seed in seeds])
        self.state = (START_BOUND + START_BOUND) * drawn - START_BOUND  # `uniform` of arrays, in a third of the time
        self.elapsed = 0
        return self._observe()

    def step(
        self, actions: Float[np.ndarray, "num_envs 1"]
    ) -> tuple[
        Float32[np.ndarray, "num_envs 3"],
        Float[np.ndarray, " num_envs"],
        Bool[np.ndarray, " num_envs"],
        Bool[np.ndarray, " num_envs"],
    ]:
        """Apply one torque to each; return observations, rewards, terminations, truncations."""
        angle, velocity = self.state[:, 0], self.state[:, 1]
        torque = _clip(actions[:, 0], MAX_TORQUE)
        costs = normalized(angle) ** 2 + VELOCITY_COST * velocity**2 + TORQUE_COST * (torque**2)
        acceleration = 3 * GRAVITY / (2 * LENGTH) * np.sin(angle) + 3.0 / (MASS * LENGTH**2) * torque
        velocity = _clip(velocity + acceleration * STEP_SECONDS, MAX_SPEED)
        self.state = np.empty_like(self.state)
        self.state[:, 0], self.state[:, 1] = angle + velocity * STEP_SECONDS, velocity
        self.elapsed += 1
        ended = np.full(self.num_envs, self.elapsed >= HORIZON)
        return self._observe(), -costs, np.zeros(self.num_envs, bool), ended

    def simulator_state(self) -> dict[str, np.ndarray]:
        """Angles and angular velocities, `(num_envs, 1)` each, under MuJoCo's names."""
        return {"qpos": self.state[:, :1].astype(np.float32), "qvel": self.state[:, 1:].astype(np.float32)}

    def close(self) -> None:
        """Nothing: it is arrays alone."""

    def _observe(self) -> Float32[np.ndarray, "num_envs 3"]:
        angle, velocity = self.state[:, 0], self.state[:, 1]
        observations = np.empty((self.num_envs, 3), np.float32)
        observations[:, 0], observations[:, 1], observations[:, 2] = np.cos(angle), np.sin(angle), velocity
        return observations


def _drawn(seed: int) -> np.ndarray:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed))).random(2)


def _clip(values: np.ndarray, bound: float) -> np.ndarray:
    return np.minimum(np.maximum(values, -bound), bound)  # np.clip takes three times as long for one environment


def normalized(angle: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Return the same angle in [-pi, pi)."""
    return ((angle + np.pi) % (2 * np.pi)) - np.pi
