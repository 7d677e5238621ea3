"""The update of a sequence model without a word from the device in between, so that a GPU can take it as one graph."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from foretell.core.errors import DivergedError
from foretell.models.dropout import PassUnits
from foretell.models.finite import summed
from foretell.models.interface import SequenceModel
from foretell.sequences.batch import SequenceBatch
from foretell.sequences.resident import ResidentWindows
from foretell.training.configs import Precision, TrainingConfig, learning_rate_at
from foretell.training.sequence import SequenceTraining

WARM_UP = 3
"""Updates of each start that are taken one kernel after the other; libraries make their workspaces in them."""


class Meets(Protocol):
    """Takes updates of several trainings together; each asks for its own."""

    def update(self, training: CapturedTraining, update: int) -> Mapping[str, Tensor | float]:
        """Return what was measured of this training's update, once it has been taken."""
        ...


class Replayed:
    """What a GPU computes on its own stream: kernel by kernel at first, then captured as one graph and replayed."""

    def __init__(
        self, device: torch.device, compute: Callable[[torch.cuda.Stream], None],
        enter: Callable[[torch.cuda.CUDAGraph], None],
    ):  # fmt: skip
        """`compute` is called on the stream that it is given; `enter` makes it ready for being captured."""
        self._stream, self._compute, self._enter = torch.cuda.Stream(device), compute, enter
        self.forget()

    def forget(self) -> None:
        """Begin anew: what is computed lies elsewhere."""
        self._graph: torch.cuda.CUDAGraph | None = None
        self._warm = 0

    def run(self) -> None:
        """Compute once more, behind what is on the current stream; that goes on after it."""
        stream = self._stream
        with torch.cuda.device(stream.device):
            if self._graph is None and self._warm == WARM_UP:
                gc.collect()  # graphs of before: they hold one another and much memory, and may not end in a capture
                self._graph = torch.cuda.CUDAGraph()
                self._enter(self._graph)
                with torch.cuda.graph(self._graph, stream=stream):
                    self._compute(stream)
            if self._graph is not None:
                self._graph.replay()
                return
            self._warm += 1
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                self._compute(stream)
            torch.cuda.current_stream().wait_stream(stream)


class CapturedTraining(SequenceTraining):
    """Takes the updates of `SequenceTraining`, and reads from the device only where the loop reads too.

    What changes from update to update (rows, learning rate, the update's number) lies in tensors that are written
    before it. On a GPU the rest is captured once and replayed; elsewhere it is computed as it stands. An update that
    is not finite changes nothing, nor does any later one; it is reported when the next is read.
    """

    meeting: Meets | None = None
    """Where it takes its updates together with others, if it does."""
    loads = 0
    """How often a state was loaded: the optimiser's tensors are others since, which no graph of before knows."""

    def __init__(
        self, model: SequenceModel, windows: ResidentWindows, config: TrainingConfig, seed: int,
        precision: Precision = "float32",
    ):  # fmt: skip
        super().__init__(model, windows, config, seed, precision)
        self.windows = windows
        self._rows = windows.rows(0, config.batch_size).clone()
        graph = self.device.type == "cuda"
        precise = torch.float32 if graph else torch.float64  # as the fused optimiser reads it there
        self._learning_rate = torch.zeros((), dtype=precise, device=self.device)
        self._number = torch.zeros((), dtype=torch.int64, device=self.device)
        self._failed = torch.full((), -1, dtype=torch.int64, device=self.device)
        self._frozen = torch.zeros((), device=self.device)
        self._loss = torch.zeros((), device=self.device)
        self._units = PassUnits()
        with torch.no_grad(), self._units.counting():
            super()._pass(windows.gather(self._rows))
        self._replayed = Replayed(self.device, lambda _: self.compute(), self.enter) if graph else None
        self._attach()

    def update(self, update: int) -> dict[str, Tensor | float]:
        """Take update number `update`, as `SequenceTraining.update` does; the next one writes over the `loss`.

        Raises `DivergedError` for this update or one before it, at those whose numbers are logged.
        """
        if self.meeting is not None:
            return dict(self.meeting.update(self, update))
        self.begin(update)
        if self._replayed is None:
            self.compute()
        else:
            self._replayed.run()
        return self.measured(update)

    def begin(self, update: int) -> None:
        """Write what `compute` reads of update number `update`."""
        self._rows.copy_(self.windows.rows(update, self.config.batch_size))
        self._learning_rate.fill_(learning_rate_at(self.config, update))
        self._number.fill_(update)
        self._generator.manual_seed(self._dropout_seed(update))  # a replay reads seed and offset anew

    def measured(self, update: int) -> dict[str, Tensor | float]:
        """Return what was measured of update number `update`; look whether it was finite where numbers are logged."""
        if (update + 1) % self.config.log_every == 0 or update + 1 == self.config.updates:
            self._check()
        return {"loss": self._loss, "learning_rate": learning_rate_at(self.config, update)}

    def compute(self) -> None:
        """Compute one update from what lies in the tensors, on the stream that is the current one."""
        batch = self.windows.gather(self._rows)
        loss = self._gradients(batch).detach()
        norm = self.optimizer.norm()
        failed = (self._failed < 0) & ~torch.isfinite(summed(batch, loss, norm))
        self._failed.copy_(torch.where(failed, self._number, self._failed))
        self._frozen.copy_(self._failed >= 0)
        nn.utils.clip_grads_with_norm_(self.optimizer.parameters, self.config.clip_norm, norm)
        self.optimizer.step()
        self._loss.copy_(loss)

    def _pass(self, batch: SequenceBatch) -> tuple[Tensor, Callable[[], None]]:
        with self._units.drawn(self.model.config.dropout, self.device, self._generator):
            return super()._pass(batch)

    def enter(self, graph: torch.cuda.CUDAGraph) -> None:
        """Make ready for being captured in a graph."""
        graph.register_generator_state(self._generator)
        self.optimizer.let_go()  # gradients are to lie in the graph's own memory

    def _check(self) -> None:
        failed = int(self._failed)
        if failed >= 0:
            raise self._found(failed)

    def _found(self, update: int) -> DivergedError:
        """Compute an update again, from the weights that it left as they were, and say what is not finite."""
        batch = self.windows.batch(update, self.config.batch_size)
        return self._diverged(update, batch, self._backward(batch, update))

    def _attach(self) -> None:
        """Let the optimiser read its step size, and whether to stand still, from our tensors."""
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate
        self.optimizer.found_inf = self._frozen  # type: ignore[attr-defined]  # as torch.amp.GradScaler tells it

    def state(self) -> dict[str, Tensor]:
        """Return model and optimiser as named tensors. Raises `DivergedError` where an update was not finite."""
        self._check()
        return super().state()

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what `state` returned; the optimiser's tensors are new ones, so the graph has to be."""
        super().load_state(tensors)
        self._attach()
        if self._replayed is not None:
            self._replayed.forget()
        self.loads += 1
        self._failed.fill_(-1)
