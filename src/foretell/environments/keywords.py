"""Names of environments with keywords behind the id: `FrozenLake-v1,is_slippery=false,map_name=8x8`."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from foretell.core.errors import UsageError
from foretell.core.forms import LONGEST_NAME

PLAIN = re.compile(r"[A-Za-z0-9_.+-]*")
"""What words may be made of: a name may come from a stranger's file, so it holds no path and no module."""
LOOKS = ("render_mode", "disable_env_checker")
"""Keywords of every environment that change no number; a stranger's file would open a window by them."""
_WORDS = {"True": True, "TRUE": True, "False": False, "FALSE": False, "None": None}
_POINT = re.compile(r"[+-]?([0-9]+\.|[0-9]*\.[0-9]+)([eE][+-]?[0-9]+)?|\+[1-9][0-9]*([eE][+-]?[0-9]+)?")
"""Numbers as they are typed but JSON has them not, which are no words either: `.5`, `5.` and `+5`."""
_FORM = (
    "expected KEY=VALUE behind the id, with commas between them, as in FrozenLake-v1,is_slippery=false,map_name=8x8; a "
    "value is a number, true, false, null, a word of letters, digits and _ . + -, or a list of these as JSON has it. "
    "What needs more is registered under an id of its own (kwargs of gymnasium.register)"
)


def parsed(name: str) -> tuple[str, dict[str, Any]]:
    """Return an environment's id, and the keywords that it is made with (`gymnasium.make`).

    Raises `UsageError` where what stands behind the id is no keywords.

    >>> parsed("FrozenLake-v1,map_name=8x8,is_slippery=false,max_episode_steps=50")
    ('FrozenLake-v1', {'map_name': '8x8', 'is_slippery': False, 'max_episode_steps': 50})
    """
    if not isinstance(name, str):
        raise UsageError(f"environment is {name!r}; expected the id that it is registered by, such as 'Pendulum-v1'.")
    known, *words = _parts(name)
    if words and len(name) > LONGEST_NAME:
        raise UsageError(f"environment {name[:60]!r}... has {len(name)} letters; expected at most {LONGEST_NAME}.")
    keywords: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not (equals and key.isidentifier() and key.isascii()) or key in keywords:
            raise UsageError(f"environment {name!r}: {word!r} behind the id; {_FORM}.")
        if key in LOOKS:
            raise UsageError(f"environment {name!r}: {key} changes no number, so no name has it; leave it out.")
        try:
            keywords[key] = _value(text)
        except (ValueError, RecursionError):
            raise UsageError(f"environment {name!r}: {word!r} behind the id; {_FORM}.") from None
    return known, keywords


def named(known: str, keywords: Mapping[str, Any]) -> str | None:
    """Return the name of an environment that is made so, the same one in whatever order its keywords come; None where
    no name says it.

    >>> named("FrozenLake-v1", {"map_name": "8x8", "is_slippery": False, "desc": ["SF", "FG"]})
    'FrozenLake-v1,desc=["SF","FG"],is_slippery=false,map_name=8x8'
    """
    try:
        name = ",".join([known, *(f"{key}={_text(keywords[key])}" for key in sorted(keywords))])
        return name if parsed(name) == (known, dict(keywords)) else None
    except (UsageError, TypeError, ValueError):
        return None


def canonical(name: str) -> str:
    """Return the one name of an environment: keywords in the order of their letters, values as JSON has them.

    Raises `UsageError` as `parsed` does.

    >>> canonical("FrozenLake-v1,map_name=8x8,is_slippery=False")
    'FrozenLake-v1,is_slippery=false,map_name=8x8'
    """
    known, keywords = parsed(name)
    return (named(known, keywords) if keywords else None) or name


def _parts(name: str) -> list[str]:
    """Return what commas part, but for those inside brackets."""
    parts, depth = [""], 0
    for letter in name:
        depth += (letter == "[") - (letter == "]")
        if letter == "," and depth <= 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def _value(text: str) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = text
        if _POINT.fullmatch(text):
            value = float(text) if {*".eE"} & {*text} else int(text)
    if not _is_plain(value):
        raise ValueError
    return value


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_plain, value))
    if isinstance(value, str):
        return PLAIN.fullmatch(value) is not None
    return value is None or (isinstance(value, int | float) and math.isfinite(value))


def _text(value: Any) -> str:
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    if isinstance(value, str) and value and _value_or_none(value) == value:
        return value
    return text


def _value_or_none(text: str) -> Any:
    try:
        return _value(text)
    except ValueError:
        return None
