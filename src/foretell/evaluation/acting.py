"""From a network to the policy that acts with it."""

from __future__ import annotations

from foretell.core.errors import UsageError
from foretell.evaluation.chunked import ChunkingPolicy
from foretell.evaluation.conditioned import ConditionedPolicy
from foretell.evaluation.configs import ActingConfig, ChunkingConfig, PlanningConfig, check_chunking, check_planning
from foretell.evaluation.planned import PlanningPolicy
from foretell.models.configs import EncoderDecoderConfig, ModelConfig, TrajectoryTransformerConfig
from foretell.models.encoder_decoder import EncoderDecoder
from foretell.models.interface import SequenceModel
from foretell.models.trajectory_transformer import TrajectoryTransformer
from foretell.sequences.conditions import NEEDS_VALUES, Condition
from foretell.sequences.normalization import Normalization
from foretell.values.asking import Asking
from foretell.values.functions import ValueFunctions


def check_acting(model: ModelConfig, acting: ActingConfig | None, condition: Condition) -> None:
    """Raise `UsageError` where a network of these settings could not act so, before it is trained."""
    if isinstance(acting, PlanningConfig) and isinstance(model, TrajectoryTransformerConfig):
        check_planning(acting, context_length=model.context_length, goals=model.goals, told=model.told)
        if model.told and condition == "none":
            raise UsageError("told: condition none tells nothing; expected --condition return, value or advantage.")
        if acting.behaviour == "value" and condition not in NEEDS_VALUES:
            raise UsageError(
                "behaviour value: the run has no value functions; train it with --condition value or advantage."
            )
    if isinstance(acting, ChunkingConfig) and isinstance(model, EncoderDecoderConfig):
        check_chunking(acting, horizon=model.horizon)


def acting_policy(
    model: SequenceModel,
    normalization: Normalization,
    asking: Asking,
    acting: ActingConfig | None,
    condition: Condition,
    functions: ValueFunctions | None = None,
) -> ConditionedPolicy:
    """Return what acts with the network under its settings; None where the network has none (`configs.ACTING`)."""
    if isinstance(model, TrajectoryTransformer) and isinstance(acting, PlanningConfig):
        return PlanningPolicy(model, normalization, asking, acting, condition, functions)
    if isinstance(model, EncoderDecoder) and isinstance(acting, ChunkingConfig):
        return ChunkingPolicy(model, normalization, asking, acting)
    return ConditionedPolicy(model, normalization, asking)
