"""From what a run folder holds to a policy that acts; and the two policies that are no sequence models."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from foretell.agents.networks import GaussianPolicy
from foretell.agents.policy import SACPolicy
from foretell.agents.random_policy import RandomPolicy
from foretell.core.errors import CheckpointError, UsageError
from foretell.core.memory import asked_for
from foretell.core.seeding import derive_seed, stream
from foretell.core.stepping import Actions, Rewards, TargetReturn, Where, checked_numbers, sizes_in_words, untold_count
from foretell.environments.making import EnvironmentSpec
from foretell.evaluation.acting import acting_policy
from foretell.evaluation.configs import ACTING, ActingConfig, PlanningConfig, ValueActingConfig
from foretell.evaluation.protocol import Policy
from foretell.evaluation.sizes import check_layers, check_sizes
from foretell.models.configs import SequenceShape
from foretell.models.interface import SequenceModel
from foretell.models.registry import build_model
from foretell.sequences.defaults import usual_defaults
from foretell.sequences.normalization import Normalization
from foretell.sequences.scaling import ActionRange
from foretell.values.acting import GreedyPolicy, ImitationPolicy
from foretell.values.asking import Asking
from foretell.values.configs import IQLConfig
from foretell.values.functions import ValueFunctions

ASKED = "asking/"
"""Prefix of the tensors in `model.safetensors` that say what the policy asks for; the others are the network's."""


class AgentPolicy:
    """A trained agent acting deterministically; it takes no target and no notice of rewards."""

    def __init__(self, policy: SACPolicy, observation_shape: tuple[int, ...]):
        self.policy, self.observation_shape = policy, observation_shape

    def __repr__(self) -> str:
        sizes = sizes_in_words(self.observation_shape, len(self.policy.action_range.low), continuous=True)
        return f"AgentPolicy(SAC, observations {sizes})"

    def reset(self, num_envs: int, target_return: TargetReturn = None, where: Where | None = None) -> None:
        """Nothing to do: the agent has no memory. Raises `UsageError` for no environments, or a target."""
        untold_count(num_envs, target_return, where)

    @usual_defaults
    def act(self, observations: np.ndarray) -> np.ndarray:
        """Return the deterministic actions, environment units.

        Raises `UsageError` for observations of another shape, `DatasetError` for some that are not finite.
        """
        rows = checked_numbers("observations", observations, self.observation_shape)
        return self.policy.best(np.ascontiguousarray(rows.reshape(len(rows), -1), np.float32))

    def observe(self, rewards: Rewards, actions: Actions = None) -> None:
        """Nothing to do."""


class UniformPolicy:
    """Uniform random actions from one stream: the floor of every comparison."""

    def __init__(self, spec: EnvironmentSpec, seed: int):
        self.policy, self.seed = RandomPolicy(spec), seed
        self._rng = stream(seed, "uniform-policy")

    def another(self) -> UniformPolicy:
        """Return one that acts as this one does, by an independent stream that follows from this one's seed."""
        return UniformPolicy(self.policy.spec, derive_seed(self.seed, "another-uniform-policy"))

    def reset(self, num_envs: int, target_return: TargetReturn = None, where: Where | None = None) -> None:
        """Start the stream of actions anew; with `where` it goes on. Raises `UsageError` as others without a target."""
        untold_count(num_envs, target_return, where)
        if where is None:
            self._rng = stream(self.seed, "uniform-policy")

    def act(self, observations: np.ndarray) -> np.ndarray:
        """Draw one action for each environment."""
        return self.policy.act(observations, self._rng)[0]

    def observe(self, rewards: Rewards, actions: Actions = None) -> None:
        """Nothing to do."""


