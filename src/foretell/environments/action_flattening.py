"""Actions of several choices as one choice, those of several arrays as one row of numbers.

A combination of choices is the number of its place among all of them, the last choice changing fastest
(`numpy.ravel_multi_index`). Numbers lie as in `environments.flattening`, parts of a Dict in the order of their names.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs

from foretell.core.decimals import counted
from foretell.core.errors import UsageError
from foretell.core.numbers import as_float32
from foretell.environments.parts import assembled, leaves, named, values_of

WHOLE = "an action"
MOST_COMBINATIONS = 4096
"""Networks have an output for each combination."""
UNBOUNDED = (
    "action space {}; expected a lowest and a highest value of each number. Register it within "
    "gymnasium.wrappers.TransformAction, with an action space whose bounds are finite."
)


def is_flat(space: spaces.Space) -> bool:
    """Whether actions of this space are what models learn: choices numbered from 0, or a row of floats."""
    if isinstance(space, spaces.Discrete):
        return int(space.start) == 0
    return isinstance(space, spaces.Box) and len(space.shape) == 1 and np.issubdtype(space.dtype, np.floating)


class ActionParts:
    """The parts of an action space, and what models learn in their place: `flat`.

    Raises `UsageError` where numbers have no bounds, choices and numbers stand side by side, choices have more than
    `MOST_COMBINATIONS`, or actions have no fixed size.
    """

    def __init__(self, space: spaces.Space):
        self.space = space
        self._parts = [_Part(name, leaf) for name, leaf in leaves(space)]
        if not self._parts:
            raise UsageError(f"action space {space} has no parts; expected at least one choice or number.")
        choices = [part.counts is not None for part in self._parts]
        if any(choices) and not all(choices):
            raise UsageError(
                f"action space {space} has choices beside numbers; expected either. Register it within "
                "gymnasium.wrappers.TransformAction, which rounds numbers to choices."
            )
        every = tuple(itertools.chain.from_iterable(part.counts or () for part in self._parts))
        self._open = [i for i, count in enumerate(every) if count != 1]
        """Which choices there are to make: of one alone there is none, and NumPy numbers 64 at most."""
        self._counts, self._choices = tuple(every[i] for i in self._open) or (1,), len(every)
        self._ends = np.cumsum([math.prod(part.shape) for part in self._parts])[:-1]
        self.flat: spaces.Discrete | spaces.Box = spaces.Discrete(self._combinations()) if all(choices) else _row(space)

    def _combinations(self) -> int:
        total = 1
        for count in self._counts:
            total *= count
            if total > MOST_COMBINATIONS:
                raise UsageError(
                    f"action space {self.space} has {counted(len(self._counts), 'choice')} of more than "
                    f"{MOST_COMBINATIONS:,} combinations; expected that many at most. Register it within "
                    "gymnasium.wrappers.TransformAction, "
                    "which offers fewer."
                )
        return total

    def described(self) -> str:
        """Return what an action is made of: `choice 0 to 5 of gear (2), lamp (3)`, `numbers of arm (2), leg (3)`."""
        sizes = (" x ".join(map(str, part.counts or [math.prod(part.shape)])) for part in self._parts)
        parts = ", ".join(
            f"{part.name or type(part.space).__name__} ({size})" for part, size in zip(self._parts, sizes)
        )
        if isinstance(self.flat, spaces.Discrete):
            return f"choice 0 to {self.flat.n - 1} of {parts}, the last changing fastest"
        return f"numbers of {parts}"

    def hold(self, num_actions: int | None, action_dim: int) -> bool:
        """Say whether actions of these sizes can be of `flat`: so many choices (None: numbers), or so many numbers."""
        if isinstance(self.flat, spaces.Discrete):
            return num_actions is not None and num_actions <= int(self.flat.n)
        return num_actions is None and self.flat.shape == (action_dim,)

    def flattened(self, actions: Any) -> np.ndarray:
        """Return recorded actions as models learn them: `(rows,)` int64 or `(rows, action_dim)` float32.

        `actions` are as a batched space has them: an array `(rows, ...)`, or a mapping or sequence of such arrays.

        Raises `UsageError` where a part is missing or is not of the space.

        >>> ActionParts(spaces.MultiDiscrete([2, 3])).flattened(np.array([[0, 0], [0, 2], [1, 0]]))
        array([0, 2, 3])
        """
        given = values_of(self.space, actions, WHOLE)
        columns = [part.checked(values) for part, values in zip(self._parts, given, strict=True)]
        if len(lengths := {len(column) for column in columns}) > 1:
            raise UsageError(f"parts of the actions have {sorted(lengths)} rows; expected as many in each.")
        rows = np.concatenate(columns, axis=1)
        if isinstance(self.flat, spaces.Box):
            return as_float32(rows)
        chosen = rows[:, self._open] if self._open else np.zeros((len(rows), 1), np.int64)
        return np.asarray(np.ravel_multi_index(tuple(chosen.T), self._counts), np.int64)

    def unflattened(self, actions: np.ndarray) -> Any:
        """Return the actions that models know as these, as a batched space has them: the inverse of `flattened`."""
        rows = np.asarray(actions)
        if isinstance(self.flat, spaces.Discrete):
            chosen = np.stack(np.unravel_index(rows.astype(np.int64), self._counts), axis=1)
            rows = np.zeros((len(chosen), self._choices), np.int64)
            rows[:, self._open] = chosen[:, : len(self._open)]
        pieces = np.split(rows, self._ends, axis=1)
        return assembled(self.space, (part.restored(piece) for part, piece in zip(self._parts, pieces, strict=True)))


class _Part:
    """A part of an action space that has no parts itself. `counts` says of each choice how many; None of numbers."""

    def __init__(self, name: str, space: spaces.Space):
        self.name, self.space = name, space
        self.first: Any = 0
        self.counts: list[int] | None
        if isinstance(space, spaces.Discrete):
            self.counts, self.first = [int(space.n)], int(space.start)
        elif isinstance(space, spaces.MultiDiscrete):
            self.counts, self.first = space.nvec.ravel().tolist(), getattr(space, "start", 0)
        elif isinstance(space, spaces.MultiBinary):
            self.counts = [2] * math.prod(space.shape)
        elif isinstance(space, spaces.Box) and space.is_bounded():
            self.counts = None
            if not np.issubdtype(space.dtype, np.floating):
                ends = zip(space.low.ravel().tolist(), space.high.ravel().tolist())
                self.counts, self.first = [high - low + 1 for low, high in ends], space.low.astype(np.int64)
        elif isinstance(space, spaces.Box):
            raise UsageError(UNBOUNDED.format(space))
        else:
            what = f"the part {name!r} of the actions is" if name else "action space"
            raise UsageError(
                f"{what} {space}; expected a bounded Box, Discrete, MultiDiscrete, MultiBinary, or a Dict or Tuple of "
                "these. Register it within gymnasium.wrappers.TransformAction, which takes one of them."
            )
        self.shape: tuple[int, ...] = space.shape or ()

    def checked(self, values: Any) -> np.ndarray:
        """Return `(rows, numbers)`, choices counted from 0. Raises `UsageError` where they are not of the space."""
        found, called = np.asarray(values), named(self.name, WHOLE)
        if found.dtype.kind not in "fiub" or found.ndim == 0 or math.prod(found.shape[1:]) != math.prod(self.shape):
            raise UsageError(
                f"{called} is of type {found.dtype} and shape {found.shape}; expected numbers of shape "
                f"(rows{''.join(f', {size}' for size in self.shape)})."
            )
        rows = found.reshape(len(found), -1)
        if self.counts is None:
            return rows
        choices = rows.astype(np.int64)
        counted = choices - np.ravel(self.first)
        outside = (counted < 0) | (counted >= np.array(self.counts)) | (choices != rows)
        if outside.any():
            raise UsageError(
                f"{called} holds {rows[outside][0]} in row {int(np.argwhere(outside)[0][0])}; expected choices of "
                f"{self.space}."
            )
        return counted

    def restored(self, rows: np.ndarray) -> np.ndarray:
        """Return `(rows, numbers)` as the space has them."""
        found = rows.reshape(len(rows), *self.shape)
        return (found if self.counts is None else found + self.first).astype(self.space.dtype)


def parts_or_none(space: spaces.Space) -> ActionParts | None:
    """Return the parts of actions that are not as models learn them; None where they are, or cannot be made so."""
    try:
        return None if is_flat(space) else ActionParts(space)
    except UsageError:
        return None


def _row(space: spaces.Space) -> spaces.Box:
    boxes = [leaf for _, leaf in leaves(space) if isinstance(leaf, spaces.Box)]
    low, high = (np.concatenate([getattr(box, end).ravel() for box in boxes]) for end in ("low", "high"))
    return spaces.Box(low, high, dtype=np.result_type(*(box.dtype for box in boxes)).type)


class FlattenedActions(gymnasium.ActionWrapper, RecordConstructorArgs):
    """An environment of several choices, or of actions in several arrays, which takes what models act by.

    MultiDiscrete, MultiBinary, whole numbers between bounds, choices numbered from another number than 0, and a Dict
    or Tuple of these become one Discrete of all combinations; Boxes of another number of dimensions than one, and a
    Dict or Tuple of Boxes, become one row of numbers. What is either already stays as it is.

    Raises `UsageError` where numbers have no bounds, choices and numbers stand side by side, choices have too many
    combinations, or actions have no fixed size.
    """

    def __init__(self, env: gymnasium.Env):
        RecordConstructorArgs.__init__(self)
        gymnasium.ActionWrapper.__init__(self, env)
        self._of = None if is_flat(env.action_space) else ActionParts(env.action_space)
        if self._of is not None:
            self.action_space = self._of.flat

    def action(self, action: Any) -> Any:
        """Return the environment's own action for one of ours."""
        return action if self._of is None else _first(self._of.unflattened(np.asarray(action)[None]))

    def flattened(self, actions: Any) -> np.ndarray:
        """Return actions that were recorded in the environment itself, `(rows, ...)`, as this one takes them.

        Raises `UsageError` where they are not of its space.
        """
        return np.asarray(actions) if self._of is None else self._of.flattened(actions)


def _first(batch: Any) -> Any:
    """Return the first action of a batch."""
    if isinstance(batch, Mapping):
        return {key: _first(part) for key, part in batch.items()}
    if isinstance(batch, tuple):
        return tuple(map(_first, batch))
    return batch[0]
