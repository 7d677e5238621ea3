"""Training a sequence model on a dataset: one screen of loop, resumable bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from foretell.core.errors import DivergedError, StoppedError
from foretell.core.progress import Progress, silent
from foretell.core.seeding import derive_seed
from foretell.models.decision_transformer import DecisionTransformer
from foretell.sequences.windows import WindowSampler
from foretell.training.checkpoints import load_optimizer_tensors, optimizer_tensors
from foretell.training.configs import TrainingConfig, learning_rate_at
from foretell.training.run_folder import RunFolder

Evaluate = Callable[[nn.Module], Mapping[str, float]]
"""Measures a model on validation starts; returns `mean_return` and whatever else belongs to the event."""


class SequenceTraining:
    """Model, optimiser and data of one run, and one update of them."""

    def __init__(self, model: DecisionTransformer, sampler: WindowSampler, config: TrainingConfig, seed: int):
        self.model, self.sampler, self.config, self.seed = model, sampler, config, seed
        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        self._generator = torch.Generator()

    def update(self, update: int) -> Tensor:
        """Take update number `update` (from 0); batch, dropout and learning rate follow from (seed, update) alone.

        Returns the loss. Raises `DivergedError` before anything is changed where loss or gradient is not finite.
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
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate_at(self.config, update)
        self.optimizer.step()
        return loss.detach()

    def state(self) -> dict[str, Tensor]:
        """Return model and optimiser as named tensors."""
        model = {f"model/{name}": value for name, value in self.model.state_dict().items()}
        return {**model, **optimizer_tensors("optimizer", self.optimizer)}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what `state` returned."""
        model = {n.removeprefix("model/"): v for n, v in tensors.items() if n.startswith("model/")}
        self.model.load_state_dict(model)
        load_optimizer_tensors("optimizer", self.optimizer, tensors)


def train(
    run: RunFolder, training: SequenceTraining, *, evaluate: Evaluate | None = None, progress: Progress = silent
) -> None:
    """Train to the last update and write the run; continue from the newest checkpoint where there is one.

    A finished run is left as it is. The caller holds the folder's lock.
    """
    config, start, latest = training.config, 0, {}
    if run.finished:
        return
    if resumed := run.resume():
        training.load_state(resumed[0])
        start = resumed[1]
    for update in range(start, config.updates):
        loss, done = training.update(update), update + 1
        if done % config.log_every == 0 or done == config.updates:
            latest["loss"] = loss.item()
            run.event("training", {"update": done}, loss=latest["loss"], learning_rate=learning_rate_at(config, update))
        if evaluate and config.evaluate_every and done % config.evaluate_every == 0:
            measured = evaluate(training.model)
            latest["return"] = measured["mean_return"]
            run.event("evaluation", {"update": done}, **measured)
        if done % config.checkpoint_every == 0 and done < config.updates:
            run.checkpoint(done, training.state())
        if done == config.updates:
            run.finish(training.model.state_dict())
        try:
            progress(done, config.updates, **latest)
        except StoppedError:
            if done < config.updates:
                run.checkpoint(done, training.state())
            raise
