"""The parts of observations and actions that are a Dict or a Tuple, in one order: that of a Dict's names.

A recording keeps only names, and must lead to the same array as the environment, whatever order its space keeps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gymnasium import spaces

from foretell.core.errors import UsageError


def names_of(space: spaces.Dict) -> list[str]:
    """Return the names of a Dict's parts in order."""
    return sorted(space.spaces, key=str)


def leaves(space: spaces.Space, name: str = "") -> Iterator[tuple[str, spaces.Space]]:
    """Yield name and space of each part that has no parts itself; of a space without parts, `name` and itself."""
    if isinstance(space, spaces.Dict):
        for key in names_of(space):
            yield from leaves(space[key], f"{name}/{key}" if name else str(key))
    elif isinstance(space, spaces.Tuple):
        for number, one in enumerate(space):
            yield from leaves(one, f"{name}/{number}" if name else str(number))
    else:
        yield name, space


def values_of(space: spaces.Space, values: Any, whole: str, name: str = "") -> Iterator[Any]:
    """Yield what stands in `values` for each of the leaves, in their order. `whole` is what they are parts of.

    Raises `UsageError` where a part is missing, or there is one more.
    """
    if isinstance(space, spaces.Dict):
        if not isinstance(values, Mapping) or set(values) != set(space.spaces):
            found = sorted(map(str, values)) if isinstance(values, Mapping) else type(values).__name__
            raise UsageError(f"{named(name, whole)} has parts {found}; expected {names_of(space)}, as its space.")
        for key in names_of(space):
            yield from values_of(space[key], values[key], whole, f"{name}/{key}" if name else str(key))
    elif isinstance(space, spaces.Tuple):
        if not isinstance(values, list | tuple) or len(values) != len(space):
            found = len(values) if isinstance(values, list | tuple) else type(values).__name__
            raise UsageError(f"{named(name, whole)} has parts {found}; expected {len(space)}, as its space.")
        for number, one in enumerate(space):
            yield from values_of(one, values[number], whole, f"{name}/{number}" if name else str(number))
    else:
        yield values


def assembled(space: spaces.Space, values: Iterator[Any]) -> Any:
    """Return the next values as `space` has them: the inverse of `values_of`."""
    if isinstance(space, spaces.Dict):
        found = {key: assembled(space[key], values) for key in names_of(space)}
        return {key: found[key] for key in space.spaces}
    if isinstance(space, spaces.Tuple):
        return tuple(assembled(one, values) for one in space)
    return next(values)


def named(name: str, whole: str) -> str:
    """Return how a message calls a part: by its name, or the whole where it has none."""
    return f"the part {name!r} of {whole}" if name else whole
