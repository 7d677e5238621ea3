"""The run-time type checker of the tests: beartype on every annotation that names an array's or tensor's shape."""

from __future__ import annotations

from beartype import beartype


def check(function):
    """Decorate a function or a class."""
    if not isinstance(function, type):
        shapes = ("np.ndarray,", "Tensor,", "jaxtyping", "[ndarray")
        hints = function.__annotations__
        function.__annotations__ = {n: hint for n, hint in hints.items() if any(s in str(hint) for s in shapes)}
    return beartype(function)
