"""Acting on value functions alone: by the policy that imitates good actions, or greedily in Q."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from foretell.core.stepping import Actions, Rewards, TargetReturn, Where, checked_numbers, sizes_in_words, untold_count
from foretell.sequences.defaults import usual_defaults
from foretell.values.candidates import candidate_actions, q_of_candidates
from foretell.values.functions import ValueFunctions


class _Memoryless:
    """What policies without memory and target share; `act` in environment units stands below."""

    def __init__(self, functions: ValueFunctions):
        self.functions = functions

    def __repr__(self) -> str:
        functions = self.functions
        sizes = sizes_in_words([functions.observation_dim], functions.action_dim, continuous=not functions.discrete)
        return f"{type(self).__name__}(implicit Q-learning, observations {sizes})"

    def reset(self, num_envs: int, target_return: TargetReturn = None, where: Where | None = None) -> None:
        """Nothing to do. Raises `UsageError` for no environments, or a target."""
        untold_count(num_envs, target_return, where)

    def observe(self, rewards: Rewards, actions: Actions = None) -> None:
        """Nothing to do."""

    def _inputs(self, observations: np.ndarray) -> Tensor:
        single = (self.functions.observation_dim,)
        return self.functions.inputs(checked_numbers("observations", observations, single))

    def _environment_units(self, actions: Tensor) -> np.ndarray:
        """From actions in [-1, 1], or from one number for each choice."""
        action_range = self.functions.normalization.action_range
        return actions.argmax(1).numpy() if action_range is None else action_range.to_environment(actions.numpy())


class ImitationPolicy(_Memoryless):
    """The paper's policy: the data's actions, weighted by exp(beta A); it never leaves what the data do.

    Raises `UsageError` for value functions that were learned without one.
    """

    def __init__(self, functions: ValueFunctions):
        super().__init__(functions)
        functions.require_policy()

    @usual_defaults
    @torch.inference_mode()
    def act(self, observations: np.ndarray) -> np.ndarray:
        """Return actions `(num_envs, action_dim)` in environment units, or `(num_envs,)` integers.

        Raises `UsageError` where observations are not rows of the length that was trained on, `DatasetError` where they
        are not finite.
        """
        return self._environment_units(self.functions.policy_outputs(self._inputs(observations)))


class GreedyPolicy(_Memoryless):
    """In every state the candidate with the largest Q, the smaller of two: deterministic.

    Candidates are every choice where actions are discrete; a grid of 41 from bound to bound where they are one
    number; otherwise 256 drawn uniformly from the action range, once, from `seed`. It trusts Q wherever it is asked,
    so it is for data whose actions cover the range, as random ones do.
    """

    def __init__(self, functions: ValueFunctions, *, seed: int = 0):
        super().__init__(functions)
        self.candidates = candidate_actions(functions, seed=seed)

    @usual_defaults
    @torch.inference_mode()
    def act(self, observations: np.ndarray) -> np.ndarray:
        """Return actions `(num_envs, action_dim)` in environment units, or `(num_envs,)` integers.

        Raises `UsageError` where observations are not rows of the length that was trained on, `DatasetError` where they
        are not finite.
        """
        states = self._inputs(observations)
        q = q_of_candidates(self.functions, states, self.candidates)
        return self._environment_units(self.candidates[q.argmax(1)])
