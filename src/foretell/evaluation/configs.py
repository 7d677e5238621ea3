"""Settings of acting; free of torch, so that the command line can show them at once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from foretell.core.decimals import counted
from foretell.core.errors import UsageError
from foretell.core.settings import check_at_least_one, check_not_negative, check_settings

Behaviour = Literal["auto", "imitation", "expectation", "median", "return", "value"]


@dataclass(frozen=True, kw_only=True)
class PlanningConfig:
    """Beam search with a Trajectory Transformer (Janner et al. 2021, Algorithm 1 and section 3.2)."""

    behaviour: Behaviour = "auto"
    """imitation: the likeliest continuation. expectation, median: the mean action or the middle one, without search.
    return: the largest sum of rewards and return-to-go, all predicted. value: the same with learned value functions in
    place of the return-to-go. auto: what the condition names, imitation where that is nothing; median of a model that
    is `told`."""
    horizon: int = 1
    """Timesteps planned ahead, the present one among them; the rest of the window's context is the past."""
    beam_width: int = 32
    """Continuations that are kept after every timestep."""
    expansion: int = 2
    """Actions that are drawn to continue each of them, except for imitation, which looks at all."""
    action_top_k: int | None = None
    """Draw actions among so many likeliest symbols; None among all."""
    action_percentile: float | None = None
    """Draw actions among the likeliest symbols that have at least this probability together, 0 to 1; None among all."""
    observation_top_k: int | None = 1
    """Draw observations among so many likeliest symbols; 1 takes the likeliest, None draws among all."""
    observation_percentile: float | None = None
    """As `action_percentile`, for observations."""
    discount: float = 0.99
    """What a reward one timestep later is worth."""
    goal: tuple[float, ...] = ()
    """Observation to be reached, environment units: for runs with goals, which need one."""
    seed: int = 0
    """Seed of what is drawn, a function of seed, timestep of the plan and symbol: the same for every environment."""

    def __post_init__(self) -> None:
        check_settings(self)
        check_not_negative(self, "seed")
        check_at_least_one(self, "horizon", "beam_width", "expansion", "action_top_k", "observation_top_k")
        for name in ("action_percentile", "observation_percentile", "discount"):
            if (found := getattr(self, name)) is not None and not 0 < found <= 1:
                raise UsageError(f"{name} is {found}; expected more than 0 and at most 1.")
        if not all(map(math.isfinite, self.goal)):
            raise UsageError(f"goal is {self.goal}; expected finite numbers.")


@dataclass(frozen=True, kw_only=True)
class ChunkingConfig:
    """Acting with an encoder-decoder, which writes several actions at once."""

    actions_taken: int = 1
    """m: how many of the H actions that are written at once are taken; 1 writes anew after every timestep."""

    def __post_init__(self) -> None:
        check_settings(self)
        check_at_least_one(self, "actions_taken")


@dataclass(frozen=True, kw_only=True)
class ValueActingConfig:
    """Acting on value functions, by the policy that was learned beside them or without one."""

    greedy: bool = False
    """Take the action of the largest Q, for data whose actions cover what can be done (`values.acting.GreedyPolicy`);
    else imitate the data's actions, the good ones more."""

    def __post_init__(self) -> None:
        check_settings(self)


ActingConfig = PlanningConfig | ChunkingConfig
ACTING: dict[str, type[PlanningConfig] | type[ChunkingConfig]] = {
    "trajectory-transformer": PlanningConfig,
    "encoder-decoder": ChunkingConfig,
}
"""Settings of acting by the network's name; the others act in the one way there is (`ConditionedPolicy`)."""


def check_planning(planning: PlanningConfig, *, context_length: int, goals: bool, told: bool) -> None:
    """Raise `UsageError` where a Trajectory Transformer of this window cannot plan so."""
    if told and planning.behaviour == "return":
        raise UsageError(
            "behaviour return: the run is told what to earn and foretells no return; expected auto, median, "
            "expectation, imitation, or value where it has value functions."
        )
    if planning.horizon > context_length:
        raise UsageError(
            f"horizon {planning.horizon} is longer than the window of {counted(context_length, 'timestep')} that the "
            "run was trained on; plan less far, or train with a longer context."
        )
    if bool(planning.goal) != goals:
        raise UsageError(
            f"goal {planning.goal}: the run was trained {'with' if goals else 'without'} goals; "
            f"expected {'an observation' if goals else 'none'}."
        )


def check_chunking(chunking: ChunkingConfig, *, horizon: int) -> None:
    """Raise `UsageError` where more actions are to be taken than are written."""
    if chunking.actions_taken > horizon:
        raise UsageError(
            f"actions_taken is {chunking.actions_taken}; the model writes {counted(horizon, 'action')} at once."
        )


def acting_settings(algorithm: str, given: ActingConfig | None) -> ActingConfig | None:
    """Return the settings of acting with a network: those given, or the defaults; None where it has none.

    Raises `UsageError` for settings of another network.
    """
    kind = ACTING.get(algorithm)
    if given is not None and (kind is None or not isinstance(given, kind)):
        raise UsageError(
            f"acting is {type(given).__name__}; {algorithm} takes {kind.__name__ if kind else 'no such settings'}."
        )
    return given or (kind() if kind else None)
