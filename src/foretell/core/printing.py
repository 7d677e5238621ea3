"""Texts of strangers, names in files say, as they can be shown."""

from __future__ import annotations

import re

_STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Control characters but tabs and ends of lines, and those that turn the direction of what follows."""


def printable(text: str) -> str:
    r"""Return a text in which what would steer a terminal, as names in files by others may, is spelled out.

    >>> printable("a\x1b[31mb\u202ec")
    'a\\x1b[31mb\\u202ec'
    """
    return _STEERING.sub(lambda found: repr(found[0])[1:-1], text)
