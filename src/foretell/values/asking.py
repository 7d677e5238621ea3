"""What a run tells its model and what it asks for: made from data when training starts, kept beside the weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor

from foretell.core.errors import CheckpointError, UsageError
from foretell.core.seeding import derive_seed
from foretell.datasets.dataset import Dataset
from foretell.sequences.conditions import NEEDS_VALUES, Condition, Target
from foretell.sequences.normalization import Normalization
from foretell.sequences.targets import (
    ADVANTAGE_QUANTILE,
    EMPHASIZED_QUANTILE,
    RETURN_QUANTILE,
    Telling,
    best_episodes,
)
from foretell.sequences.windows import WindowSampler
from foretell.values.behaviour import advantage_quantiles, fit_behaviour
from foretell.values.functions import ValueFunctions
from foretell.values.labels import discounted_returns_to_go, label, relabelled_returns_to_go
from foretell.values.quantiles import StateQuantile, fit_state_quantile
from foretell.values.support import Support

NEIGHBOURS = 20
"""Episodes at least that one is ranked among; a tenth of all where that is more."""
COMPARED_EPISODES = 4_000
"""Episodes at most that neighbours are looked for among, evenly spread over the dataset."""
SUMMED_ROWS, SUMMED_EPISODES = 1 << 22, 1 << 16
"""Up to these sizes returns-to-go are summed once to learn their quantile, 4 bytes a timestep; beyond, as they are
drawn. The numbers are the same."""


@dataclass(frozen=True, kw_only=True)
class Asking:
    """What a policy tells its model: how (`telling`), and how much: `target`, or a rule for each start state.

    Returns are in reward units, advantages are quantiles from 0 to 1. What is told stays within `support`, where there
    is one: returns of recorded episodes, not advantages, which can be anything from 0 to 1.
    """

    telling: Telling
    target: float | StateQuantile
    support: Support | None = None

    def at_start(self, observations: np.ndarray) -> np.ndarray:
        """Return what is asked of episodes that begin with these observations, in the units of the target."""
        if isinstance(self.target, StateQuantile):
            return self.target.at_start(observations)
        return np.full(len(observations), self.target)

    def told(
        self, left: Float[np.ndarray, " rows"], timesteps: int | Int[np.ndarray, " rows"]
    ) -> Float32[np.ndarray, " rows"]:
        """Return what the model is told, in its units, at these timesteps of episodes that `left` is asked of."""
        units = self.telling.units(left)
        return self.support.nearest(units, timesteps) if self.support else units

    def tensors(self) -> dict[str, Tensor]:
        """Return what was learned, to be kept beside the weights."""
        if isinstance(self.target, StateQuantile):
            learned = {f"quantile.{name}": value for name, value in self.target.state_dict().items()}
        else:
            learned = {"constant": torch.tensor(self.target, dtype=torch.float64)}
        limits = self.support.tensors() if self.support else {}
        return (
            learned | {"scale": torch.tensor(self.telling.scale, dtype=torch.float64)}
            | {f"support.{name}": value for name, value in limits.items()}
        )  # fmt: skip

    @classmethod
    def restore(
        cls, condition: Condition, normalization: Normalization, max_timesteps: int, tensors: Mapping[str, Tensor]
    ) -> Asking:
        """Build what `tensors` were taken from. Raises `CheckpointError` where something is missing."""
        if condition not in get_args(Condition):
            raise CheckpointError(f"condition {condition!r}; expected one of {', '.join(get_args(Condition))}.")
        if "scale" not in tensors:
            raise CheckpointError("the run does not say what it asks for; it was written by another version.")
        telling = Telling(condition=condition, scale=float(tensors["scale"]))
        limits, learned = _part(tensors, "support."), _part(tensors, "quantile.")
        support = Support.restore(limits, max_timesteps) if limits else None
        if "constant" in tensors:
            return cls(telling=telling, target=float(tensors["constant"]), support=support)
        target = StateQuantile.restore(normalization, telling, max_timesteps, learned)
        return cls(telling=telling, target=target, support=support)


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


@dataclass(frozen=True, kw_only=True)
class Told:
    """What every timestep of a dataset is told: `numbers` in the networks' units, None for the recorded return.

    Half of the windows are to end at the rows `emphasized`, where there are any.
    """

    telling: Telling
    numbers: Float32[np.ndarray, " steps"] | None
    emphasized: Int[np.ndarray, " rows"] | None = None


def told_of(
    condition: Condition,
    dataset: Dataset,
    normalization: Normalization,
    functions: ValueFunctions | None = None,
    *,
    seed: int = 0,
) -> Told:
    """Return what the timesteps of `dataset` are told; `functions` for the conditions `value` and `advantage`."""
    returns = Telling(condition=condition, scale=normalization.return_scale)
    if condition == "return":
        return Told(telling=returns, numbers=None)
    if condition == "none":
        constant = Telling(condition=condition)
        return Told(telling=constant, numbers=np.broadcast_to(np.float32(0.0), (dataset.num_steps,)))
    if condition not in NEEDS_VALUES:
        raise _unknown(condition)
    if functions is None:
        raise TypeError(f"condition {condition!r} needs value functions")
    if condition == "value":
        values = label(functions, dataset).values
        relabelled = relabelled_returns_to_go(np.asarray(dataset.rewards), values, dataset.episode_ends)
        return Told(telling=returns, numbers=returns.units(relabelled))
    quantiles = advantage_quantiles(functions, fit_behaviour(functions, dataset, seed), dataset, seed=seed)
    telling = Telling(condition=condition)
    return Told(
        telling=telling, numbers=telling.units(quantiles), emphasized=np.flatnonzero(quantiles >= EMPHASIZED_QUANTILE)
    )


def foretold_of(
    condition: Condition,
    dataset: Dataset,
    normalization: Normalization,
    functions: ValueFunctions | None = None,
    *,
    discount: float,
) -> Told:
    """Return what a model that plans learns to foretell of every timestep in the return's place; it is told nothing.

    The discounted return-to-go; under the condition `value` the Q-function's word for it; else nothing. Discounted
    returns are divided by the same scale as others. Raises `UsageError` for the condition `advantage`.
    """
    nothing = Telling(condition="none", scale=normalization.return_scale)
    if condition == "none":
        return Told(telling=nothing, numbers=np.broadcast_to(np.float32(0.0), (dataset.num_steps,)))
    if condition == "advantage":
        raise UsageError("condition advantage: a model that plans asks for nothing; expected return, value or none.")
    if condition == "value":
        if functions is None:
            raise TypeError("condition 'value' needs value functions")
        returns = label(functions, dataset).q_values
    elif condition == "return":
        returns = discounted_returns_to_go(np.asarray(dataset.rewards), dataset.episode_ends, discount)
    else:
        raise _unknown(condition)
    return Told(telling=nothing, numbers=(returns / normalization.return_scale).astype(np.float32))


def _unknown(condition: str) -> UsageError:
    return UsageError(f"condition {condition!r}; expected one of {', '.join(get_args(Condition))}.")


def asking_of(
    told: Told,
    dataset: Dataset,
    normalization: Normalization,
    target: Target,
    *,
    max_timesteps: int,
    seed: int,
    episodes: Int[np.ndarray, " chosen"] | None = None,
) -> Asking:
    """Return what to ask for: `target`, or by the rule that `sequences.targets.target_rule` names.

    `episodes` are those that are learned from, where it is not all: what the others were told, no model is.
    """
    telling = told.telling
    if telling.condition == "none":
        return Asking(telling=telling, target=0.0 if target == "auto" else float(target))
    if telling.condition == "advantage":
        return Asking(telling=telling, target=ADVANTAGE_QUANTILE if target == "auto" else float(target))
    sampler = _single_timesteps(told, dataset, normalization, seed, episodes)
    support = Support.of(sampler, max_timesteps, episodes)
    if target != "auto":
        return Asking(telling=telling, target=float(target), support=support)
    if len(dataset.observation_shape) != 1:
        returns = dataset.episode_returns() if episodes is None else dataset.episode_returns()[episodes]
        level = float(np.quantile(returns, RETURN_QUANTILE))
        return Asking(telling=telling, target=level, support=support)
    learned = fit_state_quantile(sampler, telling, RETURN_QUANTILE, max_timesteps=max_timesteps, seed=seed)
    return Asking(telling=telling, target=learned, support=support)


def best_among_alike(dataset: Dataset, normalization: Normalization, share: float) -> Int[np.ndarray, " episodes"]:
    """Return the best `share` of the episodes: those that earned most of the ones that began alike.

    Ranked among all, the best episodes of a task with random starts are those that began well, whoever acted; and
    measured by a regression of the return on the start state, those where it errs. Images are ranked among all.
    """
    scores = dataset.episode_returns()
    if len(dataset.observation_shape) == 1 and share < 1:
        firsts = normalization.observations(np.asarray(dataset.observations[dataset.episode_starts]))
        scores = -_ranks_among_neighbours(firsts, scores)
    return best_episodes(scores, share)


def timesteps_of(dataset: Dataset, episodes: Int[np.ndarray, " episodes"]) -> Int[np.ndarray, " rows"]:
    """Return the rows of these episodes."""
    starts, ends = dataset.episode_starts[episodes], dataset.episode_ends[episodes]
    return np.concatenate([np.arange(start, end) for start, end in zip(starts, ends)])


def _ranks_among_neighbours(
    firsts: Float32[np.ndarray, "episodes observation_dim"], returns: Float[np.ndarray, " episodes"]
) -> Float[np.ndarray, " episodes"]:
    """Return each episode's place, the best's 0, by how many of its neighbours, of near first observations, earned
    more; of equals the one that is further ahead of its neighbours' median comes first."""
    count = len(returns)
    others = np.linspace(0, count - 1, min(count, COMPARED_EPISODES)).astype(np.int64)
    neighbours = min(len(others), max(NEIGHBOURS, len(others) // 10))
    beginnings, earned = torch.from_numpy(firsts[others]), returns[others]
    ahead, behind = np.empty(count), np.empty(count)
    for part in np.array_split(np.arange(count), 1 + count // 1024):
        distances = torch.cdist(torch.from_numpy(firsts[part]), beginnings)
        near = earned[distances.topk(neighbours, largest=False).indices.numpy()]
        ahead[part] = (near > returns[part, None]).sum(1)
        behind[part] = np.median(near, axis=1) - returns[part]
    places = np.empty(count)
    places[np.lexsort((behind, ahead))] = np.arange(count)
    return places


def _single_timesteps(
    told: Told, dataset: Dataset, normalization: Normalization, seed: int, episodes: Int[np.ndarray, " chosen"] | None
) -> WindowSampler:
    eligible = None if episodes is None else timesteps_of(dataset, episodes)

    def sampler(numbers: np.ndarray | None) -> WindowSampler:
        return WindowSampler(
            dataset, normalization, context_length=1, seed=derive_seed(seed, "quantile"), told=numbers,
            eligible=eligible,
        )  # fmt: skip

    plain = sampler(told.numbers)
    if told.numbers is None and dataset.num_steps <= SUMMED_ROWS and dataset.num_episodes <= SUMMED_EPISODES:
        return sampler(plain.told_rows(slice(0, dataset.num_steps)))
    return plain
