"""Docstrings of dataclasses with the words that stand behind their fields, for `help` and editors."""

from __future__ import annotations

import ast
import inspect
from dataclasses import MISSING, Field, fields, is_dataclass
from itertools import pairwise
from textwrap import dedent, indent
from typing import Any, get_type_hints


class _WithFields:
    """A class's docstring that is put together when it is read: the command line, which shows the same words, need not
    wait for it."""

    def __init__(self, plain: str):
        self.plain = plain
        self._whole: str | None = None

    def __get__(self, instance: object, kind: type) -> str:
        if self._whole is None:
            self._whole = inspect.cleandoc(self.plain) + _attributes(kind)
        return self._whole


def with_fields(found: Any) -> Any:
    """Return what was given; where it is a dataclass, its docstring has a paragraph for each field with words, too."""
    if isinstance(found, type) and is_dataclass(found) and isinstance(plain := vars(found)["__doc__"], str):
        found.__doc__ = _WithFields(plain)  # type: ignore[assignment]
    return found


def _attributes(kind: type) -> str:
    """Return the section of the fields as NumPy's docstrings have it; nothing where no field has words."""
    words = _words(kind)
    hints = get_type_hints(kind) if words else {}
    found = [
        f"{field.name} : {_kind(hints[field.name])}{_default(field)}\n{indent(words[field.name], '    ')}"
        for field in fields(kind) if field.name in words  # type: ignore[arg-type]
    ]  # fmt: skip
    return "\n".join(["\n\nAttributes\n----------", *found]) if found else ""


def _words(kind: type) -> dict[str, str]:
    """Return the texts that stand behind fields in the source; none where there is no source."""
    try:
        (definition,) = ast.parse(dedent(inspect.getsource(kind))).body
    except (OSError, SyntaxError, ValueError):
        return {}
    found = {}
    body = definition.body if isinstance(definition, ast.ClassDef) else []
    for field, behind in pairwise(body):
        match field, behind:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(words))):
                found[name] = inspect.cleandoc(words)
    return found


def _kind(hint: Any) -> str:
    return inspect.formatannotation(hint).replace("typing.", "")


def _default(field: Field[Any]) -> str:
    return "" if field.default is MISSING else f", default {field.default!r}"
