"""Rows that hold no timestep: those that others keep at an end of each episode, for the sake of an observation."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from foretell.datasets.dataset import Dataset
from foretell.datasets.findings import Finding, spread, warning

ENOUGH = 5
"""Fewer episodes tell nothing: a policy may rest at the end of each."""
RARE = 0.01
"""Up to this share of the other rows may have an action of 0 as well."""
SAMPLE = 50_000
"""Rows, evenly spread, that are held against the first and the last ones."""


def padding(dataset: Dataset) -> Iterator[Finding]:
    """First or last rows of episodes whose action and reward are 0, as those of hardly any other row are.

    RLDS has a step behind the last action, and dm_env one before the first reward. Choices are not looked at: 0 is one.
    """
    if dataset.discrete or dataset.num_episodes < ENOUGH:
        return
    firsts, lasts = dataset.episode_starts, dataset.episode_ends - 1
    others = np.setdiff1d(spread(dataset.num_steps, SAMPLE), np.concatenate([firsts, lasts]))
    if not len(others) or _still(dataset, others).mean() > RARE:
        return
    terminal = lasts[np.asarray(dataset.terminations)[lasts]]
    for which, rows in (("", lasts), (" that terminate", terminal)):
        if len(rows) >= ENOUGH and _empty(dataset, rows):
            yield warning("padding", f"the last timesteps of all {len(rows):,} episodes{which} have action 0 and "
                          "reward 0, as hardly any other has: steps behind the end, as RLDS keeps them? Leave them "
                          "out, and keep their observations as final ones.")  # fmt: skip
            return
    if _empty(dataset, firsts) and (np.asarray(dataset.rewards)[others] == 0).mean() <= RARE:
        yield warning("padding", f"the first timesteps of all {len(firsts):,} episodes have action 0 and reward 0, as "
                      "hardly any other has: are actions and rewards kept with the observation that they led to, as "
                      "dm_env does? Move both up by a row within each episode.")  # fmt: skip


def _still(dataset: Dataset, rows: np.ndarray) -> np.ndarray:
    return np.asarray((dataset.actions[rows] == 0).all(axis=1))


def _empty(dataset: Dataset, rows: np.ndarray) -> bool:
    return bool(_still(dataset, rows).all() and (np.asarray(dataset.rewards)[rows] == 0).all())
