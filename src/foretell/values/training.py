"""Training value functions on a dataset: one update, its state, and a loop without a run folder."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from foretell.agents.transitions import Transitions
from foretell.agents.untraced import load_optimizer_tensors, optimizer_tensors
from foretell.core.errors import DivergedError, UsageError
from foretell.core.progress import Progress, silent
from foretell.core.seeding import derive_seed
from foretell.datasets.dataset import Dataset
from foretell.models.finite import named_gradients, where_not_finite
from foretell.sequences.normalization import Normalization
from foretell.values.configs import IQLConfig
from foretell.values.functions import ValueFunctions
from foretell.values.iql import ImplicitQLearning
from foretell.values.transitions import TransitionSampler, fit_units


class ValueTraining:
    """Value functions, optimiser and data of one run, and one update of them.

    Every update is a pure function of the weights and (seed, update). `action_dim` is the environment's number of
    choices, some of which the data may lack; else the data's. Raises `UsageError` for images.
    """

    def __init__(
        self, dataset: Dataset, normalization: Normalization, config: IQLConfig, seed: int,
        *, action_dim: int | None = None,
    ):  # fmt: skip
        if len(dataset.observation_shape) != 1:
            raise UsageError(
                f"{dataset.name}: observations of shape {dataset.observation_shape}; value learning expects vectors. "
                "Condition on the return for images."
            )
        self.config = config
        (observation_dim,) = dataset.observation_shape
        generator = torch.Generator().manual_seed(derive_seed(seed, "values-init"))
        choices = action_dim or dataset.action_dim
        self.functions = ValueFunctions(config, normalization, observation_dim, choices, generator)
        fit_units(self.functions, dataset)
        self.learner = ImplicitQLearning(self.functions)
        self.sampler = TransitionSampler(dataset, self.functions, seed)

    def update(self, update: int) -> dict[str, Tensor]:
        """Take update number `update` (from 0); return `value_loss` and `q_loss` (squared deviations of the reward) and
        `policy_loss` (weighted squared error, or cross-entropy of choices; of a policy alone).

        Raises `DivergedError`, which says where, before anything is changed where a loss or a gradient is not finite.
        """
        batch = self.sampler.batch(update, self.config.batch_size)
        try:
            return self.learner.update(batch, update)
        except DivergedError:
            raise self._diverged(update, batch) from None

    def _diverged(self, update: int, batch: Transitions) -> DivergedError:
        """Compute the update again, which changed nothing, to see where it is not finite."""
        with torch.no_grad():
            losses = self.learner.write_gradients(batch)
        learned = named_gradients(self.learner.named_parameters())
        where = where_not_finite(batch, ("row",), self.learner.state_dict(), losses, learned)
        return DivergedError(f"value learning, update {update}: {where} Nothing was changed by this update.")

    def state(self) -> dict[str, Tensor]:
        """Return networks, slow copies and optimiser as named tensors."""
        model = {f"model/{name}": value for name, value in self.learner.state_dict().items()}
        return model | optimizer_tensors("optimizer", self.learner.optimizer)

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what `state` returned."""
        self.learner.load_state_dict({n.removeprefix("model/"): v for n, v in tensors.items() if n[:6] == "model/"})
        load_optimizer_tensors("optimizer", self.learner.optimizer, tensors)


def train_values(
    dataset: Dataset,
    normalization: Normalization,
    config: IQLConfig | None = None,
    *,
    seed: int = 0,
    progress: Progress = silent,
) -> ValueFunctions:
    """Learn what states and actions of `dataset` are worth; return the functions, ready to label data and to act.

    Raises `UsageError` for images, `DatasetError` where no next observation is known, `DivergedError` where the
    numbers stop being finite.
    """
    config = config or IQLConfig()
    training = ValueTraining(dataset, normalization, config, seed)
    for update in range(config.updates):
        losses = training.update(update)
        progress(update + 1, config.updates, **{name: float(loss) for name, loss in losses.items()})
    return training.functions.requires_grad_(False)
