"""JSON as the standard has it, which Python's own reader goes beyond."""

from __future__ import annotations

import json
import math
from typing import Any

MAX_JSON_BYTES = 1 << 20
"""A configuration or manifest larger than this is not ours; refused before it is parsed."""


def parse_json(text: str) -> Any:
    """Parse strict JSON: no NaN or infinity, no key twice, at most 1 MiB, no half characters. Raises `ValueError`."""
    if len(text) > MAX_JSON_BYTES:
        raise ValueError(f"{len(text)} characters, expected at most {MAX_JSON_BYTES}")
    try:
        found = json.loads(
            text, parse_constant=_refuse_constant, parse_float=_finite, object_pairs_hook=_unique_keys
        )  # fmt: skip
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if "\\ud" in text.lower():  # half of a pair of surrogates has no place in UTF-8
        json.dumps(found, ensure_ascii=False).encode("utf-8")
    return found


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is too large")
    return value


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key appears twice")
    return found
