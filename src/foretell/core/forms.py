"""What a value of JSON has to be, and a sentence where it is something else.

A form is a type: `float` any finite number, `int` a whole one, `str`, `bool`, `dict`, `list`; None is null. A tuple of
forms is any of these, a list of one form a list of such. A dict is an object with these keys, others are passed over;
one that ends in `?` may be missing, and `...` stands for all that are not named.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from foretell.core.errors import CheckpointError

Form = Any


class Name(str):
    """A text of at most `LONGEST_NAME` letters: figures and files are called so."""


LONGEST_NAME = 255
"""As of files, which names of data come from."""

_WORDS = {
    float: "a finite number", int: "a whole number", str: "a text", bool: "true or false", dict: "an object",
    list: "a list", None: "null", Name: f"a text of at most {LONGEST_NAME} letters",
}  # fmt: skip
LARGEST_WHOLE = 2**63
"""Whole numbers stay below it: arrays hold no larger ones."""


def check_form(value: Any, form: Form, where: str, mend: str, *, partial: bool = False) -> None:
    """Raise `CheckpointError` where a value is not of a form: what `where` holds, what was expected, and `mend`.

    Where it is `partial` any key may be missing.
    """
    form = _optional(form) if partial else form
    if problem := _problem(value, form, ""):
        raise CheckpointError(f"{where}: {problem}. {mend}")


def _optional(form: Form) -> Form:
    """Return the form with no key required."""
    if isinstance(form, Mapping):
        return {key if key is ... else f"{key.removesuffix('?')}?": _optional(one) for key, one in form.items()}
    return type(form)(map(_optional, form)) if isinstance(form, tuple | list) else form


def _problem(value: Any, form: Form, name: str) -> str | None:
    """Return what is wrong with the part `name` of a value, None where nothing is."""
    if isinstance(form, Mapping):
        return _problem_of_object(value, form, name)
    if isinstance(form, list):
        if not isinstance(value, list):
            return _other(value, list, name)
        return next(filter(None, (_problem(one, form[0], f"{name}[{i}]") for i, one in enumerate(value))), None)
    if isinstance(form, tuple):
        problems = [_problem(value, one, name) for one in form]
        if None in problems:
            return None
        nested = [one for one, which in zip(problems, form) if isinstance(which, Mapping) and isinstance(value, dict)]
        return nested[0] if nested else _other(value, form, name)
    return None if _is(value, form) else _other(value, form, name)


def _problem_of_object(value: Any, form: Mapping[Any, Form], name: str) -> str | None:
    if not isinstance(value, dict):
        return _other(value, dict, name)
    named = {str(key).removesuffix("?"): one for key, one in form.items() if key is not ...}
    missing = [key for key in form if key is not ... and not str(key).endswith("?") and key not in value]
    if missing:
        what = f"{name} lacks" if name else "lacks"
        return f"{what} {missing[0]!r}; expected the keys {', '.join(key for key in named if key in form)}"
    for key, one in value.items():
        if (expected := named.get(key, form.get(...))) is not None or key in named:
            inner = f"{name}.{key:.100}" if name else f"{key:.100}"
            if problem := _problem(one, expected, inner):
                return problem
    return None


def _is(value: Any, form: Form) -> bool:
    if form is None:
        return value is None
    if form is Name:
        return isinstance(value, str) and len(value) <= LONGEST_NAME
    if form is float:
        return _is(value, int) or (isinstance(value, float) and math.isfinite(value))
    if form is int:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) < LARGEST_WHOLE
    return isinstance(value, form)


def _other(value: Any, form: Form, name: str) -> str:
    forms = form if isinstance(form, tuple) else (form,)
    words = " or ".join(_WORDS[dict if isinstance(one, Mapping) else list if isinstance(one, list) else one]
                        for one in forms)  # fmt: skip
    return f"{f'{name} is' if name else 'holds'} {shown(value)}; expected {words}"


def shown(value: Any) -> str:
    """Return a value as a message has it, not all of a long one."""
    if isinstance(value, dict | list):
        return _WORDS[type(value)]
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= LARGEST_WHOLE:
        return "a number with too many digits"
    return f"{value!r:.60}"
