"""Which environment belongs to a dataset or a run, and whether the two fit."""

from __future__ import annotations

from typing import Any

from foretell.core.errors import DatasetError, UsageError
from foretell.datasets.dataset import Dataset
from foretell.datasets.doctor import diagnose
from foretell.environments.making import EnvironmentSpec, environment_spec, stored_environment_spec


def environment_of(data: Dataset, environment: str | None) -> EnvironmentSpec:
    """Return the environment asked for, or the one that the data name, or what the data themselves show."""
    if environment:
        return environment_spec(environment)
    if named := stored_environment_spec(data.metadata.environment):
        return named
    if data.discrete:
        low = high = None
    else:
        low, high = tuple(map(float, data.actions.min(axis=0))), tuple(map(float, data.actions.max(axis=0)))
    return EnvironmentSpec(
        name="", observation_shape=data.observation_shape, action_dim=data.action_dim, action_low=low,
        action_high=high, num_actions=data.num_actions, horizon=None,
    )  # fmt: skip


def refuse_unfit(data: Dataset, spec: EnvironmentSpec) -> None:
    """Raise `DatasetError` for data that training must not meet."""
    for finding in diagnose(data, spec if spec.name else None):
        if finding.severity == "error":
            raise DatasetError(f"{data.path or data.name}: {finding.message}")


def same_shapes(config: dict[str, Any], environment: str | None) -> EnvironmentSpec:
    """Return where a run is to be evaluated. Raises `UsageError` where its shapes differ from the run's."""
    trained = config["environment"]
    name = environment or trained["name"]
    if not name:
        raise UsageError("the run's dataset names no environment; say which with --environment.")
    spec = environment_spec(name)
    seen = config.get("shape", trained)["observation_shape"]
    found = (list(spec.observation_shape), spec.action_dim, spec.num_actions is None)
    expected = (list(seen), trained["action_dim"], trained["num_actions"] is None)
    if found != expected:
        raise UsageError(
            f"{name} has observations {_in_words(*found)}; the run was trained for {_in_words(*expected)}. "
            "Evaluate it where it was trained."
        )
    return spec


def _in_words(observation_shape: list[int], action_dim: int, continuous: bool) -> str:
    plural = "" if action_dim == 1 else "s"
    actions = f"{action_dim} action dimension{plural}" if continuous else f"{action_dim} choices of action"
    return f"{observation_shape} and {actions}"
