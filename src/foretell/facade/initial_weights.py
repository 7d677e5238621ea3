"""The weights of a finished run as the beginning of another: to train it further, or on other data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from foretell.core.decimals import counted
from foretell.core.errors import UsageError
from foretell.core.files import sha256_of
from foretell.core.run_settings import as_json, differences
from foretell.core.warning import warn_caller
from foretell.datasets.doctor_values import RANGE_TOLERANCE
from foretell.datasets.findings import some_rows
from foretell.evaluation.policies import ASKED
from foretell.facade.source import Source
from foretell.models.configs import ModelConfig, SequenceShape
from foretell.models.interface import SequenceModel
from foretell.sequences.normalization import Normalization
from foretell.training.run_folder import load_run

LOOKED_AT = 100
"""Images that tell the scale of all."""


@dataclass(frozen=True, kw_only=True, eq=False)
class InitialWeights:
    """What a network begins with. Its units stay those of the run: weights mean nothing in others."""

    path: Path
    config: Mapping[str, Any]
    weights: Mapping[str, Tensor]
    digest: str

    @classmethod
    def of(cls, path: str | Path) -> InitialWeights:
        """Read a finished run. Raises `CheckpointError` where it is none, `UsageError` for one without a network."""
        config, tensors = load_run(Path(path))
        if config.get("kind") != "sequence":
            raise UsageError(
                f"{path}: a run of {config.get('algorithm')}; expected one of a network that reads sequences."
            )
        weights = {name: tensor for name, tensor in tensors.items() if not name.startswith(ASKED)}
        digest = sha256_of(Path(path) / "model.safetensors")
        return cls(path=Path(path), config=config, weights=weights, digest=digest)

    @property
    def normalization(self) -> Normalization:
        """The units that the weights were learned in."""
        return Normalization.from_json(self.config["normalization"])

    def fitted(self, algorithm: str, condition: str, model: ModelConfig, shape: SequenceShape) -> SequenceShape:
        """Return the shape with as many timesteps as the run has.

        Raises `UsageError` where the run is of another network, is told otherwise or has other shapes, or where an
        episode may last longer than it has timesteps.
        """
        there = self.config["shape"]["max_timesteps"]
        asked = as_json(
            {
                "algorithm": algorithm, "condition": condition, "model": asdict(model),
                "shape": asdict(replace(shape, max_timesteps=there)),
            }
        )  # fmt: skip
        if different := differences(self.config, asked):
            raise UsageError(
                f"{self.path}: its weights are of another network ({different}); expected the same one. Give its "
                "settings."
            )
        if shape.max_timesteps > there:
            raise UsageError(
                f"{self.path}: it was trained for episodes of up to {counted(there, 'timestep')}, here are "
                f"{shape.max_timesteps:,}; expected no more. Train a network of its own."
            )
        return replace(shape, max_timesteps=there)

    def check_actions(self, source: Source) -> None:
        """Hold the run's range of actions, which is kept, against what the environment takes and the data hold.

        Raises `UsageError` where it goes beyond the environment's; warns where the data go beyond it.
        """
        kept = self.normalization.action_range
        if kept is None or source.data.discrete:
            return
        low, high = np.asarray(kept.low), np.asarray(kept.high)
        room = RANGE_TOLERANCE * (high - low)
        acts = f"{self.path}: it acts from {low.tolist()} to {high.tolist()}, which its weights keep"
        limits = source.normalization.action_range if source.spec.name else None
        if limits and ((low < limits.low - room) | (high > limits.high + room)).any():
            raise UsageError(
                f"{acts}; {source.spec.name} takes actions from {list(limits.low)} to {list(limits.high)}. Train a "
                "network of its own."
            )
        actions = source.data.actions
        if ((actions.min(axis=0) < low - room) | (actions.max(axis=0) > high + room)).any():
            warn_caller(
                f"{acts}; {source.data.name} has actions beyond that, which it will never take. Train a network of its "
                "own for those."
            )  # fmt: skip

    def check_images(self, source: Source) -> None:
        """Warn of images on another scale than those whose units the weights keep."""
        if doubt := self.normalization.doubt_of_images(some_rows(source.data.observations, LOOKED_AT)):
            warn_caller(f"{self.path}: its weights keep their units. {doubt[0].upper()}{doubt[1:]}")

    def load_into(self, network: SequenceModel) -> None:
        """Put the weights in the place of those that were drawn, and of what was measured on the data."""
        network.load_state_dict(dict(self.weights))