def restore_policy(
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    *,
    functions: ValueFunctions | None = None,
    acting: Mapping[str, Any] | None = None,
) -> Policy:
    """Build the policy that a run folder's `config.json` and `model.safetensors` describe.

    `functions` are those of the folder's `values/`, for policies that act on them too. `acting` changes settings of
    acting (`evaluation.configs`) by name. Raises `CheckpointError` where the two files do not fit each other,
    `UsageError` for settings of acting that the policy has not.
    """
    settings = acting_of(config, acting or {})
    if config["kind"] == "sac":
        return AgentPolicy(restore_sac(config, tensors), tuple(config["environment"]["observation_shape"]))
    if config["kind"] == "values":
        functions = restore_values(config, tensors)
        greedy = isinstance(settings, ValueActingConfig) and settings.greedy
        return GreedyPolicy(functions) if greedy else ImitationPolicy(functions)
    assert not isinstance(settings, ValueActingConfig)  # it is of value functions alone
    with _fitting():
        sizes = dict(config["shape"])
        shape = SequenceShape(observation_shape=tuple(sizes.pop("observation_shape")), **sizes)

        def build() -> SequenceModel:
            return build_model(config["algorithm"], config["model"], shape, torch.Generator())

        check_sizes(config["shape"] | config["model"], tensors, build)
        model = build()
        asked = {name.removeprefix(ASKED): value for name, value in tensors.items() if name.startswith(ASKED)}
        model.load_state_dict({name: value for name, value in tensors.items() if not name.startswith(ASKED)})
        normalization = Normalization.from_json(config["normalization"])
        told = "none" if plans(config) else config["condition"]
        asking = Asking.restore(told, normalization, shape.max_timesteps, asked)
    return acting_policy(model, normalization, asking, settings, config["condition"], functions)


@contextmanager
def _fitting() -> Generator[None]:
    """Raise `CheckpointError` where what is built of a run's files does not come about."""
    try:
        yield
    except (
        KeyError,
        TypeError,
        RuntimeError,
        ValueError,
        AttributeError,
        IndexError,
        ArithmeticError,
        UsageError,
    ) as error:
        if asked_for(error):
            raise
        reason = (str(error) or type(error).__name__).splitlines()[0].removesuffix(".")
        raise CheckpointError(f"config.json and model.safetensors do not make a policy ({reason}).") from None


def plans(config: Mapping[str, Any]) -> bool:
    """Whether a run searches for plans, and is not told what to earn."""
    return ACTING.get(config["algorithm"]) is PlanningConfig and not config["model"].get("told")


def acting_of(config: Mapping[str, Any], changes: Mapping[str, Any]) -> ActingConfig | ValueActingConfig | None:
    """Return a run's settings of acting with the changes; None where it has none, or nothing but defaults."""
    algorithm = config.get("algorithm", "")
    of_values = config.get("kind") == "values"
    kind = ValueActingConfig if of_values else ACTING.get(algorithm)
    names = {item.name for item in fields(kind)} if kind else set()
    if unknown := [name for name in changes if name not in names]:
        raise UsageError(
            f"{', '.join(map(str, unknown))}: no settings of how a run of {algorithm} acts; "
            f"expected {', '.join(sorted(names)) or 'none'}."
        )
    if of_values:
        found = ValueActingConfig(**changes)
        return found if found.greedy else None
    if kind is None:
        return None
    try:
        stored: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in config["acting"].items()
        }
        return kind(**{**stored, **changes})
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"config.json: acting is not readable ({error}).") from None


def restore_values(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> ValueFunctions:
    """Build the value functions that a run folder of implicit Q-learning describes."""
    with _fitting():
        check_layers(config["values"]["hidden_sizes"], tensors)
        settings = dict(config["values"])
        settings["hidden_sizes"] = tuple(settings["hidden_sizes"])
        return ValueFunctions.restore(IQLConfig(**settings), Normalization.from_json(config["normalization"]), tensors)


def restore_sac(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> SACPolicy:
    """Build a SAC policy that samples (`act`) or acts deterministically (`best`)."""
    with _fitting():
        spec = config["environment"]
        inputs, actions = math.prod(spec["observation_shape"]), spec["action_dim"]
        check_layers([inputs, *config["agent"]["hidden_sizes"], actions], tensors)
        network = GaussianPolicy(inputs, actions, config["agent"]["hidden_sizes"], torch.Generator())
        network.load_state_dict({name.removeprefix("policy."): value for name, value in tensors.items()})
        return SACPolicy(network, ActionRange(low=tuple(spec["action_low"]), high=tuple(spec["action_high"])))
