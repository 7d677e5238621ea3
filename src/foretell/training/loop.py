"""The loop of every offline training, sequence models and value functions alike: one screen, resumable bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from torch import Tensor

from foretell.core.errors import StoppedError
from foretell.core.progress import Progress, silent
from foretell.training.checkpoints import loaded
from foretell.training.run_folder import RunFolder

Evaluate = Callable[[], Mapping[str, float]]
"""Measures what is trained on validation starts; returns `mean_return` and whatever else belongs to the event."""


class Schedule(Protocol):
    """How long to train, and what to do how often; `evaluate_every` 0 is never."""

    @property
    def updates(self) -> int: ...  # noqa: D102
    @property
    def log_every(self) -> int: ...  # noqa: D102
    @property
    def evaluate_every(self) -> int: ...  # noqa: D102
    @property
    def checkpoint_every(self) -> int: ...  # noqa: D102


class Training(Protocol):
    """One run's networks, optimiser and data. Update N is a pure function of the state and (seed, N)."""

    def update(self, update: int) -> Mapping[str, Tensor | float]:
        """Take update number `update` (from 0) and return what is measured, `loss` first; raises `DivergedError`."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Return everything that a later start needs, as named tensors."""
        ...

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what `state` returned."""
        ...


def train(
    run: RunFolder,
    training: Training,
    schedule: Schedule,
    *,
    weights: Callable[[], Mapping[str, Tensor]],
    evaluate: Evaluate | None = None,
    progress: Progress = silent,
) -> None:
    """Train to the last update and write the run; continue from the newest checkpoint where there is one.

    `weights` are what is kept at the end. A finished run is left as it is. The caller holds the folder's lock.
    Raises `ResourceError` before the first update where there is no room for what will be saved.
    """
    start, owed, latest = 0, False, {}
    if run.finished:
        return
    if resumed := run.resume():
        state = resumed[0]
        loaded(lambda: training.load_state(state), run.path / "checkpoints")
        start = resumed[1]
        # Never of several processes at one run: they evaluate to the end, and all have to take the same updates.
        owed = _is_due(evaluate, schedule, start) and not run.has("evaluation", {"update": start})
    run.require_room(weights())
    for done in range(start if owed else start + 1, schedule.updates + 1):
        if done > start:
            measured = training.update(done - 1)
            if done % schedule.log_every == 0 or done == schedule.updates:
                numbers = {name: float(value) for name, value in measured.items()}
                latest["loss"] = next(iter(numbers.values()))
                run.event("training", {"update": done}, **numbers)
        if evaluate and _is_due(evaluate, schedule, done):
            try:
                found = evaluate()
            except StoppedError:  # the next start owes it
                run.checkpoint(done, training.state())
                raise
            latest["return"] = found["mean_return"]
            run.event("evaluation", {"update": done}, **found)
        if done % schedule.checkpoint_every == 0 and done < schedule.updates:
            run.checkpoint(done, training.state())
        if done == schedule.updates:
            run.finish(weights())
        try:
            progress(done, schedule.updates, **latest)
        except StoppedError:
            if done < schedule.updates:
                run.checkpoint(done, training.state())
            raise


def _is_due(evaluate: Evaluate | None, schedule: Schedule, done: int) -> bool:
    return bool(evaluate and schedule.evaluate_every and done % schedule.evaluate_every == 0)
