"""Acting with a sequence model that is told what is wanted (the evaluation loop of the report's Algorithm 1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from foretell.core.decimals import counted
from foretell.core.errors import UsageError
from foretell.core.stepping import (
    Actions,
    Rewards,
    TargetReturn,
    Where,
    checked_count,
    checked_numbers,
    checked_where,
    sizes_in_words,
)
from foretell.core.warning import warn_caller
from foretell.models.encoders import ConvolutionalEncoder
from foretell.models.interface import SequenceModel
from foretell.sequences.batch import SequenceBatch
from foretell.sequences.defaults import usual_defaults
from foretell.sequences.normalization import Normalization
from foretell.sequences.targets import Telling
from foretell.values.asking import Asking

TOGETHER = 100
"""Environments that the model sees at once: the activations of many more leave the cache (benchmark `evaluation`)."""


Model = TypeVar("Model", bound=SequenceModel)


class ConditionedPolicy(Generic[Model]):
    """Tells the model what is wanted, and keeps the last K timesteps of every environment.

    `asking` is a return in reward units, or says how the run asks: for a return that falls by the rewards that come,
    for one that its rule takes from the episode's first observation, or for an advantage, the same at every timestep.

    Call `reset` once, then in turn `act` (with the newest observations) and `observe` (with the rewards that
    followed). Everything is in the environment's own units, and finite. What an environment is given after its end does
    not matter, the others do not see it; a new episode of it alone begins by `reset(..., where=...)`.
    """

    def __init__(self, model: Model, normalization: Normalization, asking: Asking | float):
        self.model = model
        self.normalization = normalization
        if not isinstance(asking, Asking):
            telling = Telling(condition="return", scale=normalization.return_scale)
            asking = Asking(telling=telling, target=float(asking))
        self.asking = asking
        self._timestep = 0
        self._began = np.zeros(0, np.int64)
        self._target = np.zeros(0)
        self._by_rule = np.zeros(0, bool)
        self._read: Callable[[SequenceBatch], Tensor] | None = None
        self._unrewarded = False
        encoder = getattr(model, "embed_observation", None)
        self._encoder = encoder if isinstance(encoder, ConvolutionalEncoder) else None

    def __getstate__(self) -> dict[str, Any]:
        """A copy reads with its own network."""
        return {**vars(self), "_read": None}

    def __repr__(self) -> str:
        shape = self.model.shape
        sizes = sizes_in_words(shape.observation_shape, shape.action_dim, continuous=not shape.discrete)
        return (
            f"{type(self).__name__}({type(self.model).__name__}, {self._wanted()}, "
            f"observations {sizes}, up to {counted(shape.max_timesteps, 'timestep')})"
        )

    def _wanted(self) -> str:
        """Return by what it acts, in a word or two."""
        return f"condition {self.asking.telling.condition}"

    @property
    def most_timesteps(self) -> int:
        """Timesteps of an episode that it can act for."""
        return self.model.shape.max_timesteps

    def reset(
        self,
        num_envs: int,
        target_return: TargetReturn = None,
        where: Where | None = None,
    ) -> None:
        """Start `num_envs` new episodes that ask for `target_return`; None: by the run's own rule.

        In reward units, or quantiles from 0 to 1 where the model is told advantages. `where` (num_envs,) starts new
        episodes in some of the environments that act, after `observe`; the others go on. Raises `UsageError` for other
        numbers, and between `act` and `observe` for `where`.
        """
        num_envs = checked_count(num_envs)
        begins = checked_where(where, num_envs, len(self._target))
        try:
            target = np.asarray(0.0 if target_return is None else target_return, np.float64)
        except (TypeError, ValueError, RuntimeError):  # the last of a tensor that learns
            raise UsageError(f"target return {target_return!r}; expected a number, or one for each episode.") from None
        if target.shape not in ((), (num_envs,)):
            raise UsageError(
                f"target return {target}; expected one number, or one for each of {counted(num_envs, 'episode')}."
            )
        target = np.broadcast_to(target, (num_envs,))
        if target_return is not None:
            self.asking.telling.check(target[begins])
        if where is None:
            self._start(num_envs)
        elif self._unrewarded:
            raise UsageError("reset(where=...) was called before the rewards of act: call observe(rewards) first.")
        self._target[begins], self._by_rule[begins] = target[begins], target_return is None
        self._began[begins] = self._timestep
        if (self._began == self._began[0]).all():
            self._timestep -= int(self._began[0])
            self._began[:] = 0

    def _start(self, num_envs: int) -> None:
        shape, length = self.model.shape, self.model.config.context_length
        self._target, self._by_rule = np.zeros(num_envs), np.ones(num_envs, bool)
        self._began = np.zeros(num_envs, np.int64)
        self._timestep, self._unrewarded = 0, False
        self._read = None
        kept = (self.model.config.width,) if self._encoder else shape.observation_shape
        self._observations = np.zeros((num_envs, length, *kept), np.float32)
        actions = (num_envs, length) if shape.discrete else (num_envs, length, shape.action_dim)
        self._actions = np.zeros(actions, np.int64 if shape.discrete else np.float32)
        self._returns = np.zeros((num_envs, length, 1), np.float32)
        self._rewards = np.zeros((num_envs, length), np.float32)
        self._timesteps = torch.arange(shape.max_timesteps, device="cpu").expand(num_envs, -1)
        self._real = np.ones((num_envs, length), bool)
        self._terminations = np.zeros((num_envs, length), bool)

    @usual_defaults
    @torch.inference_mode()
    def act(self, observations: np.ndarray) -> np.ndarray:
        """Return actions `(num_envs, action_dim)` in environment units, or `(num_envs,)` integers.

        Raises `UsageError` past the last timestep that the model has an embedding for, and where the rewards of the
        last actions were not observed; `DatasetError` for observations that are not finite. Warns of images on another
        scale than those that the run was trained on.
        """
        if self._unrewarded:
            raise UsageError(
                "act was called twice in a row: the policy does not know what its last actions earned, and would count "
                "one timestep as two. Call observe(rewards) after each step of the environment, or reset to begin anew."
            )
        observations = self._checked("observations", observations, self.model.shape.observation_shape)
        if self._timestep == 0 and (doubt := self.normalization.doubt_of_images(observations)):
            warn_caller(doubt)
        elapsed = self._elapsed()
        if np.max(elapsed) >= self.model.shape.max_timesteps:
            raise UsageError(
                f"timestep {np.max(elapsed)}: the run was trained for episodes of "
                f"{counted(self.model.shape.max_timesteps, 'timestep')}. Train it in an environment, or on data, of "
                "longer ones (--environment); who acts by hand calls reset at the end of each: of some of several "
                "environments, reset(..., where=ended)."
            )
        first = self._by_rule & (elapsed == 0)
        if first.any():
            self._target[first] = self.asking.at_start(observations[first])
        for context in (self._observations, self._actions, self._returns, self._rewards):
            context[:, :-1] = context[:, 1:]
        self._observations[:, -1] = self._kept(self.normalization.observations(observations))
        self._actions[:, -1] = 0
        self._rewards[:, -1] = 0
        self._returns[:, -1, 0] = self.asking.told(self._target, elapsed)
        predicted = self._decide(elapsed)
        actions = predicted.argmax(-1).numpy() if self.model.shape.discrete else predicted.numpy()
        action_range = self.normalization.action_range
        self._actions[:, -1] = actions if action_range is None else np.minimum(np.maximum(actions, -1), 1)
        self._timestep += 1
        self._unrewarded = True
        return actions if action_range is None else action_range.to_environment(actions)

    def _kept(self, observations: np.ndarray) -> np.ndarray:
        """Return what windows keep of normalised observations: of images what is encoded, once for all windows."""
        if self._encoder is None:
            return observations
        images = torch.from_numpy(observations)[:, None].split(TOGETHER)
        return torch.cat([self._encoder(some) for some in images])[:, 0].numpy()

    def observe(self, rewards: Rewards, actions: Actions = None) -> None:
        """Take the rewards (environment units) off the return still asked for; an advantage stays as it is.

        `actions` are those that the environments took, in their units, where these were not what `act` said: of
        exploring, a safeguard, a person at the controls. The windows hold them then, as those of the data do.
        Raises `UsageError` for numbers of another shape, and for rewards that no action earned; `DatasetError` for some
        that are not finite.
        """
        rewards = self._checked("rewards", rewards, ())
        taken = None if actions is None else self._units_of_taken(actions)
        if not self._unrewarded:
            raise UsageError("observe was called before act: no action has earned these rewards. Call act first.")
        self._unrewarded = False
        self._rewards[:, -1] = rewards
        if taken is not None:
            self._actions[:, -1] = taken
        if self.asking.telling.spent:
            self._target -= rewards

    def _units_of_taken(self, actions: Any) -> np.ndarray:
        """Return actions of the environment as windows have them: in [-1, 1], or choices."""
        shape = self.model.shape
        taken = self._checked("actions", actions, () if shape.discrete else (shape.action_dim,))
        if not shape.discrete:
            return np.clip(self.normalization.actions(taken), -1, 1)
        if taken.dtype.kind not in "iu" or taken.min() < 0 or taken.max() >= shape.action_dim:
            raise UsageError(f"actions {taken.tolist()}; expected whole numbers, 0 to {shape.action_dim - 1}.")
        return taken

    def _elapsed(self) -> int | Int[np.ndarray, " num_envs"]:
        """Return the timestep of each environment's own episode; one number where they are at the same."""
        return self._timestep - self._began if self._began.any() else self._timestep

    def _decide(self, elapsed: int | Int[np.ndarray, " num_envs"]) -> Tensor:
        """Return the actions of all environments in [-1, 1], or logits."""
        if isinstance(elapsed, int):
            return self._of_all()
        return self._of(np.arange(len(elapsed)), elapsed)

    def _of_all(self) -> Tensor:
        if len(self._target) <= TOGETHER:
            return self._choose(self._batch(slice(None)))
        windows = (self._batch(slice(first, first + TOGETHER)) for first in range(0, len(self._target), TOGETHER))
        return torch.cat([self._choose(batch) for batch in windows])

    def _of(self, envs: Int[np.ndarray, " some"], elapsed: Int[np.ndarray, " num_envs"]) -> Tensor:
        """Return the actions of these environments, each at a timestep of its own: windows of one length together."""
        counts = np.minimum(elapsed[envs] + 1, self.model.config.context_length)
        order, parts = np.argsort(counts, kind="stable"), []
        for count in np.unique(counts):
            alike = order[counts[order] == count]
            for start in range(0, len(alike), TOGETHER):
                some = envs[alike[start : start + TOGETHER]]
                parts.append(self._choose(self._windows(some, elapsed[some], int(count))))
        return torch.cat(parts)[np.argsort(order)]

    def _choose(self, batch: SequenceBatch) -> Tensor:
        """Return actions in [-1, 1], or logits, of the newest timestep of each window."""
        if self._read is None:
            self._read = self.model.reader()
        return self._read(batch)

    def _checked(self, what: str, values: Any, single: tuple[int, ...]) -> np.ndarray:
        if not len(self._target):
            raise UsageError("no episode was started; call reset(num_envs=...) first.")
        return checked_numbers(what, values, single, len(self._target))

    def _batch(self, envs: slice) -> SequenceBatch:
        """Return the windows of environments that are at the same timestep."""
        count = min(self._timestep + 1, self.model.config.context_length)
        return self._window(envs, count, self._timesteps[envs, self._timestep + 1 - count : self._timestep + 1])

    def _windows(self, envs: np.ndarray, elapsed: np.ndarray, count: int) -> SequenceBatch:
        """Return the windows, of one length, of environments at timesteps of their own."""
        return self._window(envs, count, torch.from_numpy(elapsed[:, None] + np.arange(1 - count, 1)))

    def _window(self, envs: slice | np.ndarray, count: int, timesteps: Tensor) -> SequenceBatch:
        window = (envs, slice(-count, None))
        return SequenceBatch(
            observations=torch.from_numpy(self._observations[window]),
            actions=torch.from_numpy(self._actions[window]),
            returns_to_go=torch.from_numpy(self._returns[window]),
            timesteps=timesteps,
            rewards=torch.from_numpy(self._rewards[window]),
            terminations=torch.from_numpy(self._terminations[window]),
            mask=torch.from_numpy(self._real[window]),
        )
