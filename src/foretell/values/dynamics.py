"""`DynamicsEnsemble`: what follows an observation and an action, learned from few timesteps, several answers each."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from foretell.core.decimals import counted
from foretell.core.episode import check_finite
from foretell.core.errors import DatasetError, UsageError
from foretell.core.progress import Progress, silent
from foretell.core.seeding import derive_seed
from foretell.core.variation import deviation_and_variation
from foretell.core.warning import warn_caller
from foretell.datasets.dataset import Dataset
from foretell.datasets.findings import some_rows
from foretell.values.configs import DynamicsConfig
from foretell.values.ending import Ending
from foretell.values.evidence import maximise_evidence
from foretell.values.gaussian_process import GaussianProcess, PosteriorDraws
from foretell.values.invariants import Invariants

MOST_PRODUCTS = 500
"""Products of inputs in the polynomial part at most; more would cost time and hardly ever be needed."""
MOST_CANDIDATES = 20_000
"""Timesteps, evenly spread over the data, among which those far apart are looked for."""


MOST_BYTES = 4 << 30
"""What a world may take in memory."""
WARN_BELOW = 0.9
"""Share of the recorded terminations that a world has to recognise, for nothing to be said."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What every member expects of one timestep, or one member for each row; environment units."""

    next_observations: Float[np.ndarray, "*members rows obs_dim"]
    rewards: Float[np.ndarray, "*members rows"]
    terminations: Bool[np.ndarray, "*members rows"]
    disagreement: Float[np.ndarray, " rows"]
    """Largest deviation between members, of any component or the reward, in deviations of the recorded steps."""


class DynamicsEnsemble(nn.Module):
    """`members` worlds, all consistent with the data, in environment units.

    A world says how the observation changes and what is earned; whether that ends the episode is read off the next
    observation (`Ending`). Everything is learned at construction, from `dataset` and (seed, "dynamics") alone.
    Timesteps whose next observation is unknown are left out.

    Raises `UsageError` for images and for observations of so many numbers that memory would be filled, `DatasetError`
    for data without successors or with numbers that are not finite, `DivergedError` where learning stops being finite.
    """

    def __init__(
        self, dataset: Dataset, config: DynamicsConfig, *, seed: int, num_actions: int | None = None,
        progress: Progress = silent,
    ):  # fmt: skip
        super().__init__()
        self.config, self.observation_dim = config, _vector_length(dataset)
        self.num_actions = (num_actions or dataset.num_actions) if dataset.discrete else None
        rows = _known_rows(dataset)
        candidates = some_rows(rows, MOST_CANDIDATES)
        observations, targets = _observations_and_targets(dataset, candidates)
        inputs = self._inputs(observations, np.asarray(dataset.actions[candidates]))
        check_finite(inputs, f"{dataset.name}: observations and actions")
        check_finite(targets, f"{dataset.name}: changes of the observation and rewards")
        self.input_units, self.target_units = _Units(inputs), _Units(targets)
        x, y = self.input_units.normalize(inputs), self.target_units.normalize(targets)
        if len(x) > config.max_rows:
            chosen = farthest_points(x, config.max_rows)
            x, y = x[chosen], y[chosen]
        self._check_room(x, y)
        self.invariants = Invariants(observations)
        self.ending = Ending(*_last_observations(dataset, rows))
        if self.ending.recognised < WARN_BELOW:
            warn_caller(
                f"{dataset.name}: of the recorded terminations {self.ending.recognised:.0%} are recognised by what was "
                "observed then; imagined episodes will go on where the others ended."
            )
        self.lowest, self.highest = observations.min(0), observations.max(0)
        self.process = GaussianProcess(x.shape[1], y.shape[1], _degree(x.shape[1], config.degree))
        self.process.scale_features(x)
        spread = farthest_points(x, config.evidence_rows)
        self.evidence = maximise_evidence(self.process, x[spread], y[spread], config, progress)
        generator = torch.Generator().manual_seed(derive_seed(seed, "dynamics"))
        self.worlds = PosteriorDraws(
            self.process, x, y, members=config.members, cosines=config.cosines, generator=generator
        )
        self.requires_grad_(False)

    def _check_room(self, x: Tensor, y: Tensor) -> None:
        """Raise `UsageError` where covariances with all timesteps, one for each number foretold, would fill memory."""
        (rows, inputs), targets, config = x.shape, y.shape[1], self.config
        most = min(rows, config.evidence_rows)
        needed = 8 * targets * (rows * (inputs + 2) + config.cosines * (inputs + 1) + 4 * most**2)
        if needed > MOST_BYTES:
            raise UsageError(
                f"a world of {self.observation_dim:,} numbers of observation and {inputs - self.observation_dim:,} of "
                f"action, learned from {rows:,} timesteps, takes {needed / 2**30:.0f} GiB; expected at most "
                f"{MOST_BYTES / 2**30:.0f}. Describe observations by fewer numbers, or lower max_rows of the dynamics."
            )

    @property
    def reward_deviation(self) -> float:
        """Deviation of the recorded rewards; 1 where they are all equal."""
        return float(self.target_units.scale[self.observation_dim])

    def predict(
        self, observations: Float[np.ndarray, "rows obs_dim"], actions: np.ndarray,
        worlds: Int[np.ndarray, " rows"] | None = None,
    ) -> Prediction:  # fmt: skip
        """Return what each member expects, or for each row only what member number `worlds` expects; actions in
        environment units, `(rows, action_dim)`, or `(rows,)` integers.

        Next observations keep the laws of the data (`Invariants`); disagreement, of all members always, is measured
        before.
        """
        width = self.observation_dim
        inputs = self.input_units.normalize(self._inputs(observations, actions))
        answers = self.worlds(inputs).permute(2, 1, 0)
        spread = answers.std(0, correction=0) * torch.from_numpy(self.target_units.varies)
        asked = answers.numpy() if worlds is None else answers.numpy()[worlds, np.arange(len(worlds))]
        numbers = self.target_units.restore(asked)
        following = observations.astype(np.float64) + numbers[..., :width]
        kept = self.invariants.project(following.reshape(-1, width))
        return Prediction(
            next_observations=kept.reshape(following.shape).astype(np.float32),
            rewards=numbers[..., width].astype(np.float32),
            terminations=self.ending(kept).reshape(following.shape[:-1]), disagreement=spread.amax(-1).numpy(),
        )  # fmt: skip

    def supports(self, observations: Float[np.ndarray, "rows obs_dim"]) -> Bool[np.ndarray, " rows"]:
        """Whether each is finite and no further outside the data's range than that range is wide."""
        width = self.highest - self.lowest
        inside = (observations >= self.lowest - width) & (observations <= self.highest + width)
        return inside.all(-1)

    def _inputs(self, observations: np.ndarray, actions: np.ndarray) -> Float[np.ndarray, "rows inputs"]:
        if self.num_actions is not None:
            actions = np.eye(self.num_actions)[actions]
        return np.concatenate([observations.astype(np.float64), actions.astype(np.float64)], 1)


