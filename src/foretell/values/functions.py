"""`ValueFunctions`: Q, V and the policy with the units around them; environment units in, reward units out."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from foretell.agents.networks import EnsembleMLP, QFunctions, ValueFunction
from foretell.core.errors import CheckpointError, UsageError
from foretell.sequences.normalization import Normalization
from foretell.values.configs import IQLConfig


class ValueFunctions(nn.Module):
    """Two Q-functions, a value function and, unless the settings go without, a policy.

    Values in reward units are `offset + scale * number`.

    Everything that was learned or fitted is in `state_dict()`; with the settings and the normalisation it makes the
    same functions again (`restore`). Discrete actions are read as one-hot vectors.
    """

    offset: Tensor
    scale: Tensor

    def __init__(
        self,
        config: IQLConfig,
        normalization: Normalization,
        observation_dim: int,
        action_dim: int,
        generator: torch.Generator,
    ):
        super().__init__()
        self.config, self.normalization, self.action_dim = config, normalization, action_dim
        self.q = QFunctions(2, observation_dim, action_dim, config.hidden_sizes, generator)
        self.value = ValueFunction(observation_dim, config.hidden_sizes, generator)
        self.policy = (
            EnsembleMLP(1, (observation_dim, *config.hidden_sizes, action_dim), generator) if config.policy else None
        )
        self.register_buffer("offset", torch.zeros(()))
        self.register_buffer("scale", torch.ones(()))

    @classmethod
    def restore(cls, config: IQLConfig, normalization: Normalization, tensors: Mapping[str, Tensor]) -> ValueFunctions:
        """Build the functions whose `state_dict` is `tensors`. Raises `CheckpointError` where they do not fit."""
        try:
            observation_dim = tensors["value.mlp.weights.0"].shape[1]
            action_dim = tensors["q.mlp.weights.0"].shape[1] - observation_dim
            functions = cls(config, normalization, observation_dim, action_dim, torch.Generator())
            functions.load_state_dict(dict(tensors))
        except (KeyError, IndexError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise CheckpointError(f"settings and tensors do not make value functions ({reason}).") from None
        return functions.requires_grad_(False)

    def require_policy(self) -> EnsembleMLP:
        """Return the policy's network. Raises `UsageError` where none was learned."""
        if self.policy is None:
            raise UsageError(
                "these value functions were learned without a policy, so they can only act greedily "
                "(`foretell evaluate --greedy`); expected some that were learned with --values.policy, the default."
            )
        return self.policy

    @property
    def observation_dim(self) -> int:
        """Length of an observation."""
        return self.value.mlp.weights[0].shape[1]

    @property
    def discrete(self) -> bool:
        """Whether actions are numbered choices."""
        return self.normalization.action_range is None

    def inputs(self, observations: np.ndarray) -> Float32[Tensor, "rows obs_dim"]:
        """Observations as the networks read them."""
        return torch.from_numpy(self.normalization.observations(observations))

    def action_inputs(self, actions: np.ndarray) -> Float32[Tensor, "rows action_dim"]:
        """Actions as the networks read them: in [-1, 1], or one-hot."""
        units = torch.from_numpy(self.normalization.actions(actions))
        return nn.functional.one_hot(units, self.action_dim).float() if self.discrete else units

    def policy_outputs(self, observations: Float[Tensor, "rows obs_dim"]) -> Float[Tensor, "rows action_dim"]:
        """What the policy does: actions in [-1, 1], or one logit for each choice. Raises `UsageError` without one."""
        outputs = self.require_policy()(observations).squeeze(0)
        return outputs if self.discrete else outputs.tanh()

    @torch.inference_mode()
    def values(self, observations: np.ndarray) -> Float[np.ndarray, " rows"]:
        """V(s) of each observation: discounted return from it on, reward units."""
        return self.reward_units(self.value(self.inputs(observations))).numpy()

    @torch.inference_mode()
    def q_values(self, observations: np.ndarray, actions: np.ndarray) -> Float[np.ndarray, " rows"]:
        """Q(s, a), the smaller of the two: discounted return after this action, reward units."""
        return self.reward_units(self.q(self.inputs(observations), self.action_inputs(actions)).amin(0)).numpy()

    def reward_units(self, numbers: Tensor) -> Tensor:
        """Turn what the networks give out into reward units."""
        return self.offset + self.scale * numbers
