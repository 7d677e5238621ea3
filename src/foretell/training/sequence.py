"""Training a sequence model on a dataset: one update; the loop around it is `training/loop.py`."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from foretell.core.errors import DivergedError
from foretell.core.seeding import derive_seed
from foretell.models.interface import SequenceModel
from foretell.sequences.windows import WindowSampler
from foretell.training.checkpoints import load_optimizer_tensors, optimizer_tensors
from foretell.training.configs import TrainingConfig, learning_rate_at


class SequenceTraining:
    """Model, optimiser and data of one run, and one update of them."""

    def __init__(self, model: SequenceModel, sampler: WindowSampler, config: TrainingConfig, seed: int):
        self.model, self.sampler, self.config, self.seed = model, sampler, config, seed
        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        self._generator = torch.Generator()

    def update(self, update: int) -> dict[str, Tensor | float]:
        """Take update number `update` (from 0); batch, dropout and learning rate follow from (seed, update) alone.

        Returns `loss` and `learning_rate`. Raises `DivergedError` before anything is changed where loss or gradient is
        not finite.
        """
        batch = self.sampler.batch(update, self.config.batch_size)
        generator = self._generator.manual_seed(derive_seed(self.seed, "dropout", update))
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.model.loss(batch, generator)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        if not bool(torch.isfinite(loss + norm)):
            raise DivergedError(
                f"update {update}: loss {loss.item()}, gradient norm {norm.item()}; expected finite numbers. "
                "The last checkpoint is from before. Lower learning_rate, or run `foretell inspect` on the data."
            )
        learning_rate = learning_rate_at(self.config, update)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        return {"loss": loss.detach(), "learning_rate": learning_rate}

    def state(self) -> dict[str, Tensor]:
        """Return model and optimiser as named tensors."""
        model = {f"model/{name}": value for name, value in self.model.state_dict().items()}
        return {**model, **optimizer_tensors("optimizer", self.optimizer)}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what `state` returned."""
        model = {n.removeprefix("model/"): v for n, v in tensors.items() if n.startswith("model/")}
        self.model.load_state_dict(model)
        load_optimizer_tensors("optimizer", self.optimizer, tensors)
