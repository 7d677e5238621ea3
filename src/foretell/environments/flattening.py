"""Observations of several parts, or of choices, as one array.

Gymnasium's own rule (`gymnasium.spaces.utils.flatten`), for many timesteps at once: numbers as they lie, choices as
one-hot vectors, parts one behind the other. Parts of a Dict come in the order of their names, also where a space keeps
another one: a recording keeps only names, and must lead to the same array as the environment.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs
from jaxtyping import Float

from foretell.core.errors import UsageError
from foretell.core.numbers import as_float32


def is_array(space: spaces.Space) -> bool:
    """Whether observations of this space are one array already: a Box of at least one dimension."""
    return isinstance(space, spaces.Box) and bool(space.shape)


def parts_of(space: spaces.Space, name: str = "") -> Iterator[tuple[str, int]]:
    """Yield name and size of each part, in order; the name of a space without parts is `name`.

    Raises `UsageError` for a space whose observations have no fixed size (Text, Sequence, Graph, OneOf).
    """
    if isinstance(space, spaces.Dict):
        for key in _names(space):
            yield from parts_of(space[key], f"{name}/{key}" if name else str(key))
    elif isinstance(space, spaces.Tuple):
        for number, one in enumerate(space):
            yield from parts_of(one, f"{name}/{number}" if name else str(number))
    elif isinstance(space, spaces.Discrete):
        yield name, int(space.n)
    elif isinstance(space, spaces.MultiDiscrete):
        yield name, int(space.nvec.sum())
    elif isinstance(space, spaces.Box | spaces.MultiBinary):
        yield name, int(np.prod(space.shape, dtype=int))
    else:
        what = f"the part {name!r} of the observations" if name else "the observation space"
        raise UsageError(
            f"{what} is {space}; expected Box, Discrete, MultiDiscrete, MultiBinary, or a Dict or Tuple of these. Wrap "
            "it to one array first."
        )


def described(space: spaces.Space) -> str:
    """Return name and size of each part, in order: `angle (2), lamp (3)`."""
    return ", ".join(f"{name or type(space).__name__} ({size})" for name, size in parts_of(space))


def flattened(space: spaces.Space, values: Any, rows: int) -> Float[np.ndarray, "rows observation_dim"]:
    """Return `rows` observations of this space as one array of float32.

    `values` are as a batched space has them: an array `(rows, ...)`, or a mapping or sequence of such arrays.

    Raises `UsageError` where a part is missing, or is not of the space.

    >>> space = spaces.Dict({"lamp": spaces.Discrete(3), "angle": spaces.Box(-1, 1, (2,))})
    >>> flattened(space, {"lamp": np.array([1]), "angle": np.array([[0.5, -0.5]])}, rows=1)
    array([[ 0.5, -0.5,  0. ,  1. ,  0. ]], dtype=float32)
    """
    return np.concatenate([as_float32(one) for one in _columns(space, values, rows, "")], axis=1)


def _columns(space: spaces.Space, values: Any, rows: int, name: str) -> Iterator[np.ndarray]:
    if isinstance(space, spaces.Dict):
        if not isinstance(values, Mapping) or set(values) != set(space.spaces):
            found = sorted(map(str, values)) if isinstance(values, Mapping) else type(values).__name__
            raise UsageError(f"{_part(name)} has parts {found}; expected {_names(space)}, as its space.")
        for key in _names(space):
            yield from _columns(space[key], values[key], rows, f"{name}/{key}" if name else str(key))
    elif isinstance(space, spaces.Tuple):
        if not isinstance(values, list | tuple) or len(values) != len(space):
            found = len(values) if isinstance(values, list | tuple) else type(values).__name__
            raise UsageError(f"{_part(name)} has parts {found}; expected {len(space)}, as its space.")
        for number, one in enumerate(space):
            yield from _columns(one, values[number], rows, f"{name}/{number}" if name else str(number))
    elif isinstance(space, spaces.Discrete):
        yield _one_hot(_checked(values, (rows,), name).reshape(rows, 1) - space.start, np.array([space.n]), name)
    elif isinstance(space, spaces.MultiDiscrete):
        first = getattr(space, "start", 0)
        yield _one_hot(
            (_checked(values, (rows, *space.shape), name) - first).reshape(rows, -1), space.nvec.ravel(), name
        )
    else:
        assert isinstance(space, spaces.Box | spaces.MultiBinary)  # parts_of refuses all else
        yield _checked(values, (rows, *space.shape), name).reshape(rows, -1)


def _one_hot(choices: np.ndarray, counts: np.ndarray, name: str) -> np.ndarray:
    """Return one vector of `counts[i]` numbers for each column of choices, one behind the other."""
    outside = (choices < 0) | (choices >= counts) | (choices % 1 != 0)
    if outside.any():
        raise UsageError(
            f"{_part(name)} holds choice {choices[outside][0]} counted from its first; expected whole numbers from 0 "
            f"to {counts.max() - 1}, as its space."
        )
    found = np.zeros((len(choices), int(counts.sum())), np.float32)
    places = choices.astype(np.int64) + np.concatenate([[0], np.cumsum(counts)[:-1]])
    np.put_along_axis(found, places, 1.0, axis=1)
    return found


def _checked(values: Any, shape: tuple[int, ...], name: str) -> np.ndarray:
    found = np.asarray(values)
    if found.dtype.kind not in "fiub":
        raise UsageError(f"{_part(name)} is of type {found.dtype}; expected numbers of shape {shape[1:]}.")
    if found.shape[1:] != shape[1:]:
        raise UsageError(f"{_part(name)} is of shape {found.shape[1:]}; expected {shape[1:]}, as its space.")
    if len(found) != shape[0]:
        raise UsageError(
            f"{_part(name)} has {len(found)} rows; expected {shape[0]}, one before each action and the final one."
        )
    return found


def _names(space: spaces.Dict) -> list[str]:
    return sorted(space.spaces, key=str)


def _part(name: str) -> str:
    return f"the part {name!r} of an observation" if name else "an observation"


class FlattenedObservations(gymnasium.ObservationWrapper, RecordConstructorArgs):
    """An environment of any of these observation spaces, whose observations are one array of float32.

    Observations that are an array already stay as they are.
    """

    def __init__(self, env: gymnasium.Env):
        RecordConstructorArgs.__init__(self)
        gymnasium.ObservationWrapper.__init__(self, env)
        self._of = env.observation_space
        if is_array(self._of):
            return
        size = sum(size for _, size in parts_of(self._of))
        self.observation_space = spaces.Box(-np.inf, np.inf, (size,), np.float32)

    def observation(self, observation: Any) -> Any:
        """Return one observation as one array. Raises `UsageError` where it is not of its space."""
        if is_array(self._of):
            return observation
        try:
            return flattened(self._of, _one_row(observation), 1)[0]
        except UsageError as error:
            raise UsageError(f"{self.spec.id if self.spec else 'the environment'}: {error}") from None


def _one_row(observation: Any) -> Any:
    """Return an observation with a leading axis of 1 in each of its parts."""
    if isinstance(observation, Mapping):
        return {key: _one_row(part) for key, part in observation.items()}
    if isinstance(observation, tuple):
        return tuple(map(_one_row, observation))
    return np.asarray(observation)[None]
