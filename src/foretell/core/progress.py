"""What long work tells whoever waits for it. The drawing is done in `cli/`; libraries pass numbers."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives `done` of `total` units of work, and the newest measurements (loss, return, ...)."""

    def __call__(self, done: int, total: int, **measurements: float) -> None:
        """Take note; must be cheap, it is called at every step."""
        ...


def silent(done: int, total: int, **measurements: float) -> None:
    """Take note of nothing: the default where nobody watches."""
