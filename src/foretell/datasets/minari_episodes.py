"""Episodes of Minari as columns under D4RL's keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from foretell.core.decimals import counted
from foretell.core.errors import DatasetError, UsageError
from foretell.datasets.columns import as_flags
from foretell.environments.action_flattening import MOST_COMBINATIONS, ActionParts
from foretell.environments.flattening import described, flattened, is_array


@dataclass(frozen=True, kw_only=True)
class Notes:
    """What had to be assumed of episodes with observations of `space`: which were left open, which infos left out.

    `actions` are the parts of actions that are not as models learn them; None where they are, or cannot be made so.
    """

    space: Any
    actions: ActionParts | None
    opened: list[int] = field(default_factory=list)
    dropped: dict[str, None] = field(default_factory=dict)

    def sentences(self) -> tuple[str, ...]:
        """Return one sentence for each thing that was assumed."""
        said = []
        if self.opened:
            said.append(f"{counted(len(self.opened), 'episode')} {'is' if len(self.opened) == 1 else 'are'} left open "
                        f"(first: episode {self.opened[0]}), kept and flagged as truncated.")  # fmt: skip
        if self.dropped:
            names = ", ".join(map(repr, list(self.dropped)[:3]))
            said.append(f"infos that are not numbers, one row a timestep, are left out: {names:.200}.")
        if not is_array(self.space):
            said.append(f"observations are one array of {described(self.space):.300}.")
        if self.actions is not None:
            said.append(f"an action is {self.actions.described():.300}.")
        return tuple(said)


def episode_columns(episode: Any, dataset_id: str, notes: Notes) -> dict[str, np.ndarray]:
    """Return columns under D4RL's keys. Infos with a row more than actions belong to observations; the last is left.

    Raises `DatasetError` where actions cannot be one array, lengths disagree, or anything is not of its space.
    """
    actions = _actions(episode, notes.actions, dataset_id)
    steps = len(actions)
    observations = _observations(episode, notes.space, steps, dataset_id)
    if steps == 0 or len(observations) != steps + 1:
        raise DatasetError(
            f"minari:{dataset_id}: episode {episode.id} has {counted(len(observations), 'observation')} for "
            f"{counted(steps, 'action')}; "
            "expected one more observation than actions, and at least one action."
        )
    for key in ("rewards", "terminations", "truncations"):
        if len(getattr(episode, key)) != steps:
            raise DatasetError(
                f"minari:{dataset_id}: episode {episode.id} has {len(getattr(episode, key)):,} {key} for "
                f"{counted(steps, 'action')}; expected one for each. Write the dataset again from its source."
            )
    infos = {}
    for name, values in _flatten(episode.infos or {}, ""):
        if isinstance(values, np.ndarray) and values.dtype.kind in "fiub" and len(values) in (steps, steps + 1):
            infos[f"infos/{name}"] = values[:steps]
        else:
            notes.dropped[name] = None
    return {
        "observations": observations[:-1], "next_observations": observations[1:], "actions": actions,
        "rewards": episode.rewards, "terminals": episode.terminations,
        "timeouts": _closed(episode, f"minari:{dataset_id}: episode {episode.id}: 'truncations'", notes), **infos,
    }  # fmt: skip


def _actions(episode: Any, parts: ActionParts | None, dataset_id: str) -> np.ndarray:
    if parts is None:
        if not isinstance(episode.actions, np.ndarray):
            raise DatasetError(
                f"minari:{dataset_id}: actions {type(episode.actions).__name__}; expected one array, or choices of at "
                f"most {MOST_COMBINATIONS:,} combinations, or numbers within bounds. Flatten the space when recording."
            )
        return episode.actions
    try:
        return parts.flattened(episode.actions)
    except UsageError as error:
        raise DatasetError(f"minari:{dataset_id}: episode {episode.id}: {error}") from None


def _observations(episode: Any, space: Any, steps: int, dataset_id: str) -> np.ndarray:
    if is_array(space):
        return episode.observations
    try:
        return flattened(space, episode.observations, rows=steps + 1)
    except UsageError as error:
        raise DatasetError(f"minari:{dataset_id}: episode {episode.id}: {error}") from None


def _closed(episode: Any, where: str, notes: Notes) -> np.ndarray:
    """Truncations of which the last is True where nothing else ends the episode."""
    truncations = np.array(as_flags(np.asarray(episode.truncations), where))
    if not (truncations[-1] or episode.terminations[-1]):
        truncations[-1] = True
        notes.opened.append(int(episode.id))
    return truncations


def _flatten(infos: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, values in infos.items():
        if isinstance(values, Mapping):
            yield from _flatten(values, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", values
