"""Observations of several parts, or of choices, as one array.

Gymnasium's own rule (`gymnasium.spaces.utils.flatten`), for many timesteps at once: numbers as they lie, choices as
one-hot vectors, parts one behind the other in the order of `environments.parts`.
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
from foretell.environments.parts import assembled, leaves, named, values_of

WHOLE = "an observation"


def is_array(space: spaces.Space) -> bool:
    """Whether observations of this space are one array already: a Box of at least one dimension."""
    return isinstance(space, spaces.Box) and bool(space.shape)


def parts_of(space: spaces.Space, name: str = "") -> Iterator[tuple[str, int]]:
    """Yield name and size of each part, in order; the name of a space without parts is `name`.

    Raises `UsageError` for a space whose observations have no fixed size (Text, Sequence, Graph, OneOf).
    """
    for part, leaf in leaves(space, name):
        if isinstance(leaf, spaces.Discrete):
            yield part, int(leaf.n)
        elif isinstance(leaf, spaces.MultiDiscrete):
            yield part, int(leaf.nvec.sum())
        elif isinstance(leaf, spaces.Box | spaces.MultiBinary):
            yield part, int(np.prod(leaf.shape, dtype=int))
        else:
            what = f"the part {part!r} of the observations" if part else "the observation space"
            raise UsageError(
                f"{what} is {leaf}; expected Box, Discrete, MultiDiscrete, MultiBinary, or a Dict or Tuple of these. "
                "Wrap it to one array first."
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
    parts = zip(leaves(space), values_of(space, values, WHOLE), strict=True)
    return np.concatenate([as_float32(_column(leaf, part, rows, name)) for (name, leaf), part in parts], axis=1)


def unflattened(space: spaces.Space, rows: np.ndarray) -> Any:
    """Return observations `(rows, observation_dim)` as a batched space has them: the inverse of `flattened`.

    Raises `UsageError` where they have another size.

    >>> unflattened(spaces.Discrete(3), np.array([[0.0, 1.0, 0.0]]))
    array([1])
    """
    sizes = [size for _, size in parts_of(space)]
    if rows.ndim != 2 or rows.shape[1] != sum(sizes):
        raise UsageError(f"observations are of shape {rows.shape[1:]}; expected ({sum(sizes)},), {described(space)}.")
    pieces = np.split(rows, np.cumsum(sizes)[:-1], axis=1)
    return assembled(space, (_restored(leaf, piece) for (_, leaf), piece in zip(leaves(space), pieces, strict=True)))


def _restored(space: spaces.Space, rows: np.ndarray) -> np.ndarray:
    if isinstance(space, spaces.Discrete):
        return space.start + rows.argmax(axis=1)
    if isinstance(space, spaces.MultiDiscrete):
        vectors = np.split(rows, np.cumsum(space.nvec.ravel())[:-1], axis=1)
        choices = np.stack([vector.argmax(axis=1) for vector in vectors], axis=1)
        return (choices.reshape(len(rows), *space.shape) + getattr(space, "start", 0)).astype(space.dtype)
    assert isinstance(space, spaces.Box | spaces.MultiBinary)  # parts_of refuses all else
    return rows.reshape(len(rows), *space.shape).astype(space.dtype)


def _column(space: spaces.Space, values: Any, rows: int, name: str) -> np.ndarray:
    if isinstance(space, spaces.Discrete):
        return _one_hot(_checked(values, (rows,), name).reshape(rows, 1) - space.start, np.array([space.n]), name)
    if isinstance(space, spaces.MultiDiscrete):
        choices = _checked(values, (rows, *space.shape), name) - getattr(space, "start", 0)
        return _one_hot(choices.reshape(rows, -1), space.nvec.ravel(), name)
    assert isinstance(space, spaces.Box | spaces.MultiBinary)  # parts_of refuses all else
    return _checked(values, (rows, *space.shape), name).reshape(rows, -1)


def _one_hot(choices: np.ndarray, counts: np.ndarray, name: str) -> np.ndarray:
    """Return one vector of `counts[i]` numbers for each column of choices, one behind the other."""
    outside = (choices < 0) | (choices >= counts) | (choices % 1 != 0)
    if outside.any():
        raise UsageError(
            f"{named(name, WHOLE)} holds choice {choices[outside][0]} counted from its first; expected whole numbers "
            f"from 0 to {counts.max() - 1}, as its space."
        )
    found = np.zeros((len(choices), int(counts.sum())), np.float32)
    places = choices.astype(np.int64) + np.concatenate([[0], np.cumsum(counts)[:-1]])
    np.put_along_axis(found, places, 1.0, axis=1)
    return found


def _checked(values: Any, shape: tuple[int, ...], name: str) -> np.ndarray:
    found = np.asarray(values)
    if found.dtype.kind not in "fiub":
        raise UsageError(f"{named(name, WHOLE)} is of type {found.dtype}; expected numbers of shape {shape[1:]}.")
    if found.shape[1:] != shape[1:]:
        raise UsageError(f"{named(name, WHOLE)} is of shape {found.shape[1:]}; expected {shape[1:]}, as its space.")
    if len(found) != shape[0]:
        raise UsageError(
            f"{named(name, WHOLE)} has {len(found)} rows; expected {shape[0]}, one before each action and the final "
            "one."
        )
    return found


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
