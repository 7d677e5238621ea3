"""Returns that are asked for and that no episode of the data has, and returns that all episodes have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from foretell.core.decimals import counted
from foretell.core.warning import warn_caller
from foretell.datasets.dataset import Dataset


def warn_of_unseen(targets: list[float], dataset: Mapping[str, Any]) -> None:
    """Warn of target returns (reward units) outside those of the data, of which `dataset` says what a run's
    configuration does."""
    low, high = dataset["lowest_return"], dataset["highest_return"]
    rounding = 1e-6 * max(abs(low), abs(high))  # rewards are float32
    if unseen := [f"{target:g}" for target in targets if not low - rounding <= target <= high + rounding]:
        warn_caller(
            f"target return{' ' if len(unseen) == 1 else 's '}{', '.join(unseen)} "
            f"{'is' if len(unseen) == 1 else 'are'} outside the returns in "
            f"{dataset['name']}, {low:g} to {high:g}; the "
            "nearest that the data have at each timestep is asked for."
        )  # fmt: skip


def warn_of_one_return(dataset: Dataset) -> None:
    """Warn that a model is told the return where all episodes earn the same, in whatever way; where the reward is
    always the same, the doctor has said it."""
    returns = dataset.episode_returns()
    alike = len(returns) > 1 and np.ptp(returns) <= 1e-6 * np.abs(returns).max()
    if alike and dataset.rewards.min() != dataset.rewards.max():
        warn_caller(
            f"every episode of {dataset.name} earns the same, {returns[0]:g}: being told the return tells a model "
            "nothing, and all of it is imitated. Condition none does the same; advantage learns what earns it sooner."
        )


def of_best(dataset: Dataset, episodes: np.ndarray) -> dict[str, Any]:
    """Return name, lowest and highest return of some episodes, those that are learned from."""
    returns = dataset.episode_returns()[episodes]
    return {
        "name": f"the best {counted(len(episodes), 'episode')} of {dataset.name}",
        "lowest_return": float(returns.min()), "highest_return": float(returns.max()),
    }  # fmt: skip
