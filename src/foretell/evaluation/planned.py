"""Acting by planning with a Trajectory Transformer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from foretell.core.errors import UsageError
from foretell.core.warning import warn_caller
from foretell.evaluation.conditioned import ConditionedPolicy
from foretell.evaluation.configs import Behaviour, PlanningConfig, check_planning
from foretell.evaluation.planning import Worth, best_actions, likeliest
from foretell.models.trajectory_transformer import TrajectoryTransformer
from foretell.sequences.batch import SequenceBatch
from foretell.sequences.conditions import Condition
from foretell.sequences.normalization import Normalization
from foretell.values.asking import Asking
from foretell.values.functions import ValueFunctions

NEAR = 1e-4
"""Of a deviation of the data: by so much a goal may lie outside without a word, for what is typed is rounded."""
BEHAVIOURS: dict[Condition, Behaviour] = {"return": "return", "value": "value", "none": "imitation"}
"""What the behaviour `auto` is under each condition; where the model is told what to earn, it is median."""


class PlanningPolicy(ConditionedPolicy[TrajectoryTransformer]):
    """In every timestep the first action of the best plan; the past timesteps in the window are its beginning.

    Raises `UsageError` where the settings ask for what the run has not: value functions, goals, a longer window.
    """

    def __init__(
        self,
        model: TrajectoryTransformer,
        normalization: Normalization,
        asking: Asking,
        planning: PlanningConfig,
        condition: Condition,
        functions: ValueFunctions | None = None,
    ):
        super().__init__(model, normalization, asking)
        behaviour = planning.behaviour
        if behaviour == "auto":
            behaviour = "median" if model.config.told else BEHAVIOURS[condition]
        self.planning, self.functions = replace(planning, behaviour=behaviour), functions
        check_planning(
            planning, context_length=model.config.context_length, goals=model.config.goals, told=model.config.told
        )
        if behaviour == "value" and functions is None:
            raise UsageError(
                "behaviour value: the run has no value functions; train it with --condition value or advantage."
            )
        self._goal = self._goal_units(planning.goal) if planning.goal else None

    def _wanted(self) -> str:
        return f"behaviour {self.planning.behaviour}"

    def _goal_units(self, goal: tuple[float, ...]) -> Float[Tensor, "1 observation_slots"]:
        if len(goal) != self.model.observation_slots:
            raise UsageError(f"goal {goal}; expected {self.model.observation_slots} numbers, as an observation has.")
        units = torch.from_numpy(self.normalization.observations(np.array([goal], np.float32)))
        edges = self.model.discretizer.edges[: self.model.observation_slots]
        beyond = (units[0] < edges[:, 0] - NEAR) | (units[0] > edges[:, -1] + NEAR)
        if bool(beyond.any()):
            warn_caller(
                f"goal {goal}: component {int(beyond.nonzero()[0])} lies outside those of the data; the outermost of "
                "these stands for it."
            )
        return units

    def _choose(self, batch: SequenceBatch) -> Float[Tensor, "batch action_dim"]:
        model, planning = self.model, self.planning
        if self._goal is not None:
            batch = replace(batch, goals=self._goal.expand(len(batch.mask), -1))
        if planning.behaviour in ("expectation", "median"):
            median = planning.behaviour == "median"
            return model.next_actions(model.symbols(batch), batch.mask, front=model.front(batch), median=median)
        past = model.config.context_length - planning.horizon
        timesteps = model.symbols(batch)[:, -past - 1 :]
        front = model.front(_newest(batch, past + 1))
        symbols = timesteps.flatten(1)[:, : (timesteps.shape[1] - 1) * model.slots + model.observation_slots]
        if planning.behaviour == "imitation":
            ahead = (planning.horizon - 1) * model.slots + model.action_slots
            found = likeliest(model, symbols, ahead, planning.beam_width, front)[:, : model.action_slots]
        else:
            worth = self._worth(batch, timesteps[:, -1]) if planning.behaviour == "value" else None
            found = best_actions(model, symbols, planning, worth, self.normalization.return_scale, front)
        return self._actions_of(found)

    def _actions_of(self, symbols: Int[Tensor, "*batch action_slots"]) -> Float[Tensor, "*batch action_dim"]:
        """Return actions as networks read them: numbers in [-1, 1], or one-hot."""
        if self.model.shape.discrete:
            return functional.one_hot(symbols[..., 0], self.model.shape.action_dim).float()
        return self.model.numbers(symbols, self.model.observation_slots)

    def _worth(self, batch: SequenceBatch, present: Int[Tensor, "batch slots"]) -> Worth:
        """Return Q(s, a) of symbols, reward units; of the present observation as it is, not as its bins have it."""
        assert self.functions is not None  # __init__ saw to it
        functions, slots = self.functions, self.model.observation_slots

        def worth(
            observations: Int[Tensor, "batch branches observation_slots"],
            actions: Int[Tensor, "batch branches action_slots"],
        ) -> Float[Tensor, "batch branches"]:
            now = (observations == present[:, None, :slots]).all(-1, keepdim=True)
            states = torch.where(now, batch.observations[:, -1:], self.model.numbers(observations, 0))
            taken = self._actions_of(actions)
            inputs = functions.normalization.from_units_of(self.normalization, states.flatten(0, 1))
            q = functions.q(inputs, taken.flatten(0, 1)).amin(0)
            return functions.reward_units(q).view(now.shape[:2])

        return worth


def _newest(batch: SequenceBatch, count: int) -> SequenceBatch:
    """Return the newest timesteps of every window."""
    columns = {name: column for name, column in vars(batch).items() if name != "goals"}
    return SequenceBatch(**{name: column[:, -count:] for name, column in columns.items()}, goals=batch.goals)