class _Units:
    """Mean and deviation of every column; a column that never changes is only shifted."""

    def __init__(self, columns: Float[np.ndarray, "rows columns"]):
        self.scale, self.varies = deviation_and_variation(columns)
        self.mean = columns.mean(0)

    def normalize(self, columns: Float[np.ndarray, "rows columns"]) -> Float[Tensor, "rows columns"]:
        return torch.from_numpy((columns - self.mean) / self.scale)

    def restore(self, numbers: Float[np.ndarray, "*batch columns"]) -> Float[np.ndarray, "*batch columns"]:
        return numbers * (self.scale * self.varies) + self.mean


def farthest_points(points: Float[Tensor, "rows columns"], count: int) -> Int[Tensor, " chosen"]:
    """Return `count` rows far apart: first the one farthest from the mean, then always the farthest from all so far.

    Recorded timesteps crowd where the policy spends its time; these cover what was seen (Gonzalez 1985). Fewer are
    returned where fewer differ.
    """
    columns = [column.contiguous().numpy() for column in points.T]  # each in one piece: a quarter of the time
    chosen = [int((points - points.mean(0)).square().sum(1).argmax())]
    distances = _squared_distances(columns, chosen[0])
    while len(chosen) < count:
        farthest = int(distances.argmax())
        if distances[farthest] == 0:
            break
        chosen.append(farthest)
        np.minimum(distances, _squared_distances(columns, farthest), out=distances)
    return torch.tensor(chosen)


def _squared_distances(columns: list[np.ndarray], row: int) -> Float[np.ndarray, " rows"]:
    found = np.zeros(len(columns[0]), columns[0].dtype)
    for column in columns:
        found += np.square(column - column[row])
    return found


def _degree(inputs: int, wanted: int) -> int:
    """The highest degree up to `wanted`, and at least 1, with at most `MOST_PRODUCTS` products."""
    return max([1, *(d for d in range(1, wanted + 1) if math.comb(inputs + d, d) - 1 <= MOST_PRODUCTS)])


def _vector_length(dataset: Dataset) -> int:
    if len(dataset.observation_shape) != 1:
        raise UsageError(
            f"{dataset.name}: observations of shape {dataset.observation_shape}; dynamics expect vectors. "
            "Train on the recorded images themselves."
        )
    return dataset.observation_shape[0]


def _known_rows(dataset: Dataset) -> Int[np.ndarray, " rows"]:
    """Rows whose next observation is known. Raises `DatasetError` where they are too few to learn from."""
    known = np.ones(dataset.num_steps, bool)
    if dataset.next_observations is None:
        if bool(np.any(dataset.terminations)):
            raise DatasetError(
                f"{dataset.name}: episodes terminate and 'next_observations' is missing; expected it, to learn what "
                "terminates them. Record it."
            )
        known[dataset.episode_ends - 1] = False
    rows = np.flatnonzero(known)
    if len(rows) < 2:
        raise DatasetError(
            f"{dataset.name}: {counted(len(rows), 'timestep')} with a known next observation; dynamics need at least "
            "2. Record 'next_observations', or longer episodes."
        )
    return rows


def _observations_and_targets(dataset: Dataset, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Observations, and change of the observation and reward; float64."""
    observations = dataset.observations[rows].astype(np.float64)
    change = _following(dataset, rows) - observations
    return observations, np.concatenate([change, dataset.rewards[rows, None].astype(np.float64)], 1)


def _last_observations(dataset: Dataset, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The observations that terminated, and about `MOST_CANDIDATES` that did not; and which is which."""
    ended = np.asarray(dataset.terminations)[rows]
    others = rows[~ended]
    chosen = np.concatenate([rows[ended], some_rows(others, MOST_CANDIDATES)])
    return _following(dataset, chosen), np.arange(len(chosen)) < np.count_nonzero(ended)


def _following(dataset: Dataset, rows: np.ndarray) -> np.ndarray:
    following = dataset.observations[rows + 1] if dataset.next_observations is None else dataset.next_observations[rows]
    return following.astype(np.float64)
