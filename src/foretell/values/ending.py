"""What ends an episode, learned from what the observations were that ended one."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from foretell.core.errors import DivergedError
from foretell.core.variation import deviation_and_variation

PRIOR = 1e-6
"""Squared weights cost this much, per timestep as the errors do: enough to keep separable data finite."""
LARGEST_OBSERVATION = 32
"""Components above which only the components themselves are read, not their products."""
STEPS = 100
"""Newton steps at most; some ten are needed."""


class Ending:
    """Whether an observation is one that terminates: logistic regression on components and products of two.

    Tasks end where something leaves a range, falls or touches: a bound on components or squares. Never, where the data
    have no termination. Raises `DivergedError` where the numbers stop being finite.
    """

    def __init__(self, observations: Float[np.ndarray, "rows obs_dim"], ended: Bool[np.ndarray, " rows"]):
        self.mean, self.scale = observations.mean(0), deviation_and_variation(observations)[0]
        self.weights: np.ndarray | None = None
        if ended.any():
            self.weights = _logistic_regression(self._terms(observations), ended)

    def __call__(self, observations: Float[np.ndarray, "rows obs_dim"]) -> Bool[np.ndarray, " rows"]:
        """Return whether termination is the likelier answer."""
        if self.weights is None:
            return np.zeros(len(observations), bool)
        return self._terms(observations) @ self.weights > 0

    def _terms(self, observations: np.ndarray) -> np.ndarray:
        numbers = (observations - self.mean) / self.scale
        columns = [np.ones((len(numbers), 1)), numbers]
        if numbers.shape[1] <= LARGEST_OBSERVATION:
            first, second = np.triu_indices(numbers.shape[1])
            columns.append(numbers[:, first] * numbers[:, second])
        return np.concatenate(columns, 1)


def _logistic_regression(terms: Float[np.ndarray, "rows terms"], ended: Bool[np.ndarray, " rows"]) -> np.ndarray:
    """Minimise the mean cross-entropy plus `PRIOR` / 2 times the squared weights, by Newton with shorter steps."""
    signs = np.where(ended, 1.0, -1.0)

    def loss(weights: np.ndarray) -> float:
        return float(np.logaddexp(0, -signs * (terms @ weights)).mean() + 0.5 * PRIOR * weights @ weights)

    weights = np.zeros(terms.shape[1])
    found = loss(weights)
    for _ in range(STEPS):
        chances = 1 / (1 + np.exp(-np.clip(terms @ weights, -500, 500)))
        gradient = terms.T @ (chances - ended) / len(terms) + PRIOR * weights
        curvature = (terms.T * (chances * (1 - chances))) @ terms / len(terms) + PRIOR * np.eye(len(weights))
        step, share = np.linalg.solve(curvature, gradient), 1.0
        while loss(weights - share * step) > found and share > 1e-6:
            share /= 2
        weights, before, found = weights - share * step, found, loss(weights - share * step)
        if not np.isfinite(found):
            raise DivergedError("dynamics: what terminates cannot be learned; run `foretell inspect` on the data.")
        if before - found < 1e-9:
            break
    return weights
