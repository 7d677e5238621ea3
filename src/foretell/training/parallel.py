"""Several processes at one run, each with its part of every batch; together they take the updates of one process."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from foretell.core.errors import DivergedError
from foretell.core.seeding import derive_seed
from foretell.models.finite import summed
from foretell.models.interface import SequenceModel
from foretell.sequences.batch import SequenceBatch
from foretell.sequences.resident import CopiedWindows
from foretell.sequences.windows import WindowSampler
from foretell.training.configs import Precision, TrainingConfig
from foretell.training.processes import Processes
from foretell.training.run_folder import RunFolder
from foretell.training.sequence import SequenceTraining


class ParallelTraining(SequenceTraining):
    """Takes the same updates in every process: gradients are means over the timesteps of all parts of the batch.

    Without dropout these are the updates of one process, to rounding. Dropout of update N in process r follows from
    (seed, N, r), so with it another number of processes is another run.
    """

    def __init__(
        self, model: SequenceModel, sampler: WindowSampler, config: TrainingConfig, seed: int, precision: Precision,
        processes: Processes,
    ):  # fmt: skip
        device = next(model.parameters()).device
        part = sampler.part(processes.launch.rank, processes.launch.count)
        super().__init__(model, CopiedWindows(part, device), config, seed, precision)
        self.processes, self._whole = processes, CopiedWindows(sampler, device)

    def _backward(self, batch: SequenceBatch, update: int) -> Tensor:
        own = super()._backward(batch, update).detach()
        checked = own + 0.0 * summed(batch)  # not finite in all processes where one part of the batch is not
        return self.processes.average(list(self.model.parameters()), checked[None], batch.mask.sum())[0]

    def _dropout_seed(self, update: int) -> int:
        return derive_seed(self.seed, "dropout", update, self.processes.launch.rank)

    def _diverged(self, update: int, batch: SequenceBatch, loss: Tensor) -> DivergedError:
        """Look at the whole batch: the part that is not finite may be another process's."""
        batch = self._whole.batch(update, self.config.batch_size)
        return super()._diverged(update, batch, super()._backward(batch, update))


class SharedRun(RunFolder):
    """A run folder that the first process opens and writes; the others know what it knows."""

    def __init__(self, path: Path, config: Mapping[str, Any], processes: Processes):
        self._processes, self.path = processes, Path(path)
        processes.share(lambda: super(SharedRun, self).__init__(path, config))

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._processes.launch.speaks:
            super().__exit__(kind)

    @property
    def finished(self) -> bool:
        """Whether the last weights are written."""
        return self._processes.share(lambda: super(SharedRun, self).finished)

    def require_room(self, learned: Any, beside: int = 0) -> None:
        """Raise `ResourceError` in every process where there is no room."""
        self._processes.share(lambda: super(SharedRun, self).require_room(learned, beside))

    def resume(self) -> tuple[dict[str, Tensor], int] | None:
        """Return the newest whole checkpoint and its update, in every process."""
        return self._processes.share(super().resume)

    def event(self, event: str, at: Any, **measurements: float) -> None:
        """Append one event."""
        if self._processes.launch.speaks:
            super().event(event, at, **measurements)

    def checkpoint(self, update: int, state: Any) -> None:
        """Write a checkpoint."""
        if self._processes.launch.speaks:
            super().checkpoint(update, state)

    def finish(self, model: Any) -> None:
        """Write the last weights."""
        if self._processes.launch.speaks:
            super().finish(model)
