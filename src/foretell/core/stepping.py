"""What a policy may be given by whoever steps it; every policy checks it with these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, SupportsFloat

import numpy as np

from foretell.core.decimals import counted
from foretell.core.errors import DatasetError, UsageError
from foretell.core.numbers import as_array

LARGEST = float(np.finfo(np.float32).max)
"""Networks compute in float32; of a larger number they would make an infinite one."""
OF_PARTS = "Of several parts (a Dict or Tuple), wrap the environment: foretell.FlattenedObservations(env)."
"""How to mend observations that are a mapping or a sequence of arrays."""

Rewards = Sequence[SupportsFloat] | np.ndarray
"""What policies take as rewards, one for each environment: those of Gymnasium are anything that `float` takes."""

TargetReturn = float | Sequence[float] | np.ndarray | None
"""What policies are asked for: one for all environments or one for each, reward units; None for their own rule."""

Actions = Sequence[Any] | np.ndarray | None
"""What an environment took in the place of what `act` said, one for each; None where it took just that."""

Where = Sequence[bool] | np.ndarray
"""Which of several environments: one bool for each."""


def sizes_in_words(observation_shape: Sequence[int], action_dim: int, continuous: bool) -> str:
    """Return the shapes of what a policy sees and does.

    >>> sizes_in_words([3], 1, True), sizes_in_words([4], 2, False)
    ('[3] and 1 action dimension', '[4] and 2 choices of action')
    """
    dimensions, choices = counted(action_dim, "action dimension"), counted(action_dim, "choice")
    actions = dimensions if continuous else f"{choices} of action"
    return f"{list(observation_shape)} and {actions}"


def checked_count(num_envs: Any) -> int:
    """Return `num_envs`. Raises `UsageError` where it is no whole number of 1 or more."""
    if isinstance(num_envs, bool) or not isinstance(num_envs, int | np.integer) or num_envs < 1:
        raise UsageError(f"num_envs is {num_envs!r}; expected a whole number of 1 or more.")
    return int(num_envs)


def checked_where(where: Any, num_envs: int, running: int) -> np.ndarray:
    """Return which of `num_envs` environments begin anew, of `running` that act already: all where `where` is None.

    Raises `UsageError` where it is not one bool for each environment, or another number of them acts.
    """
    if where is None:
        return np.ones(num_envs, bool)
    found = as_read("where", where)
    if found.shape != (num_envs,) or found.dtype != bool:
        raise UsageError(
            f"where is of shape {found.shape} and type {found.dtype}; expected ({num_envs},) bool, True where an "
            "episode begins anew."
        )
    if running != num_envs:
        expected = f"the {running} that act" if running else "a reset without where first"
        raise UsageError(f"num_envs is {num_envs}; with where, expected {expected}.")
    return found


def untold_count(num_envs: Any, target_return: Any, where: Any = None) -> int:
    """Return `num_envs`, for a policy without a target. Raises as `checked_count`, and `UsageError` for a target."""
    if target_return is not None:
        raise UsageError(
            f"target_return is {target_return!r}; this policy takes none, and acts the same whatever it is asked for. "
            "Leave it out."
        )
    count = checked_count(num_envs)
    checked_where(where, count, count)
    return count


def as_read(what: str, values: Any) -> np.ndarray:
    """Return `values` as an array. Raises `UsageError` where NumPy cannot read them as one."""
    return np.asarray(as_array(values, what, UsageError))


def checked_numbers(what: str, values: Any, single: tuple[int, ...], count: int | None = None) -> np.ndarray:
    """Return `values` as an array: for each of `count` episodes (None: of any number) numbers of the shape `single`.

    Raises `UsageError` where they are no numbers or of another shape, `DatasetError` where one of them is not finite: a
    network would act on it, and nobody would notice.
    """
    found = as_read(what, values)
    if found.dtype == object:
        parts = isinstance(values, Mapping | tuple) and len(single) > 0
        raise UsageError(
            f"{what} are a {type(values).__name__} that is no array of numbers; expected one.{f' {OF_PARTS}' * parts}"
        )
    if found.ndim != 1 + len(single) or found.shape[1:] != single or count not in (None, len(found)):
        expected = ", ".join(map(str, ("num_envs" if count is None else count, *single)))
        raise UsageError(f"{what} of shape {found.shape}; expected ({expected}), one for each episode.")
    if found.dtype.kind not in "fiub":
        raise UsageError(f"{what} of type {found.dtype}; expected numbers.")
    if found.dtype.kind == "f" and not (np.abs(found) <= LARGEST).all():
        bad = tuple(np.argwhere(~(np.abs(found) <= LARGEST))[0])
        raise DatasetError(
            f"{what} hold {found[bad]} in episode {int(bad[0])}; expected finite numbers. Mend the environment; of an "
            "episode that has ended, give the last observation again, with reward 0."
        )
    return found
