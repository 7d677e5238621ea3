"""What settings may be; every dataclass of settings checks its numbers, choices and flags with this first of all."""

from __future__ import annotations

import contextlib
import inspect
import math
import os
from collections.abc import Sequence
from dataclasses import Field, fields
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

from foretell.core.errors import UsageError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

LARGEST_SEED = 2**63 - 1
"""Files keep seeds as 64-bit numbers with a sign."""


def check_settings(settings: DataclassInstance) -> None:
    """Raise `UsageError` where a number is none or a count no whole number, where a word is none of its choices, and
    where a flag is neither True nor False; NumPy's become Python's.

    What a setting has to be is read off its annotation: `int`, `float`, a tuple of them, or None beside it; a `Literal`
    of words; `bool`.
    """
    _check_numbers(settings)
    for name, hint in get_type_hints(type(settings)).items():
        if hint is bool:
            object.__setattr__(settings, name, _flag(name, getattr(settings, name)))
        elif get_origin(hint) is Literal:
            object.__setattr__(settings, name, _choice(name, getattr(settings, name), get_args(hint)))


def _check_numbers(settings: DataclassInstance) -> None:
    for setting in fields(settings):
        value, kind = getattr(settings, setting.name), _kind(setting)
        if kind is None or (value is None and "None" in str(setting.type)):
            continue
        if str(setting.type).startswith("tuple"):
            if isinstance(value, str) or not isinstance(value, Sequence):
                raise UsageError(f"{setting.name} is {value!r}; expected several numbers.")
            found: Any = tuple(_number(setting.name, one, kind) for one in value)
        else:
            found = _number(setting.name, value, kind)
        object.__setattr__(settings, setting.name, found)


def check_kinds(**settings: tuple[Any, type]) -> None:
    """Raise `UsageError` by name where one is of another kind: `training=(given, TrainingConfig)`. None is taken."""
    for name, (given, kind) in settings.items():
        if given is not None and not isinstance(given, kind):
            raise UsageError(f"{name} is of type {type(given).__name__}; expected {kind.__name__}.")


def check_callable(**functions: Any) -> None:
    """Raise `UsageError` by name where one is no function: `progress=progress`."""
    for name, given in functions.items():
        if not callable(given):
            raise UsageError(f"{name} is {given!r}; expected a function. Leave it out where none is wanted.")


def check_progress(progress: Any) -> None:
    """Raise `UsageError` where `progress` is no function of (done, total, **measurements): it would be called first
    when work has been done, and end it."""
    check_callable(progress=progress)
    try:
        asked = inspect.signature(progress)
    except (TypeError, ValueError):  # of what is not written in Python nobody can say
        return
    try:
        asked.bind(1, 2, a_measurement=0.0)
    except TypeError as error:
        raise UsageError(
            f"progress takes {asked}, and cannot be called ({error}); expected (done, total, **measurements)."
        ) from None


def path_of(name: str, given: Any) -> Path:
    """Return where a file or folder lies. Raises `UsageError` for what names none."""
    text = os.fspath(given) if isinstance(given, str | os.PathLike) else None
    if not isinstance(text, str) or not text:
        raise UsageError(f"{name} is {given!r:.100}; expected the name of a file or folder.")
    return Path(text)


def seed_of(name: str, value: Any) -> int:
    """Return a seed as Python's own number. Raises `UsageError` for anything else, and for more than 63 bits, which
    no file of ours keeps."""
    found = whole(name, value)
    if found > LARGEST_SEED:
        raise UsageError(f"{name} is {found}; expected at most {LARGEST_SEED}, which has 63 bits.")
    return found


def number(name: str, value: Any) -> float:
    """Return a number as Python's own. Raises `UsageError` for anything else."""
    return _number(name, value, float)


def whole(name: str, value: Any, least: int = 0) -> int:
    """Return a whole number as Python's own. Raises `UsageError` for anything else, and below `least`."""
    found = _number(name, value, int)
    if found < least:
        raise UsageError(f"{name} is {value!r}; expected a whole number of {least} or more.")
    return int(found)


def check_positive(settings: DataclassInstance, *names: str) -> None:
    """Raise `UsageError` where one of these is not above 0, or is infinite or NaN."""
    for name in names:
        if not 0 < getattr(settings, name) < math.inf:
            raise UsageError(
                f"{name} is {getattr(settings, name)}; expected a number above 0{_finite(settings, name)}."
            )


def check_not_negative(settings: DataclassInstance, *names: str) -> None:
    """Raise `UsageError` where one of these is below 0, or is infinite or NaN."""
    for name in names:
        if not 0 <= getattr(settings, name) < math.inf:
            raise UsageError(
                f"{name} is {getattr(settings, name)}; expected a number of 0 or more{_finite(settings, name)}."
            )


def check_at_least_one(settings: DataclassInstance, *names: str) -> None:
    """Raise `UsageError` where one of these is below 1; None is taken."""
    for name in names:
        if (found := getattr(settings, name)) is not None and found < 1:
            raise UsageError(f"{name} is {found}; expected at least 1.")


def check_probability_below_one(settings: DataclassInstance, name: str) -> None:
    """Raise `UsageError` where this is no probability, or is 1."""
    if not 0 <= (found := getattr(settings, name)) < 1:
        raise UsageError(f"{name} is {found}; expected a probability of 0 or more, below 1.")


def _finite(settings: DataclassInstance, name: str) -> str:
    return ", and finite" if getattr(settings, name) == math.inf else ""


def _kind(setting: Field[Any]) -> type[int] | type[float] | None:
    words = str(setting.type).replace("tuple[", "").replace(", ...]", "").removesuffix(" | None")
    return {"int": int, "float": float}.get(words)


def _choice(name: str, value: Any, choices: tuple[str, ...]) -> str:
    if isinstance(value, str) and value in choices:
        return next(choice for choice in choices if choice == value)  # an Enum's is none of Python's own words
    raise UsageError(f"{name} is {value!r}; expected one of {', '.join(choices)}.")


def _flag(name: str, value: Any) -> bool:
    """Return Python's own. NumPy's is known by its name: the command line shows settings without importing NumPy."""
    kind = type(value)
    if isinstance(value, bool) or (kind.__module__, kind.__name__) == ("numpy", "bool"):
        return bool(value)
    raise UsageError(f"{name} is {value!r}; expected True or False.")


def _number(name: str, value: Any, kind: type[int] | type[float]) -> int | float:
    """Return Python's own number; of 1e5 the whole one, where that is wanted."""
    if isinstance(value, Real) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):  # of a whole number that no float holds
            real = float(value)
            if isinstance(value, Integral):
                return int(value)
            if kind is float or real.is_integer():
                return kind(real)
    raise UsageError(f"{name} is {value!r}; expected a {'whole ' if kind is int else ''}number.")
