"""A trained SAC agent as something that acts: to record data (sampling) and to be measured (deterministic)."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Float32

from foretell.agents.native.one_row import OneRow
from foretell.agents.networks import GaussianPolicy
from foretell.agents.squashing import squashing
from foretell.sequences.scaling import ActionRange


class SACPolicy:
    """The policy network with the action range around it: observations in, actions in the environment's units out."""

    def __init__(self, network: GaussianPolicy, action_range: ActionRange):
        self.network = network
        self.action_range = action_range
        self._one_row = OneRow()

    @torch.inference_mode()
    def act(
        self, observations: Float[np.ndarray, "num_envs obs_dim"], rng: np.random.Generator
    ) -> tuple[Float32[np.ndarray, "num_envs action_dim"], Float32[np.ndarray, " num_envs"]]:
        """Sample actions; return them with their log-densities, both in the environment's units."""
        states = torch.as_tensor(observations, dtype=torch.float32)
        outputs = self._one_row(self.network.mlp, states)
        if outputs is None:
            outputs = self.network.mlp(states)
        shape = len(observations), outputs.shape[-1] // 2
        noise = torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))
        sampled = squashing(outputs, noise).sample(outputs, noise)
        log_probs = sampled.log_probs.numpy() - np.float32(self.action_range.log_volume())
        return self.action_range.to_environment(sampled.actions.numpy()), log_probs

    @torch.inference_mode()
    def best(self, observations: Float[np.ndarray, "num_envs obs_dim"]) -> Float32[np.ndarray, "num_envs action_dim"]:
        """Return tanh of the mean: how the agent acts when it is measured (2018a, section 5.2)."""
        mean, _ = self.network(torch.as_tensor(observations, dtype=torch.float32))
        return self.action_range.to_environment(torch.tanh(mean).numpy())

    def weights(self) -> dict[str, np.ndarray]:
        """The network's weights as arrays, for a dataset's metadata."""
        return {name: value.detach().numpy() for name, value in self.network.state_dict().items()}
