"""Warnings that name the line that called Foretell: in a notebook each cell that is run again is told again."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Generator
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

_BETWEEN = {__name__.partition(".")[0], "concurrent", "contextlib", "jaxtyping", "threading", "torch"}
"""Packages whose lines are no caller's: Foretell's own, and what lies between its functions."""


@dataclass(frozen=True, kw_only=True)
class Caller:
    """A line outside Foretell, and which warnings it has had."""

    filename: str = "foretell"
    line: int = 1
    module: str = "foretell"
    registry: dict[Any, Any] = field(default_factory=dict)


_on_behalf: ContextVar[Caller | None] = ContextVar("on_behalf", default=None)


def caller() -> Caller:
    """Return the innermost line that is not Foretell's; in a thread of Foretell's own that of `on_behalf_of`."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _BETWEEN:
        frame = frame.f_back
    if frame is None:
        return _on_behalf.get() or Caller()
    return Caller(
        filename=frame.f_code.co_filename, line=frame.f_lineno, module=frame.f_globals.get("__name__", "<unknown>"),
        registry=frame.f_globals.setdefault("__warningregistry__", {}),
    )  # fmt: skip


@contextlib.contextmanager
def on_behalf_of(caller: Caller) -> Generator[None]:
    """Have warnings of this thread name the line of whoever started it."""
    token = _on_behalf.set(caller)
    try:
        yield
    finally:
        _on_behalf.reset(token)


def warn_caller(message: str) -> None:
    """Warn (`UserWarning`) whoever called Foretell."""
    there = caller()
    warnings.warn_explicit(message, UserWarning, there.filename, there.line, there.module, there.registry)
