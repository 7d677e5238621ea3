"""The best that Pendulum-v1 allows: value tables by backward dynamic programming, and a policy that acts on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32

from foretell.agents.pendulum_backup import (
    GRAVITY_PUSH,
    TORQUE_COST,
    TORQUE_PUSH,
    Backup,
    PendulumGrid,
    interpolate,
)
from foretell.core.errors import UsageError
from foretell.core.progress import Progress, silent
from foretell.core.settings import check_not_negative, check_settings
from foretell.core.stepping import Actions, Rewards, TargetReturn, Where, checked_numbers, checked_where, untold_count
from foretell.environments.pendulum import HORIZON, MAX_SPEED, MAX_TORQUE, STEP_SECONDS, VELOCITY_COST


@dataclass(frozen=True, kw_only=True)
class OptimumConfig:
    """How finely the optimum of Pendulum-v1 is computed; `docs/optimum.md` has the error of each choice."""

    angles: int = 1_400
    """Angles of the grid, over the circle; an even number, so that hanging is one of them as upright is."""
    torques: int = 41
    """Torques tried at every node, from -2 to 2; an odd number, so that 0 is one of them.
    Velocities lie 0.6 / (torques - 1) radians per second apart."""
    acting_torques: int = 161
    """Torques compared when acting; an odd number."""
    tolerance: float = 1e-4
    """Once no node changes by more with one more timestep, reward units, the tables count as stationary."""

    def __post_init__(self) -> None:
        check_settings(self)
        if self.angles < 8 or self.angles % 2:
            raise UsageError(f"angles is {self.angles}; expected an even number of 8 or more.")
        for name in ("torques", "acting_torques"):
            if getattr(self, name) < 3 or not getattr(self, name) % 2:
                raise UsageError(f"{name} is {getattr(self, name)}; expected an odd number of 3 or more.")
        check_not_negative(self, "tolerance")


class PendulumOptimum:
    """Value tables of Pendulum-v1, and the best torque in any state by looking one timestep ahead with them.

    `tables[k][j, i]` is the largest sum of rewards over the last k timesteps, without discount, from angle
    `i * grid.angle_step` and velocity `j * grid.velocity_step`. The last table stands for all larger k too.
    """

    def __init__(self, config: OptimumConfig, tables: Sequence[Float32[np.ndarray, "velocities angles"]]):
        self.config, self.grid = config, grid_of(config)
        self.tables = tuple(tables)

    def best(
        self, observations: Float[np.ndarray, "batch 3"], timesteps: int
    ) -> tuple[Float[np.ndarray, " batch"], Float[np.ndarray, " batch"]]:
        """Return the best torque with `timesteps` left (1 to 200), this one included, and the return it earns.

        Observations are (cos, sin, velocity). Torques in newton metres, returns in reward units. Raises `UsageError`
        for other numbers of timesteps.
        """
        if not 1 <= timesteps <= HORIZON:
            raise UsageError(f"{timesteps} timesteps left; expected 1 to {HORIZON}.")
        cosine, sine, velocity = observations.astype(float).T
        angle = np.arctan2(sine, cosine)
        torques = np.linspace(-MAX_TORQUE, MAX_TORQUE, self.config.acting_torques)
        reached = (velocity + GRAVITY_PUSH * sine)[:, None] + TORQUE_PUSH * torques
        table = self.tables[min(timesteps, len(self.tables)) - 1]
        remaining = self._remaining(table, angle, np.clip(reached, -MAX_SPEED, MAX_SPEED))
        earned = remaining - TORQUE_COST * torques**2
        rewards = -(angle**2) - VELOCITY_COST * velocity**2
        return torques[earned.argmax(1)], earned.max(1) + rewards

    def returns(self, observations: Float[np.ndarray, "batch 3"], timesteps: int = HORIZON) -> np.ndarray:
        """Return the largest sum of rewards over the last `timesteps` timesteps, `(batch,)`; reward units."""
        return self.best(observations, timesteps)[1]

    def _remaining(
        self,
        table: Float32[np.ndarray, "velocities angles"],
        angle: Float[np.ndarray, " batch"],
        velocity: Float[np.ndarray, "batch torques"],
    ) -> Float[np.ndarray, "batch torques"]:
        """What remains to be earned from `angle` once the velocity has become `velocity` (W of `Backup`).

        Only the rows of the table that some torque reaches are looked at: first along the angle, then between rows.
        """
        position = velocity / self.grid.velocity_step
        row = np.floor(position).astype(int)
        lowest = row[:, :1] - 1
        rows = np.minimum(lowest + np.arange(int((row[:, -1:] - lowest).max()) + 3), self.grid.rows - 1)
        shifted = (angle[:, None] + STEP_SECONDS * self.grid.velocity_step * rows) / self.grid.angle_step
        column = np.floor(shifted).astype(int)
        taps = [_at(table, rows, column + tap).astype(float) for tap in (-1, 0, 1, 2)]
        lines = interpolate(taps[0], taps[1], taps[2], taps[3], shifted - column)
        taps = [np.take_along_axis(lines, row - lowest + tap, 1) for tap in (-1, 0, 1, 2)]
        return interpolate(taps[0], taps[1], taps[2], taps[3], position - row)


class OptimumPolicy:
    """Acts on the tables: no policy earns more than it from the same start, but for what the grid blurs.

    It counts the timesteps since `reset`, for what is best depends on how many are left. Deterministic.
    """

    def __init__(self, optimum: PendulumOptimum):
        self.optimum, self._elapsed = optimum, np.zeros(0, np.int64)

    def reset(self, num_envs: int, target_return: TargetReturn = None, where: Where | None = None) -> None:
        """Start new episodes at timestep 0. Raises `UsageError` for no environments, or a target: it takes none."""
        count = untold_count(num_envs, target_return, where)
        begins = checked_where(where, count, len(self._elapsed))
        if where is None:
            self._elapsed = np.zeros(count, np.int64)
        self._elapsed[begins] = 0

    def act(self, observations: np.ndarray) -> Float32[np.ndarray, "batch 1"]:
        """Return the best torque for each environment, newton metres.

        Raises `UsageError` for observations of another task and past the last timestep, `DatasetError` for some that
        are not finite.
        """
        observations = checked_numbers("cosine, sine and velocity", observations, (3,), len(self._elapsed))
        if self._elapsed.max() >= HORIZON:
            raise UsageError(f"timestep {self._elapsed.max()} of {HORIZON}; call reset at the end of each episode.")
        torques = np.empty(len(observations), np.float32)
        for elapsed in np.unique(self._elapsed):
            alike = self._elapsed == elapsed
            torques[alike] = self.optimum.best(observations[alike], HORIZON - int(elapsed))[0]
        self._elapsed += 1
        return torques[:, None]

    def observe(self, rewards: Rewards, actions: Actions = None) -> None:
        """Nothing to do."""


def pendulum_optimum(config: OptimumConfig | None = None, progress: Progress = silent) -> PendulumOptimum:
    """Compute the value tables backwards from the end of the episode, until they change no more.

    `progress` hears of every timestep and the largest `change` that it made, reward units. The tables of the default
    grid take about half a gigabyte.
    """
    config = config or OptimumConfig()
    grid = grid_of(config)
    backup, tables = Backup(grid), [np.zeros(grid.shape, np.float32)]
    for done in range(1, HORIZON):  # the first action of an episode has HORIZON - 1 timesteps after it
        tables.append(backup(tables[-1]))
        change = float(np.abs(tables[-1] - tables[-2]).max())
        stationary = change <= config.tolerance
        progress(HORIZON - 1 if stationary else done, HORIZON - 1, change=change)
        if stationary:
            break
    return PendulumOptimum(config, tables)


def grid_of(config: OptimumConfig) -> PendulumGrid:
    """Return the nodes that the settings ask for."""
    return PendulumGrid(angles=config.angles, torques=config.torques)


def _at(table: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Look nodes up by velocity and angle number, any sign: those of negative velocity are the mirrored ones."""
    return table[np.abs(rows), np.where(rows < 0, -columns, columns) % table.shape[1]]
