"""Training a sequence model on a dataset: one update; the loop around it is `training/loop.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from foretell.agents.untraced import load_optimizer_tensors, optimizer_tensors
from foretell.core.errors import DivergedError
from foretell.core.seeding import derive_seed
from foretell.models.finite import all_finite, named_gradients, where_not_finite
from foretell.models.interface import SequenceModel
from foretell.sequences.batch import SequenceBatch
from foretell.training.clipped import ClippedOptimizer
from foretell.training.clipped_adamw import ClippedAdamW
from foretell.training.clipped_muon import ClippedMuon
from foretell.training.configs import Precision, TrainingConfig, learning_rate_at
from foretell.training.rounded import RoundedWeights


class Batches(Protocol):
    """Where the batches come from: a sampler, or what puts its batches on a device."""

    def batch(self, update: int, batch_size: int) -> SequenceBatch:
        """Return the batch of this update: a function of (seed, update)."""
        ...


class SequenceTraining:
    """Model, optimiser and data of one run, and one update of them."""

    def __init__(
        self, model: SequenceModel, sampler: Batches, config: TrainingConfig, seed: int,
        precision: Precision = "float32",
    ):  # fmt: skip
        """Prepare to train `model` where it lies, on batches that lie there too."""
        self.model, self.sampler, self.config, self.seed = model, sampler, config, seed
        self.device = next(model.parameters()).device
        self._rounded = RoundedWeights(_Loss(model), torch.bfloat16) if precision == "bfloat16" else None
        self.optimizer = self._optimizer()
        self._generator = torch.Generator(self.device)

    def _optimizer(self) -> ClippedOptimizer:
        parameters, config = self.model.parameters(), self.config
        if config.optimizer == "adamw":
            return ClippedAdamW(parameters, learning_rate=config.learning_rate, weight_decay=config.weight_decay)
        return ClippedMuon(
            parameters, self.model.hidden_matrices(), learning_rate=config.learning_rate,
            matrix_learning_rate=config.matrix_learning_rate, weight_decay=config.weight_decay,
        )  # fmt: skip

    def update(self, update: int) -> dict[str, Tensor | float]:
        """Take update number `update` (from 0); batch, dropout and learning rate follow from (seed, update) alone.

        Returns `loss` and `learning_rate`. Raises `DivergedError`, which says where, before anything is changed where
        batch, loss or gradient is not finite.
        """
        batch = self.sampler.batch(update, self.config.batch_size)
        loss = self._backward(batch, update)
        norm = self.optimizer.norm()
        if not all_finite(batch, loss.detach(), norm):
            raise self._diverged(update, batch, loss)
        learning_rate = learning_rate_at(self.config, update)
        self.optimizer.advance(norm, self.config.clip_norm, learning_rate)
        return {"loss": loss.detach(), "learning_rate": learning_rate}

    def _backward(self, batch: SequenceBatch, update: int) -> Tensor:
        """Return the loss of a batch and leave its gradients on the parameters."""
        self._generator.manual_seed(self._dropout_seed(update))
        return self._gradients(batch)

    def _dropout_seed(self, update: int) -> int:
        return derive_seed(self.seed, "dropout", update)

    def _gradients(self, batch: SequenceBatch) -> Tensor:
        if self._rounded is None and (written := self.model.write_gradients(batch, self._generator)) is not None:
            return written
        self.optimizer.let_go()
        loss, leave_gradients = self._pass(batch)
        loss.backward()
        leave_gradients()
        return loss

    def _pass(self, batch: SequenceBatch) -> tuple[Tensor, Callable[[], None]]:
        """Return the loss, and what is to be called after its backward pass."""
        if self._rounded is None:
            return self.model.loss(batch, self._generator), lambda: None
        with torch.autocast(self.device.type, torch.bfloat16, cache_enabled=False):
            return self._rounded.pass_through(batch, self._generator)

    def _diverged(self, update: int, batch: SequenceBatch, loss: Tensor) -> DivergedError:
        where = where_not_finite(
            batch, ("window", "timestep"), self.model.state_dict(), {"loss": loss},
            named_gradients(self.model.named_parameters()),
        )  # fmt: skip
        return DivergedError(f"update {update}: {where} Nothing was changed by this update.")

    def state(self) -> dict[str, Tensor]:
        """Return model and optimiser as named tensors."""
        model = {f"model/{name}": value for name, value in self.model.state_dict().items()}
        return {**model, **optimizer_tensors("optimizer", self.optimizer)}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what `state` returned."""
        model = {n.removeprefix("model/"): v for n, v in tensors.items() if n.startswith("model/")}
        self.model.load_state_dict(model)
        load_optimizer_tensors("optimizer", self.optimizer, tensors)


class _Loss(nn.Module):
    """A network's loss, as what a module computes."""

    def __init__(self, model: SequenceModel):
        super().__init__()
        self.model = model

    def forward(self, batch: SequenceBatch, generator: torch.Generator) -> Tensor:
        """Return the loss."""
        return self.model.loss(batch, generator)
