"""What a model is told at every timestep, and what a policy asks for: chosen from the data alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Float32

from foretell.core.errors import UsageError
from foretell.core.settings import number
from foretell.core.stepping import LARGEST
from foretell.sequences.conditions import Condition, Target

RETURN_QUANTILE = 0.75
"""The default target is a return that one episode in four of the data exceeds from the same start state: good, and
within the data's support."""
ADVANTAGE_QUANTILE = 0.98
"""The default advantage: an action that is better than 98 in 100 of those that the data take in its state."""
EMPHASIZED_QUANTILE = 0.8
"""Under the condition `advantage` half of the windows end at a timestep whose action is at least this good: it is they
that are asked for later, and one timestep in five is few to learn a sharp switch from."""


@dataclass(frozen=True, kw_only=True)
class Telling:
    """How numbers become what the model is told (`SequenceBatch.returns_to_go`), in the networks' units.

    Returns are divided by `scale` (reward units); rewards that are earned are taken off them. The quantile of an
    advantage, 0 to 1, becomes -1 to 1, and stays what it is.
    """

    condition: Condition
    scale: float = 1.0

    def units(self, values: np.ndarray) -> Float32[np.ndarray, "*shape"]:
        """Return `values` in the networks' units.

        >>> Telling(condition="return", scale=100.0).units(np.array([-250.0]))
        array([-2.5], dtype=float32)
        >>> Telling(condition="advantage").units(np.array([0.0, 0.75]))
        array([-1. ,  0.5], dtype=float32)
        """
        values = np.asarray(values, np.float64)
        return (2 * values - 1 if self.condition == "advantage" else values / self.scale).astype(np.float32)

    def check(self, target: np.ndarray) -> None:
        """Raise `UsageError` where `target` cannot be asked for: not finite, no quantile, nothing to be told."""
        if self.condition == "none":
            raise UsageError(
                f"target {target}: behaviour cloning is told nothing, nor are planners; leave the target out."
            )
        if not (np.abs(target) <= LARGEST).all():
            raise UsageError(f"target {target}; expected finite numbers in reward units.")
        if self.condition == "advantage" and not ((target >= 0) & (target <= 1)).all():
            raise UsageError(f"target {target}: an advantage is asked for by its quantile; expected 0 to 1.")

    @property
    def spent(self) -> bool:
        """Whether the rewards that come are taken off the target."""
        return self.condition in ("return", "value")


def given_target(target: Any) -> float | None:
    """Return the number that is to be asked for; None of "auto". Raises `UsageError` for anything else."""
    if isinstance(target, str):
        if target == "auto":
            return None
        raise UsageError(f"target {target!r}; expected a number, or 'auto' for a rule from the data alone.")
    single = not isinstance(target, int | float) and getattr(target, "ndim", None) == 0  # NumPy's or PyTorch's
    return float(number("target", target.item() if single else target))


def target_rule(condition: Condition, target: Target, *, images: bool = False) -> dict[str, Any]:
    """Return the rule of a run as `config.json` has it; no environment is consulted, no evaluation start looked at.

    >>> target_rule("return", "auto")
    {'rule': 'learned quantile 0.75 of the return given the start state', 'return': None}
    """
    if (given := given_target(target)) is not None:
        Telling(condition=condition).check(np.asarray(given))
        return {"rule": "given", "return": given}
    if condition == "none":
        rule = "nothing is asked for"
    elif condition == "advantage":
        rule = f"quantile {ADVANTAGE_QUANTILE:g} of the advantage among the data's actions in each state"
    else:
        what = {"return": "return", "value": "relabelled return"}[condition]
        start = "" if images else " given the start state"
        rule = f"{'' if images else 'learned '}quantile {RETURN_QUANTILE:g} of the {what}{start}"
    return {"rule": rule, "return": None}


def check_share(share: float) -> None:
    """Raise `UsageError` where `share` is no share of the episodes."""
    if not 0 < share <= 1:
        raise UsageError(f"best share {share}; expected more than 0 and at most 1.")


def best_episodes(scores: Float[np.ndarray, " episodes"], share: float) -> np.ndarray:
    """Return the indices of the best `share` of the episodes, at least one, ascending; of equals the earlier.

    >>> best_episodes(np.array([1.0, 5.0, 3.0, 2.0]), 0.5)
    array([1, 2])
    """
    check_share(share)
    count = max(1, round(share * len(scores)))
    return np.sort(np.argsort(-np.asarray(scores), kind="stable")[:count])
