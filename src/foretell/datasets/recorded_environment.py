"""Whether an id stands for the environment that data were recorded in."""

from __future__ import annotations

import json
from typing import Any

from foretell.datasets.dataset import Dataset
from foretell.environments.instead import maker_defaults
from foretell.environments.keywords import LOOKS, named
from foretell.environments.making import EnvironmentSpec

HARMLESS = (
    "RecordEpisodeStatistics",
    "RecordVideo",
    "OrderEnforcing",
    "PassiveEnvChecker",
    "HumanRendering",
    "FlattenedObservations",
    "FlattenedActions",
    "stable_baselines3.common.monitor:Monitor",
)
"""Wrappers that change neither observations nor rewards nor when an episode ends; the two of Foretell's are done
anyway. A name that anybody may have taken stands with its module."""
_NOTHING = object()


def changes_of_environment(spec: Any) -> tuple[str, ...]:
    """Say what the recording's environment was made with that its id, where it is known, does not stand for here.

    `spec` is Gymnasium's `EnvSpec` of the recording, as it was stored: lists stand for tuples.
    """
    import gymnasium

    if spec is None or (registered := gymnasium.registry.get(spec.id)) is None:
        return ()
    return _changes(spec, registered)


def registered_alike(spec: Any) -> str | None:
    """Return the first id registered here, by its letters, that stands for the recording's environment: with the same
    entry point, keywords and time limit. None where there is none.

    Of LunarLander-v3 with `continuous=True` it is LunarLanderContinuous-v3.
    """
    import gymnasium

    for name, registered in sorted(gymnasium.registry.items()):
        same = isinstance(spec.entry_point, str) and registered.entry_point == spec.entry_point
        if same and not registered.additional_wrappers and not _changes(spec, registered):
            there, usual = _stored(spec.kwargs), _defaults(registered)
            wanted = {key: value for key, value in _stored(registered.kwargs).items() if key not in LOOKS}
            if all(there.get(key, usual.get(key, _NOTHING)) == value for key, value in wanted.items()):
                return name
    return None


def with_keywords(spec: Any) -> str | None:
    """Return the name that says with which keywords a recording's environment was made; None where none does."""
    import gymnasium

    registered = gymnasium.registry[spec.id]
    return None if _wrappers(spec) else named(spec.id, _given(spec, registered))


def _changes(spec: Any, registered: Any) -> tuple[str, ...]:
    given = _given(spec, registered)
    return (*(f"{name}={value!r:.60}" for name, value in given.items()), *_wrappers(spec))


def _wrappers(spec: Any) -> list[str]:
    made = spec.additional_wrappers
    return [f"the wrapper {one.name}" for one in made if not {one.name, one.entry_point} & set(HARMLESS)]


def _given(spec: Any, registered: Any) -> dict[str, Any]:
    """Return the keywords that are others than those that the id stands for."""
    there, here = _stored(spec.kwargs), _stored(registered.kwargs)
    given = {name: value for name, value in there.items() if name not in LOOKS and here.get(name, _NOTHING) != value}
    usual = _defaults(registered) if given else {}
    given = {name: value for name, value in given.items() if name in here or usual.get(name, _NOTHING) != value}
    if spec.max_episode_steps != registered.max_episode_steps:
        given["max_episode_steps"] = spec.max_episode_steps or -1  # Gymnasium's word for none: null is the id's own
    return given


def _stored(values: dict[str, Any]) -> dict[str, Any]:
    """Return keywords as JSON has them; what it has no form for, as text."""
    return json.loads(json.dumps(values, default=str))


def _defaults(registered: Any) -> dict[str, Any]:
    return _stored(maker_defaults(registered))


def spec_of_data(data: Dataset) -> EnvironmentSpec:
    """Return what the data show of an environment that nobody names or can make."""
    low = high = None
    if not data.discrete:
        low, high = tuple(map(float, data.actions.min(axis=0))), tuple(map(float, data.actions.max(axis=0)))
    return EnvironmentSpec(
        name="", observation_shape=data.observation_shape, action_dim=data.action_dim, action_low=low,
        action_high=high, num_actions=data.num_actions, horizon=None,
    )  # fmt: skip
