"""`Episode`: one recorded episode, frozen, checked once when it is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from foretell.core.decimals import counted, shown
from foretell.core.errors import DatasetError
from foretell.core.numbers import as_array


@dataclass(frozen=True, kw_only=True, eq=False)
class Episode:
    """T actions and rewards, and the T + 1 observations around them.

    Exactly the last timestep ends the episode: by a termination (the task's own end, after which nothing can be
    earned) or by a truncation (time ran out, or the recording stopped; more could have been earned).

    Shapes: observations `(T+1, *observation_shape)`; actions `(T, action_dim)` float32, or `(T,)` integers for
    discrete actions; rewards, terminations, truncations `(T,)`; each array of `infos` `(T, ...)`.
    Units are the environment's own.

    Raises `DatasetError` where lengths disagree, a value is not finite, a flag neither 0 nor 1, or the end is missing
    or in the middle.
    """

    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    terminations: np.ndarray
    truncations: np.ndarray
    infos: Mapping[str, np.ndarray] = field(default_factory=dict)
    final_observation_known: bool = True
    """False where a file kept no final observation: `observations[-1]` then repeats the one before."""

    def __post_init__(self) -> None:
        for name in ("observations", "actions", "rewards", "terminations", "truncations"):
            object.__setattr__(self, name, _as_numbers(getattr(self, name), f"episode's {name}"))
        if not isinstance(self.infos, Mapping):
            raise DatasetError(f"episode has infos {self.infos!r:.100}; expected arrays by name. Leave it out.")
        infos = {
            name: np.asarray(as_array(values, f"episode's infos[{name!r}]")) for name, values in self.infos.items()
        }
        object.__setattr__(self, "infos", infos)
        steps = len(self.actions) if self.actions.ndim else 0
        if steps == 0:
            raise DatasetError("episode has 0 timesteps; expected at least 1. Drop empty episodes when recording.")
        if self.observations.ndim < 2:
            raise DatasetError(
                f"episode has observations of shape {self.observations.shape}; expected (timesteps + 1, ...) with at "
                "least one number an observation. Write numbered ones as one-hot vectors, as "
                "foretell.FlattenedObservations(env) does."
            )
        if len(self.observations) != steps + 1:
            raise DatasetError(
                f"episode has {counted(len(self.observations), 'observation')} for {counted(steps, 'action')}; "
                f"expected {steps + 1:,}. Was the final observation dropped?"
            )
        per_step = {"rewards": self.rewards, "terminations": self.terminations, "truncations": self.truncations}
        for name, values in per_step.items():
            if values.shape != (steps,):
                raise DatasetError(f"episode has {name} of shape {values.shape}; expected ({steps},), one per action.")
        for name, values in self.infos.items():
            if values.ndim == 0 or len(values) != steps:
                length = len(values) if values.ndim else "none"
                raise DatasetError(f"episode has infos[{name!r}] of length {length}; expected {steps}.")
        for name in ("observations", "actions", "rewards"):
            check_finite(getattr(self, name), f"episode's {name}")
        for name in ("terminations", "truncations"):
            _check_flags(getattr(self, name), name)
        ends = np.asarray(self.terminations, bool) | np.asarray(self.truncations, bool)
        if ends[:-1].any():
            raise DatasetError(
                f"episode ends at timestep {int(np.argmax(ends))} but has {steps} timesteps; expected the only "
                "termination or truncation at the last one. Split it there."
            )
        if not ends[-1]:
            raise DatasetError(
                "episode's last timestep is neither a termination nor a truncation; expected one of them. "
                "If the recording stopped there, set truncations[-1] = True."
            )

    def __len__(self) -> int:
        return len(self.actions)

    @property
    def terminated(self) -> bool:
        """Whether the task itself ended the episode (no value beyond its end)."""
        return bool(self.terminations[-1])

    @property
    def total_reward(self) -> float:
        """Undiscounted return of the whole episode, summed in float64."""
        return float(np.sum(self.rewards, dtype=np.float64))

    def __repr__(self) -> str:
        end = "terminated" if self.terminated else "truncated"
        return (
            f"Episode({counted(len(self), 'timestep')}, {end}, observations {self.observations.shape} "
            f"{self.observations.dtype}, actions {self.actions.shape} {self.actions.dtype}, "
            f"return {shown(self.total_reward)})"
        )


def _as_numbers(values: object, what: str) -> np.ndarray:
    """Return an array of real numbers. Raises `DatasetError` for anything else, a dictionary of arrays say."""
    found = np.asarray(as_array(values, what))
    if found.dtype.kind not in "fiub":
        kind = type(values).__name__ if found.dtype == object else str(found.dtype)
        raise DatasetError(f"{what} are {kind}; expected an array of real numbers. Flatten or convert when recording.")
    return found


def _check_flags(flags: np.ndarray, name: str) -> None:
    if flags.dtype != bool and (wrong := np.flatnonzero((flags != 0) & (flags != 1))).size:
        raise DatasetError(
            f"episode's {name} holds {flags[wrong[0]]} at timestep {int(wrong[0])}; expected flags, 0 or 1. Were "
            "columns exchanged?"
        )


def check_finite(values: np.ndarray, what: str) -> None:
    """Raise `DatasetError` naming the first index of `values` that is NaN or infinite; integers always pass."""
    if not np.issubdtype(values.dtype, np.floating) or np.isfinite(values).all():
        return
    bad = np.argwhere(~np.isfinite(values))
    found, rows, where = values[tuple(bad[0])], len(np.unique(bad[:, 0])), ""
    if values.ndim == 2 and values.shape[1] > 1:
        numbers = np.unique(bad[:, 1]).tolist()
        where = f", in dimensions {', '.join(map(str, numbers[:8]))}{' and others' if len(numbers) > 8 else ''}"
    raise DatasetError(
        f"{what} holds {found} at timestep {int(bad[0, 0])} ({rows:,} such of {counted(len(values), 'timestep')}"
        f"{where}); expected finite numbers. Fill in what was not measured, with the value before it say, or leave out "
        "those episodes."
    )
