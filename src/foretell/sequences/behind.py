"""What is earned behind a row of a long episode, without adding up the whole of the rest each time."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

SPAN = 4096
"""Rows between the sums that are kept: as many are added up anew at most."""
PIECE = 16 * SPAN
"""Rows that are read at once."""


class SumsBehind:
    """Sums of an episode's rewards from its end back to every `SPAN`-th row, made when it is first asked for one.

    They are those that adding up backwards in float64, one reward at a time, comes by: to continue from one gives the
    bits of the whole sum. An episode of 1,000,000 timesteps keeps 2 kB.
    """

    def __init__(self, rewards: np.ndarray, starts: Int[np.ndarray, " episodes"], ends: Int[np.ndarray, " episodes"]):
        """Prepare for the episodes of `rewards` that begin at `starts` and end before `ends`."""
        self._rewards, self._starts, self._ends = rewards, starts, ends
        self._kept: dict[int, Float[np.ndarray, " sums"]] = {}
        self._needed = bool((ends - starts > SPAN).any())

    def nearest(
        self, rows: Int[np.ndarray, " batch"], ends: Int[np.ndarray, " batch"]
    ) -> tuple[Int[np.ndarray, " batch"], Float[np.ndarray, " batch"] | None]:
        """Return for each of `rows`, in an episode that ends before the row in `ends`, a row behind it, at most `SPAN`
        further on or the episode's end, and the sum of the rewards from there to the end; None where all are 0."""
        if not self._needed:
            return ends, None
        skipped = (ends - rows - 1) // SPAN
        sums = np.zeros(len(rows))
        for index in np.flatnonzero(skipped):
            sums[index] = self._of(int(ends[index]))[skipped[index] - 1]
        return ends - skipped * SPAN, sums

    def _of(self, end: int) -> Float[np.ndarray, " sums"]:
        """Return the sums of the last `SPAN`, 2 `SPAN`, ... rewards of the episode that ends before this row."""
        found = self._kept.get(end)
        if found is None:
            start, total, parts = int(self._starts[np.searchsorted(self._ends, end)]), 0.0, []
            for stop in range(end, start, -PIECE):
                sums = running(self._rewards[max(start, stop - PIECE) : stop], total)
                total = float(sums[-1])
                parts.append(sums[SPAN - 1 :: SPAN])
            found = self._kept[end] = np.concatenate(parts)
        return found


def running(rewards: np.ndarray, behind: float) -> Float[np.ndarray, " rows"]:
    """Return the sums from the last of these rewards back to each, the last's first, `behind` added before them all."""
    return np.cumsum(np.concatenate([[behind], rewards[::-1]]), dtype=np.float64)[1:]
