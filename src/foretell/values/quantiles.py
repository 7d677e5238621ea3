"""`StateQuantile`: a quantile of the return given the state, learned from the data: what can be asked for there."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from foretell.agents.networks import EnsembleMLP
from foretell.core.errors import CheckpointError
from foretell.core.seeding import derive_seed
from foretell.sequences.normalization import Normalization
from foretell.sequences.targets import Telling
from foretell.sequences.windows import WindowSampler
from foretell.values.fitting import batches, fit

HIDDEN_SIZES = (64, 64)
UPDATES, BATCH_SIZE, LEARNING_RATE = 3_000, 256, 3e-3
"""Updates at most, seconds on one core; few timesteps get fewer, lest they be learned by heart. Adam; the learning
rate falls to 0 along a cosine."""


def pinball_loss(differences: Float[Tensor, "*batch"], quantile: float) -> Float[Tensor, "*batch"]:
    r"""Return $\max(q u, (q - 1) u)$ for each difference u = observed - predicted (Koenker and Bassett 1978).

    Its minimiser is the quantile q: at 0.75, to predict too little costs three times what too much does.

    >>> pinball_loss(torch.tensor([2.0, -2.0]), 0.75)
    tensor([1.5000, 0.5000])
    """
    return torch.maximum(quantile * differences, (quantile - 1) * differences)


def pinball_slopes(differences: Float[Tensor, "*batch"], quantile: float) -> Float[Tensor, "*batch"]:
    """Return the slopes of `pinball_loss` by the differences; at 0, halfway between both sides'.

    >>> pinball_slopes(torch.tensor([2.0, -2.0, 0.0]), 0.75)
    tensor([ 0.7500, -0.2500,  0.2500])
    """
    return 0.5 * differences.sign() + (quantile - 0.5)


class StateQuantile(nn.Module):
    """The quantile of what an episode still earns, given observation and timestep.

    The timestep is read as a share of `max_timesteps`: what can still be earned depends on the time that is left.
    """

    def __init__(
        self, normalization: Normalization, telling: Telling, *, observation_dim: int, max_timesteps: int, seed: int = 0
    ):
        super().__init__()
        self.normalization, self.telling, self.max_timesteps = normalization, telling, max_timesteps
        generator = torch.Generator().manual_seed(derive_seed(seed, "quantile-init"))
        self.network = EnsembleMLP(1, (observation_dim + 1, *HIDDEN_SIZES, 1), generator)

    @classmethod
    def restore(
        cls, normalization: Normalization, telling: Telling, max_timesteps: int, tensors: Mapping[str, Tensor]
    ) -> StateQuantile:
        """Build the network whose `state_dict` is `tensors`. Raises `CheckpointError` where they do not fit."""
        try:
            observation_dim = tensors["network.weights.0"].shape[1] - 1
            found = cls(normalization, telling, observation_dim=observation_dim, max_timesteps=max_timesteps)
            found.load_state_dict(dict(tensors))
        except (KeyError, IndexError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise CheckpointError(f"tensors do not make a target rule ({reason}).") from None
        return found.requires_grad_(False)

    def forward(
        self, observations: Float[Tensor, "rows obs_dim"], timesteps: Float[Tensor, " rows"]
    ) -> Float[Tensor, " rows"]:
        """Return the quantile of what is told, both in the networks' units."""
        return self.network(self.inputs(observations, timesteps))[0, :, 0]

    def inputs(
        self, observations: Float[Tensor, "rows obs_dim"], timesteps: Float[Tensor, " rows"]
    ) -> Float[Tensor, "rows inputs"]:
        """Return what the network reads."""
        return torch.cat([observations, timesteps[:, None] / self.max_timesteps], dim=1)

    @torch.inference_mode()
    def at_start(self, observations: np.ndarray) -> Float[np.ndarray, " rows"]:
        """Return the quantile for episodes that begin with these observations; environment and reward units."""
        states = torch.from_numpy(self.normalization.observations(np.asarray(observations)))
        return self(states, torch.zeros(len(states))).numpy().astype(np.float64) * self.telling.scale


def fit_state_quantile(
    sampler: WindowSampler, telling: Telling, quantile: float, *, max_timesteps: int, seed: int
) -> StateQuantile:
    """Learn the quantile of what `sampler` tells (windows of one timestep) from all timesteps of its dataset.

    A function of (data, seed) alone. Observations have to be vectors.
    """
    observation_dim = sampler.windows(np.zeros(1, np.int64)).observations.shape[-1]
    found = StateQuantile(
        sampler.normalization, telling, observation_dim=observation_dim, max_timesteps=max_timesteps, seed=seed
    )
    updates = min(UPDATES, 50 + sampler.num_eligible // 4)

    def read(rows: np.ndarray) -> tuple[Tensor, ...]:
        windows = sampler.windows(rows)
        observations, timesteps = windows.observations[:, 0], windows.timesteps[:, 0].float()
        return found.inputs(observations, timesteps), windows.returns_to_go[:, 0, 0]

    def slopes(outputs: Tensor, told: Tensor) -> Float[Tensor, "1 rows 1"]:
        return pinball_slopes(told - outputs[0, :, 0], quantile)[None, :, None].div_(-len(told))

    drawn = batches(lambda update: sampler.draw(update, BATCH_SIZE)[0], read, updates)
    fit(found.network, drawn, slopes, updates=updates, learning_rate=LEARNING_RATE)
    return found
