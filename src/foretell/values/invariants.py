"""Laws that every recorded observation keeps, found in the data; imagined observations are put back on them."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from foretell.core.variation import deviation_and_variation

UNCHANGED = 1e-4
"""A combination whose deviation over the data is below this, where its terms vary by about 1, counts as constant."""
LARGEST_OBSERVATION = 32
"""Components above which no laws are looked for: there would be more than 560 products, and few rows for each."""
STEPS = 2
"""Gauss-Newton steps of a projection: imagined observations are off by one timestep's error, so two suffice."""


class Invariants:
    r"""Quadratic functions of the observation that have one value everywhere in the data.

    An angle is often observed as its cosine and sine, an orientation as a unit quaternion, and some components repeat
    others: the data then fill a surface, and a model that is right on it may be wrong anywhere beside it. Laws are the
    directions without variance among the components and their products (the idea of vanishing component analysis,
    Livni et al. 2013, for degree 2 and float32 data). Noisy observations keep no law, and nothing is changed then.
    """

    def __init__(self, observations: Float[np.ndarray, "rows obs_dim"]):
        rows = observations.astype(np.float64)
        width = rows.shape[1]
        self.mean, self.scale = rows.mean(0), deviation_and_variation(rows)[0]
        self.first, self.second = np.triu_indices(width)
        count = width + len(self.first)
        self.laws, self.constants = np.zeros((0, count)), np.zeros(0)
        if width > LARGEST_OBSERVATION or len(rows) < 2 * count:  # fewer rows: any numbers would keep some law
            return
        terms = self._terms((rows - self.mean) / self.scale)
        center = terms.mean(0)
        variances, directions = np.linalg.eigh(np.cov(terms.T, bias=True).reshape(count, count))
        self.laws = directions.T[variances < UNCHANGED**2]
        self.constants = self.laws @ center

    def violations(self, observations: Float[np.ndarray, "rows obs_dim"]) -> Float[np.ndarray, "rows laws"]:
        """How far each observation is from each law, in deviations of the terms."""
        return self._terms((observations - self.mean) / self.scale) @ self.laws.T - self.constants

    def project(self, observations: Float[np.ndarray, "rows obs_dim"]) -> Float[np.ndarray, "rows obs_dim"]:
        """Return the nearest observations, in unit deviations and to first order, that keep every law; float64."""
        numbers = (observations - self.mean) / self.scale
        if len(self.laws) == 0:
            return numbers * self.scale + self.mean
        for _ in range(STEPS):
            off = self._terms(numbers) @ self.laws.T - self.constants
            slopes = self._slopes(numbers)
            numbers = numbers - _shortest(slopes, off)
        return numbers * self.scale + self.mean

    def _terms(self, numbers: np.ndarray) -> np.ndarray:
        return np.concatenate([numbers, numbers[:, self.first] * numbers[:, self.second]], 1)

    def _slopes(self, numbers: np.ndarray) -> np.ndarray:
        """Derivative of every law by every component, `(rows, laws, obs_dim)`."""
        rows, width = numbers.shape
        slopes = np.repeat(self.laws[None, :, :width], rows, 0)
        products = self.laws[:, width:]
        for place, (i, j) in enumerate(zip(self.first, self.second)):
            slopes[:, :, i] += products[None, :, place] * numbers[:, None, j]
            slopes[:, :, j] += products[None, :, place] * numbers[:, None, i]
        return slopes


def _shortest(
    slopes: Float[np.ndarray, "rows laws obs_dim"], off: Float[np.ndarray, "rows laws"]
) -> Float[np.ndarray, "rows obs_dim"]:
    """Return the shortest step of each row along which the laws change by `off`, to first order."""
    if slopes.shape[1] == 1:  # the pseudoinverse of one row, without its singular values
        squares = np.square(slopes[:, 0]).sum(1, keepdims=True)
        return slopes[:, 0] * np.divide(off, squares, out=np.zeros_like(off), where=squares > 0)
    return (np.linalg.pinv(slopes, rcond=1e-6) @ off[:, :, None])[:, :, 0]
