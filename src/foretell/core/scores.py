"""The normalised score that D4RL made common (Fu et al. 2020, appendix)."""

from __future__ import annotations


def normalized_score(score: float, *, random: float, expert: float) -> float:
    r"""Score on a scale where the random policy is 0 and the reference agent 100.

    $100 \cdot (x - x_{random}) / (x_{expert} - x_{random})$. All three in the environment's reward units.

    >>> normalized_score(-150.0, random=-1230.0, expert=-150.0)
    100.0
    """
    return 100.0 * (score - random) / (expert - random)
