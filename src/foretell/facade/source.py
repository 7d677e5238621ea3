"""The data of a run, with the environment and the normalisation that belong to them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from foretell.core.decimals import counted
from foretell.core.errors import UsageError
from foretell.core.launching import launch
from foretell.core.progress import silent
from foretell.core.stopping import heeding
from foretell.core.warning import warn_caller
from foretell.datasets.d4rl import refuse_ends
from foretell.datasets.dataset import Dataset
from foretell.datasets.doctor_values import RANGE_TOLERANCE
from foretell.datasets.metadata import IMAGINED_FROM
from foretell.datasets.registry import open_dataset, openable
from foretell.environments.making import EnvironmentSpec
from foretell.evaluation.protocol import Policy, evaluate, validation_starts
from foretell.facade.environments import environment_of, refuse_divided_images, refuse_unfit
from foretell.sequences.normalization import Normalization
from foretell.sequences.scaling import ActionRange
from foretell.training.loop import Evaluate


@dataclass(frozen=True, kw_only=True)
class Source:
    """The data of a run with what belongs to them."""

    data: Dataset
    spec: EnvironmentSpec
    normalization: Normalization

    @classmethod
    def of(
        cls, dataset: str | Path | Dataset, environment: str | None, horizon: int | None, limits: ActionRange | None,
        ends_at: str | None = None,
    ) -> Source:  # fmt: skip
        """Open and check the data; `limits` override the environment's action range.

        Raises `DatasetError` for data that training must not meet, `UsageError` for a `horizon`, `ends_at` or `limits`
        without effect, and for limits of another number of components.
        """
        if not isinstance(dataset, Dataset) and not openable(dataset):
            raise UsageError(
                f"dataset is of type {type(dataset).__name__}; expected the path of a file, or what open_dataset "
                "gives. write_d4rl makes a file of episodes."
            )
        if isinstance(dataset, Dataset):
            refuse_ends(horizon, ends_at, f"{dataset.name} is open, and its episodes are known")
        data = dataset if isinstance(dataset, Dataset) else open_dataset(
            dataset, horizon=horizon, environment=environment, ends_at=ends_at
        )  # fmt: skip
        spec = environment_of(data, environment)
        refuse_unfit(data, spec)
        action_range = None
        if limits is not None:
            _check_limits(limits, data)
        if not data.discrete:
            action_range = limits or ActionRange(low=spec.action_low or (), high=spec.action_high or ())
        return cls(data=data, spec=spec, normalization=Normalization.fit(data, action_range))

    def config(self) -> dict[str, Any]:
        """Return what `config.json` says of the data."""
        data, returns = self.data, self.data.episode_returns()
        origin, ends = data.metadata.hyperparameters.get(IMAGINED_FROM), data.metadata.reference_scores
        return {
            "environment": asdict(self.spec),
            "dataset": {"name": data.name, "fingerprint": data.fingerprint(), "steps": data.num_steps,
                        "episodes": data.num_episodes, "lowest_return": float(returns.min()),
                        "highest_return": float(returns.max()), **({IMAGINED_FROM: origin} if origin else {}),
                        **({"reference_scores": list(ends)} if ends else {})},
            "normalization": self.normalization.to_json(),
        }  # fmt: skip

    def check_evaluable(self, flag: str, root_seed: int, episodes: int) -> None:
        """Raise `UsageError` where the run cannot be evaluated on the way; `flag` is what asked for it."""
        data, spec = self.data, self.spec
        validation_starts(root_seed, episodes)
        if not spec.name:
            name = data.metadata.environment
            why = f"{name}, which the data name, cannot be made" if name else "the data name none"
            raise UsageError(f"{flag} needs an environment; {why}. Give --environment, or 0.")
        if data.observation_shape != spec.observation_shape:
            raise UsageError(
                f"{data.name} has observations of shape {data.observation_shape}, {spec.name} of "
                f"{spec.observation_shape}: nothing can be evaluated there. Give {flag} 0."
            )
        refuse_divided_images(self.normalization, spec)

    def validation(self, policy: Policy, root_seed: int, episodes: int) -> Evaluate:
        """Return what measures a policy on validation starts; a stop ends it, but for processes that stop together."""
        starts = validation_starts(root_seed, episodes)
        progress = heeding() if launch().count == 1 else silent

        def measure() -> dict[str, float]:
            outcome = evaluate(policy, self.spec.name, starts, progress=progress)
            return {"mean_return": outcome.mean_return, "episodes": len(starts)}

        return measure


def _check_limits(limits: ActionRange, data: Dataset) -> None:
    """Raise `UsageError` where actions cannot have these limits; warn where some of the data's are beyond them."""
    if data.discrete:
        raise UsageError(f"action_range: the actions of {data.name} are choices, which have none; leave it out.")
    low, high = np.asarray(limits.low), np.asarray(limits.high)
    if len(low) != data.action_dim or not np.isfinite([low, high]).all():
        raise UsageError(
            f"action_range from {list(limits.low)} to {list(limits.high)}; expected "
            f"{counted(data.action_dim, 'finite number')} in both, as many as actions of {data.name} have components."
        )
    room = RANGE_TOLERANCE * (high - low)
    if ((data.actions.min(axis=0) < low - room) | (data.actions.max(axis=0) > high + room)).any():
        warn_caller(
            f"action_range from {list(limits.low)} to {list(limits.high)}: {data.name} has actions beyond that, which "
            "the model is shown and will never take."
        )  # fmt: skip
