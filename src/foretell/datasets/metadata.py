"""What a dataset says of itself beside its timesteps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from foretell.core.errors import UsageError
from foretell.core.scores import checked_references

IMAGINED_FROM = "imagined_from"
"""Of imagined data, the hyperparameter that holds the fingerprint of what their world was learned from."""


@dataclass(frozen=True, kw_only=True)
class DatasetMetadata:
    """Where the data come from; lies under `metadata/` in the file.

    `seed` is the root seed of the collection. `hyperparameters` and `versions` are stored as JSON. `reference_scores`
    are the mean returns (reward units) of random acting and of an expert in the environment, which cards and reports
    call 0 and 100. `extra` keeps every other array of that group under its path there: `policy/...` are the weights of
    the agent that acted.
    Raises `UsageError` for texts that are none, and for scores that are no two numbers apart.
    """

    environment: str | None = None
    algorithm: str | None = None
    seed: int | None = None
    description: str = ""
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    reference_scores: tuple[float, float] | None = None
    extra: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("environment", "algorithm", "description"):
            if not isinstance(getattr(self, name), str | None):
                raise UsageError(f"metadata: {name} is {getattr(self, name)!r}; expected a text.")
        if self.reference_scores is not None:
            found = checked_references(self.reference_scores, "metadata: reference_scores")
            object.__setattr__(self, "reference_scores", found)

    @property
    def policy_weights(self) -> dict[str, np.ndarray]:
        """Weights of the behaviour policy by tensor name; empty where the file keeps none."""
        return {name.removeprefix("policy/"): v for name, v in self.extra.items() if name.startswith("policy/")}
