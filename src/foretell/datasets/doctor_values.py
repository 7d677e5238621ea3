"""What the doctor asks of single columns: sizes of numbers, dimensions that never change, actions in their range."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from foretell.core.decimals import counted
from foretell.datasets.dataset import Dataset
from foretell.datasets.findings import Finding, error, first, place, spread, warning
from foretell.datasets.rules import KNOWN
from foretell.environments.making import EnvironmentSpec

RANGE_TOLERANCE = 1e-4
"""Part of the action range by which actions may leave it: squashed policies round in float32."""
CLOSE, OFTEN, OFTEN_OF = 0.95, 5, 0.001
"""Actions rescaled to -1 to 1 are that close to both ends in so many timesteps, and this share of all: those of a
policy that takes small actions, and never leaves -1 to 1 by chance, are not."""
FEW_VALUES = 64
"""Up to so many different whole numbers 0..k in a float column look like numbered choices."""
MANY_CHOICES = 1 << 16
"""A choice with a higher number is taken for garbage: networks have one output for each."""
OVERFLOW = 1e18
"""Squares of larger numbers leave float32, and with them every loss."""
DROWNED = 1e4
"""A number that many times farther from the median than 99 in 100 others may drown them all."""
CONTACTS = 3
"""Rows with a number that is far from others of its dimension, and not from those of wider ones: more are by right."""
_OBSERVATIONS = (error, "mean and deviation", "Remove or repair that episode.")
DROWNING = {
    "observations": _OBSERVATIONS, "next_observations": _OBSERVATIONS,
    "actions": (warning, "their range", "Repair it, or name the environment, whose range is then the actions'."),
    "rewards": (warning, "the largest return-to-go", "Repair it, or scale it down, where it is no mistake."),
}  # fmt: skip
"""How severe that is, what the others are divided by then, and how to mend it. A rare reward may be the goal."""
SAMPLE = 50_000
"""Rows, evenly spread, from which the usual size of a column's numbers is taken."""
SAMPLE_NUMBERS = 10_000_000
"""Numbers at most in those rows, for the sake of memory and time: of wide observations fewer rows are read."""


def magnitudes(dataset: Dataset, spec: EnvironmentSpec | None = None) -> Iterator[Finding]:
    """Numbers that float32 can hold and training cannot use: huge ones, and denormal ones, which are misread bytes.

    Actions are divided by the range of an environment that is known (`spec`), whatever they are.
    """
    for key in ("observations", "next_observations", "actions", "rewards"):
        values = getattr(dataset, key)
        if values is None or values.dtype != np.float32:
            continue
        row = first(dataset, lambda rows, v=values: np.abs(v[rows]) > OVERFLOW)
        if row is not None:
            yield error("magnitude", f"{key} holds {_widest(values[row]):g} at {place(dataset, row)}; expected "
                        f"numbers whose squares float32 can hold, up to {OVERFLOW:g}. Repair it, or use smaller "
                        "units.")  # fmt: skip
            continue
        row = first(dataset, lambda rows, v=values: _denormal(v[rows]))
        if row is not None:
            one = np.asarray(values[row]).reshape(-1)
            yield warning("magnitude", f"{key} holds {one[_denormal(one)][0]:g} at {place(dataset, row)}, which is no "
                          "number that is measured; were bytes read as another type?")  # fmt: skip
        if key != "actions" or spec is None:
            yield from _drowned(dataset, key, values)


def _widest(values: np.ndarray) -> float:
    flat = np.asarray(values).reshape(-1)
    return float(flat[np.argmax(np.abs(flat))])


def _denormal(values: np.ndarray) -> np.ndarray:
    """True where float32 has no exponent left: above 0 and below 1.2e-38. Bits, for speed."""
    bits = np.ascontiguousarray(values).view(np.uint32) & np.uint32(0x7FFFFFFF)
    return bits - np.uint32(1) < np.uint32(0x007FFFFF)


