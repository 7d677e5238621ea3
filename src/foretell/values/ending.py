"""What ends an episode, learned from what the observations were that ended one."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

from foretell.core.errors import DivergedError
from foretell.core.variation import deviation_and_variation

PRIOR = 1e-6
"""Squared weights cost this much, per timestep as the errors do: enough to keep separable data finite."""
LARGEST_OBSERVATION = 32
"""Components above which only the components themselves are read, not their products."""
STEPS = 100
"""Newton steps at most; some ten are needed."""
MOST_REASONS, ROUNDS = 6, 10
"""Regressions at most, and rounds in which terminations are shared out among them."""
MISSED = 0.01
"""Of the recorded terminations, so many may be recognised by no regression."""


class Ending:
    """Whether an observation is one that terminates: logistic regressions on components and products of two.

    Tasks end where something leaves a range, falls or touches: a bound on components or squares. A task that ends for
    several reasons (a goal is reached, or a wall) has one regression for each: where a single one leaves out recorded
    terminations, more of them share these out. Never, where the data have no termination.

    `recognised` is the share of the recorded terminations that it recognises. Raises `DivergedError` where the numbers
    stop being finite.
    """

    def __init__(self, observations: Float[np.ndarray, "rows obs_dim"], ended: Bool[np.ndarray, " rows"]):
        self.mean, self.scale = observations.mean(0), deviation_and_variation(observations)[0]
        self.reasons: list[np.ndarray] = []
        self.recognised = 1.0
        if ended.any():
            self.reasons = _reasons(self._terms(observations), ended)
            self.recognised = float(self(observations[ended]).mean())

    def __call__(self, observations: Float[np.ndarray, "rows obs_dim"]) -> Bool[np.ndarray, " rows"]:
        """Return whether termination is the likelier answer, for one reason or another."""
        if not self.reasons:
            return np.zeros(len(observations), bool)
        return _any(self._terms(observations), self.reasons)

    def _terms(self, observations: np.ndarray) -> np.ndarray:
        numbers = (observations - self.mean) / self.scale
        columns = [np.ones((len(numbers), 1)), numbers]
        if numbers.shape[1] <= LARGEST_OBSERVATION:
            first, second = np.triu_indices(numbers.shape[1])
            columns.append(numbers[:, first] * numbers[:, second])
        return np.concatenate(columns, 1)


def _reasons(terms: Float[np.ndarray, "rows terms"], ended: Bool[np.ndarray, " rows"]) -> list[np.ndarray]:
    """Return as many regressions as recognise the recorded terminations, all but `MISSED`, or `MOST_REASONS` of them.

    A further one begins with half of the terminations that none recognises, which lie together: around the one that is
    farthest from their mean, or the one that is nearest to it, whichever leads to fewer mistakes.
    """
    found = [_logistic_regression(terms, ended)]
    while len(found) < MOST_REASONS:
        missed = np.flatnonzero(ended & ~_any(terms, found))
        if len(missed) <= MISSED * ended.sum():
            break
        far = _squared_distances(terms[missed], terms[missed].mean(0))
        tried = [_shared_out(terms, ended, found, missed, missed[around(far)]) for around in (np.argmax, np.argmin)]
        best = min(tried, key=lambda reasons: _mistakes(terms, ended, reasons))
        if _mistakes(terms, ended, best) >= _mistakes(terms, ended, found):
            break
        found = best
    return found


def _shared_out(
    terms: np.ndarray, ended: np.ndarray, reasons: list[np.ndarray], missed: Int[np.ndarray, " missed"], around: int
) -> list[np.ndarray]:
    """Return the reasons with one more, which begins with the missed terminations nearest to row `around`.

    Then each termination counts as the reason that is surest of it, and all are learned again, each from its own and
    from what did not terminate (hard assignments), until nothing changes or for `ROUNDS`.
    """
    near = missed[np.argsort(_squared_distances(terms[missed], terms[around]))[: -(-len(missed) // 2)]]
    share, before = np.zeros(len(ended), bool), None
    share[near] = True
    reasons = [*reasons, _of(terms, ended, share)]
    for _ in range(ROUNDS):
        surest = np.argmax([terms @ weights for weights in reasons], axis=0)[ended]
        if before is not None and np.array_equal(surest, before):
            break
        before, shares = surest, [np.zeros(len(ended), bool) for _ in reasons]
        for reason, mine in enumerate(shares):
            mine[ended] = surest == reason
        reasons = [_of(terms, ended, mine) for mine in shares if mine.any()]
    return reasons


def _squared_distances(rows: np.ndarray, to: np.ndarray) -> Float[np.ndarray, " rows"]:
    return ((rows - to) ** 2).sum(1)


def _of(terms: np.ndarray, ended: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Return the regression that tells this share of the terminations from what did not terminate."""
    rows = share | ~ended
    return _logistic_regression(terms[rows], share[rows])


def _any(terms: Float[np.ndarray, "rows terms"], reasons: list[np.ndarray]) -> Bool[np.ndarray, " rows"]:
    return np.max([terms @ weights for weights in reasons], axis=0) > 0


def _mistakes(terms: np.ndarray, ended: np.ndarray, reasons: list[np.ndarray]) -> int:
    return int(np.count_nonzero(_any(terms, reasons) != ended))


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
