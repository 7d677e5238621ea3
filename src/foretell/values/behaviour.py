"""What the data do in a state, and how good an action is among that: the quantile of its advantage."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from foretell.agents.networks import EnsembleMLP
from foretell.core.progress import Progress, silent
from foretell.core.seeding import derive_seed, stream
from foretell.datasets.dataset import Dataset
from foretell.values.candidates import q_of_candidates, smaller_q
from foretell.values.fitting import batches, fit
from foretell.values.functions import ValueFunctions

HIDDEN_SIZES = (64, 64)
UPDATES, BATCH_SIZE, LEARNING_RATE = 2_000, 512, 2e-3
"""Updates at most; few timesteps get fewer, lest they be learned by heart. Adam, a cosine down to 0."""
LOG_STD_RANGE = (-4.0, 1.0)
CANDIDATES = 9
"""Actions that the recorded one is compared with where actions are continuous."""
BLOCK_ROWS = 8_192


class Behaviour(nn.Module):
    """The data's distribution of actions given the state: a Gaussian in [-1, 1] units, or one logit a choice."""

    def __init__(self, observation_dim: int, action_dim: int, *, discrete: bool, generator: torch.Generator):
        super().__init__()
        self.action_dim, self.discrete = action_dim, discrete
        outputs = action_dim if discrete else 2 * action_dim
        self.network = EnsembleMLP(1, (observation_dim, *HIDDEN_SIZES, outputs), generator)

    def gaussian(self, states: Float[Tensor, "rows obs_dim"]) -> tuple[Tensor, Tensor]:
        """Return mean and log standard deviation, `(rows, action_dim)` each."""
        return self._parts(self.network(states))

    def slopes_of(
        self, outputs: Float[Tensor, "1 rows outputs"], actions: Float[Tensor, "rows action_dim"]
    ) -> Float[Tensor, "1 rows outputs"]:
        """Return the slopes, by the outputs, of minus the mean log-likelihood up to constants; choices are one-hot."""
        if self.discrete:
            return (outputs.softmax(2) - actions).div_(len(actions))
        mean, raw = outputs[0].chunk(2, dim=1)
        low, high = LOG_STD_RANGE
        scale = (-raw.clamp(low, high)).exp_()
        errors = (actions - mean).mul_(scale)
        of_log_std = torch.where((raw >= low) & (raw <= high), 1 - errors.square(), 0.0)
        return torch.cat([errors.mul_(scale).neg_(), of_log_std], 1)[None].div_(len(actions))

    @staticmethod
    def _parts(outputs: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = outputs[0].chunk(2, dim=1)
        return mean, log_std.clamp(*LOG_STD_RANGE)


def fit_behaviour(functions: ValueFunctions, dataset: Dataset, seed: int) -> Behaviour:
    """Learn what the data do in each state; a function of (data, seed) alone."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "behaviour-init"))
    behaviour = Behaviour(
        functions.observation_dim, functions.action_dim, discrete=functions.discrete, generator=generator
    )
    updates = min(UPDATES, 50 + dataset.num_steps // 4)

    def draw(update: int) -> np.ndarray:
        return stream(seed, "behaviour", update).integers(dataset.num_steps, size=BATCH_SIZE)

    def read(rows: np.ndarray) -> tuple[Tensor, ...]:
        return functions.inputs(dataset.observations[rows]), functions.action_inputs(dataset.actions[rows])

    drawn = batches(draw, read, updates)
    fit(behaviour.network, drawn, behaviour.slopes_of, updates=updates, learning_rate=LEARNING_RATE)
    return behaviour


@torch.inference_mode()
def advantage_quantiles(
    functions: ValueFunctions, behaviour: Behaviour, dataset: Dataset, *, seed: int = 0, progress: Progress = silent
) -> Float32[np.ndarray, " steps"]:
    """Return for each timestep how good its action is among those that the data take in that state, by Q; 0 to 1.

    In one state the order of advantages is that of Q, so V is not needed, nor its errors suffered; and an advantage
    that is much in one state and impossible in another becomes the same number everywhere. Only actions that the
    behaviour takes are compared. Continuous: `CANDIDATES` quantiles of its Gaussian (draws where an action has more
    than one component), linear between them. Discrete: the probability of worse choices and, of that of equal ones, a
    share that is drawn from `seed`. So in every state the quantiles of what the data do are spread evenly over 0 to 1,
    and 0.98 is told the best choice, be it taken always or once in fifty times; with half in place of a drawn share the
    better of two choices that are as likely would be told 0.75, and 0.98 to nobody.
    """
    quantiles = np.empty(dataset.num_steps, np.float32)
    offsets = _offsets(functions.action_dim)
    for start in range(0, dataset.num_steps, BLOCK_ROWS):
        rows = slice(start, min(start + BLOCK_ROWS, dataset.num_steps))
        states = functions.inputs(dataset.observations[rows])
        taken = functions.action_inputs(dataset.actions[rows])
        if functions.discrete:
            drawn = stream(seed, "equal-choices", start).random(len(states), dtype=np.float32)
            found = _among_choices(functions, behaviour, states, taken, torch.from_numpy(drawn))
        else:
            found = _among_draws(functions, behaviour, states, taken, offsets)
        quantiles[rows] = found.numpy()
        progress(rows.stop, dataset.num_steps)
    return quantiles


def _offsets(action_dim: int) -> Float[Tensor, "candidates action_dim"]:
    if action_dim == 1:
        return torch.special.ndtri((torch.arange(CANDIDATES) + 0.5) / CANDIDATES)[:, None]
    drawn = stream(0, "behaviour-candidates").normal(size=(CANDIDATES, action_dim))
    return torch.from_numpy(drawn.astype(np.float32))


def _among_draws(
    functions: ValueFunctions, behaviour: Behaviour, states: Tensor, taken: Tensor, offsets: Tensor
) -> Float[Tensor, " rows"]:
    mean, log_std = behaviour.gaussian(states)
    count = len(offsets)
    candidates = (mean[:, None] + log_std.exp()[:, None] * offsets).clamp(-1, 1)  # (rows, candidates, action_dim)
    q = smaller_q(functions, states.repeat_interleave(count, 0), candidates.flatten(0, 1))
    return quantile_among(smaller_q(functions, states, taken), q.reshape(len(states), count))


def quantile_among(values: Float[Tensor, " rows"], others: Float[Tensor, "rows candidates"]) -> Float[Tensor, " rows"]:
    """Return where each value stands among the others, which are taken for the middles of equal shares; 0 to 1.

    Linear between two of them; in the middle of those that it equals; half a share's half from the end outside.

    >>> quantile_among(torch.tensor([0.0, 1.0, 2.5, 9.0]), torch.tensor([[1.0, 2.0, 3.0]]).expand(4, 3))
    tensor([0.0833, 0.1667, 0.6667, 0.9167])
    >>> quantile_among(torch.tensor([3.0]), torch.tensor([[1.0, 3.0, 3.0]]))  # two of three shares are its own
    tensor([0.6667])
    """
    ordered, count = others.sort(1).values, others.shape[1]
    below = (ordered < values[:, None]).sum(1)
    equal = (ordered == values[:, None]).sum(1)
    low = ordered.gather(1, (below - 1).clamp(min=0)[:, None])[:, 0]
    high = ordered.gather(1, below.clamp(max=count - 1)[:, None])[:, 0]
    between = (below - 0.5 + ((values - low) / (high - low).clamp(min=1e-9)).clamp(0, 1)) / count
    outside = torch.where(below == 0, 0.25 / count, 1 - 0.25 / count)
    apart = torch.where((below == 0) | (below == count), outside, between)
    return torch.where(equal > 0, (below + 0.5 * equal) / count, apart)


def _among_choices(
    functions: ValueFunctions, behaviour: Behaviour, states: Tensor, taken: Tensor, share: Float[Tensor, " rows"]
) -> Float[Tensor, " rows"]:
    count = functions.action_dim
    choices = torch.eye(count)
    q = q_of_candidates(functions, states, choices)
    own = q.gather(1, taken.argmax(1, keepdim=True))
    likely = behaviour.network(states)[0].softmax(1)
    return (likely * ((q < own) + share[:, None] * (q == own))).sum(1).clamp(max=1)