def _drowned(dataset: Dataset, key: str, values: np.ndarray) -> Iterator[Finding]:
    """A number that alone makes the deviation of its dimension ten times as large: normalised, the rest would be 0.

    Of several dimensions it is an error where the number is as huge beside the widest of them. Where only its own is
    that narrow, it may be a contact that is rarely made: a few such rows are warned of, of more nothing is said.
    """
    width = int(np.prod(values.shape[1:]))
    rows = values[spread(len(values), min(SAMPLE, max(1, SAMPLE_NUMBERS // width)))].reshape(-1, width)
    sample = np.array(rows.T, np.float64, order="C")  # a dimension in one piece: sorted in half the time
    middle = np.median(sample, axis=1)
    usual = np.quantile(np.abs(sample - middle[:, None]), 0.99, axis=1)
    huge = max(DROWNED, 10 * np.sqrt(len(values)))
    limit = np.where(usual > 0, usual * huge, np.inf)

    def beyond(limit: np.ndarray) -> int | None:
        low, high = (bound.reshape(values.shape[1:]) for bound in (middle - limit, middle + limit))
        return first(dataset, lambda rows: (values[rows] < low) | (values[rows] > high))

    if (row := beyond(limit)) is None:
        return
    make, scale, mend = DROWNING[key]
    widest = np.maximum(limit, usual.max() * huge)
    damaged = row if len(usual) == 1 else beyond(widest)
    if damaged is not None:
        row, limit = damaged, widest
    one = np.asarray(values[row]).reshape(-1).astype(np.float64)
    worst = int(np.argmax(np.abs(one - middle) / limit))
    if damaged is None:
        column = values.reshape(len(values), -1)[:, worst]
        if np.count_nonzero(np.abs(column - middle[worst]) > limit[worst]) > CONTACTS:
            return
        make, mend = warning, "A contact that is rarely made is right; else repair that episode."
    where = f" (dimension {worst})" if len(one) > 1 else ""
    yield make("magnitude", f"{key} holds {one[worst]:g} at {place(dataset, row)}{where}, where 99 in 100 are within "
               f"{usual[worst]:g} of {middle[worst]:g}; divided by {scale}, nothing would be left of the others. "
               f"{mend}")  # fmt: skip


def constants(dataset: Dataset) -> Iterator[Finding]:
    """Dimensions that never change, and rewards that tell no episode from another."""
    if dataset.num_steps < 2:
        return
    for key in ("observations", "actions"):
        values = getattr(dataset, key).reshape(dataset.num_steps, -1)
        constant = np.flatnonzero(values.min(axis=0) == values.max(axis=0))
        if key == "observations" and len(dataset.observation_shape) == 3 and len(constant) < values.shape[1]:
            continue  # a picture has a background
        if len(constant):
            where = f" in {len(constant)} of {values.shape[1]} dimensions (first: {constant[0]})"
            yield warning("constant", f"{key} never change{where if values.shape[1] > 1 else ''}.")
    low, high = dataset.rewards.min(), dataset.rewards.max()
    lengths = dataset.episode_lengths
    if low == high and (low == 0 or (lengths == lengths[0]).all()):  # else the return is the length, which tells much
        yield warning("constant", f"rewards never change: all are {low:g}, and every episode earns the same. Neither "
                      "returns nor advantages tell anything then: condition none learns what was done.")  # fmt: skip


def actions(dataset: Dataset) -> Iterator[Finding]:
    """What can be said of actions without an environment."""
    taken = dataset.actions
    if dataset.discrete:
        row = first(dataset, lambda rows: (taken[rows] < 0) | (taken[rows] >= MANY_CHOICES))
        if row is not None:
            yield error("actions", f"action {taken[row]} at {place(dataset, row)}; expected choices from 0 on, fewer "
                        f"than {MANY_CHOICES}.")  # fmt: skip
    elif taken.shape[1] == 1:
        low, high = taken.min(), taken.max()
        whole = low == 0 and 0 < high < FEW_VALUES
        if whole and first(dataset, lambda rows: taken[rows] != np.rint(taken[rows])) is None:
            yield warning("actions", f"actions are floats but only whole numbers 0 to {high:.0f}; if they number "
                          "choices, store them as integers of shape (timesteps,).")  # fmt: skip


def environment(dataset: Dataset, spec: EnvironmentSpec) -> Iterator[Finding]:
    """Shapes, actions and lengths, held against what the environment takes and gives."""
    if dataset.observation_shape != spec.observation_shape:
        yield warning("observations", f"observations have shape {dataset.observation_shape}; {spec.name} gives "
                      f"{spec.observation_shape}. A policy that learned from them needs the same change. Numbered "
                      "ones, and several parts, foretell.FlattenedObservations(env) turns into such.")  # fmt: skip
    if spec.horizon is not None and (longest := int(dataset.episode_lengths.max())) > spec.horizon:
        episode = int(np.argmax(dataset.episode_lengths > spec.horizon))
        yield warning("lengths", f"episode {episode} has {counted(dataset.episode_lengths[episode], 'timestep')} (the "
                      f"longest {longest}); {spec.name} stops after {spec.horizon}. Are its ends flagged? Where "
                      f"timeouts are not, a file is read with --horizon {spec.horizon}.")  # fmt: skip
    if spec.horizon is not None and spec.name not in KNOWN:  # of these the rules say where the task ends
        ends = dataset.terminations[dataset.episode_ends[dataset.episode_lengths == spec.horizon] - 1]
        if len(ends) > 1 and ends.all():
            yield warning("lengths", f"all {len(ends)} episodes that reach the time limit of {spec.name} "
                          f"({spec.horizon} timesteps) end in terminations, none in a truncation. A time limit belongs "
                          "in truncations ('timeouts'), unless the task itself ends then: value functions learn that "
                          "nothing can be earned after a termination.")  # fmt: skip
    if dataset.discrete != (spec.num_actions is not None):
        kinds = ("discrete", "continuous") if dataset.discrete else ("continuous", "discrete")
        mend = ("Is it another environment's, or were actions rounded?" if dataset.discrete else "Store choices as "
                "integers of shape (timesteps,); of one-hot rows, their argmax; of several choices, "
                "foretell.FlattenedActions(env).flattened(actions).")  # fmt: skip
        yield error("actions", f"actions are {kinds[0]}; {spec.name} takes {kinds[1]} ones. {mend}")
    elif spec.num_actions is not None:
        row = first(dataset, lambda rows: dataset.actions[rows] >= spec.num_actions)
        if row is not None:
            yield error("actions", f"action {dataset.actions[row]} at {place(dataset, row)}; {spec.name} takes "
                        f"0 to {spec.num_actions - 1}. Where it counts its choices from another number, "
                        "foretell.FlattenedActions(env).flattened(actions).")  # fmt: skip
    elif dataset.action_dim != spec.action_dim:
        yield error(
            "actions", f"actions have {counted(dataset.action_dim, 'component')}; {spec.name} takes {spec.action_dim}."
        )
    else:
        yield from _bounds(dataset, spec)


def _bounds(dataset: Dataset, spec: EnvironmentSpec) -> Iterator[Finding]:
    taken, least, most = dataset.actions, np.asarray(spec.action_low), np.asarray(spec.action_high)
    slack = RANGE_TOLERANCE * (most - least)
    row = first(dataset, lambda rows: (taken[rows] < least - slack) | (taken[rows] > most + slack))
    low, high, middle = taken.min(axis=0), taken.max(axis=0), (least + most) / 2
    scaled = _scaled(taken, low, high, least, most)
    if row is not None:
        one = taken[row].astype(np.float64)
        beyond, width = np.maximum(least - one, one - most), most - least
        worst = int(np.argmax(np.divide(beyond, width, out=np.where(beyond > 0, np.inf, 0.0), where=width > 0)))
        what, number = (
            ("action", one.tolist()) if len(one) == 1 else (f"component {worst} of the action,", f"{one[worst]:g},")
        )
        yield error("actions", f"{what} {number} at {place(dataset, row)} is outside the range of {spec.name}, "
                    f"{least[worst]:g} to {most[worst]:g}; {scaled or 'rescale or clip the actions.'}")  # fmt: skip
    elif scaled and spec.name not in KNOWN:  # whose rules prove it, or the contrary
        index = int(np.argmax((least != -1) | (most != 1)))
        yield warning("actions", f"{spec.name} takes actions from {least[index]:g} to {most[index]:g} in component "
                      f"{index}; {scaled}")  # fmt: skip
        return
    for index in np.flatnonzero(((low >= middle) | (high <= middle)) & (least < most)).tolist():
        yield warning("actions", f"component {index} of the actions stays in one half of its range ({low[index]:g} to "
                      f"{high[index]:g} of {least[index]:g} to {most[index]:g}); is its scale right?")  # fmt: skip


def _scaled(taken: np.ndarray, low: np.ndarray, high: np.ndarray, least: np.ndarray, most: np.ndarray) -> str:
    """Say that actions look rescaled to -1 to 1, where the components with another range reach both ends, often."""
    other = (least != -1) | (most != 1)
    if not other.any() or np.maximum(-low, high)[other].max() > 1 + RANGE_TOLERANCE:
        return ""
    if np.minimum(-low, high)[other].min() < CLOSE:
        return ""
    above, below = (sum(np.count_nonzero(sign * taken[start : start + SAMPLE] > CLOSE, axis=0)
                        for start in range(0, len(taken), SAMPLE)) for sign in (1, -1))  # fmt: skip
    if np.minimum(above, below)[other].min() < max(OFTEN, OFTEN_OF * len(taken)):
        return ""
    return (
        "all components of another range stay within -1 to 1 and fill it. Were they rescaled, as those in "
        "Stable-Baselines3's replay buffers? Then multiply them back: low + (actions + 1) / 2 * (high - low)."
    )
