"""What is wrong, or odd, with a dataset; in two severities.

An error makes training wrong: a value that is not finite, an action that the environment would have clipped, a flag in
the middle of an episode. A warning is odd, and often right: a constant dimension, an episode twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from foretell.core.errors import DatasetError
from foretell.datasets.boundaries import ends_of
from foretell.datasets.dataset import Dataset
from foretell.datasets.fingerprint import BLOCK_ROWS
from foretell.environments.making import EnvironmentSpec

RANGE_TOLERANCE = 1e-4
"""Part of the action range by which actions may leave it: squashed policies round in float32."""
FEW_VALUES = 64
"""Up to so many different whole numbers 0..k in a float column look like numbered choices."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing found: `check` names it for machines, `message` says it to people."""

    severity: Literal["error", "warning"]
    check: str
    message: str


def verify(dataset: Dataset) -> None:
    """Raise `DatasetError` for the first value that training must not meet: NaN, infinite, or a damaged flag.

    One linear pass in blocks, so that a mapped file need not fit into memory.
    """
    for finding in _values(dataset):
        if finding.severity == "error":
            raise DatasetError(f"{dataset.name}: {finding.message}")


def diagnose(dataset: Dataset, spec: EnvironmentSpec | None = None) -> list[Finding]:
    """Return everything found, errors first. Linear in the size of the dataset; an empty list is a clean bill.

    With `spec`, shapes, actions and episode lengths are also held against what the environment takes and gives.
    """
    findings = [Finding(severity="warning", check="reading", message=note) for note in dataset.notes]
    findings += _values(dataset)
    if not any(finding.severity == "error" for finding in findings):  # the checks below compute with the values
        for check in (_flags, _transitions, _fingerprint, _constants, _repetition, _starts, _lengths):
            findings += check(dataset)
        findings += _actions(dataset)
        findings += _environment(dataset, spec) if spec is not None else ()
    return sorted(findings, key=lambda finding: finding.severity != "error")


def place(dataset: Dataset, row: int) -> str:
    """Return 'episode E, timestep T' of a row of the columns."""
    episode = int(np.searchsorted(dataset.episode_ends, row, side="right"))
    return f"episode {episode}, timestep {row - int(dataset.episode_starts[episode])}"


def _error(check: str, message: str) -> Finding:
    return Finding(severity="error", check=check, message=message)


def _warning(check: str, message: str) -> Finding:
    return Finding(severity="warning", check=check, message=message)


def _first(dataset: Dataset, bad: Callable[[slice], np.ndarray]) -> int | None:
    """Return the first row for which `bad(rows)`, rows by block, is True anywhere; None where there is none."""
    for start in range(0, dataset.num_steps, BLOCK_ROWS):
        rows = slice(start, min(start + BLOCK_ROWS, dataset.num_steps))
        found = np.flatnonzero(bad(rows).reshape(rows.stop - rows.start, -1).any(axis=1))
        if len(found):
            return start + int(found[0])
    return None


def _values(dataset: Dataset) -> Iterator[Finding]:
    for key, values in dataset.columns().items():
        if values.dtype == bool:
            row = _first(dataset, lambda rows, v=values: np.ascontiguousarray(v[rows]).view(np.uint8) > 1)
            if row is not None:
                yield _error("flags", f"{key} holds a byte that is neither 0 nor 1 at {place(dataset, row)}; "
                             "expected a flag. The file is damaged: fetch or make it again.")  # fmt: skip
        elif values.dtype.kind == "f":
            row = _first(dataset, lambda rows, v=values: ~np.isfinite(v[rows]))
            if row is not None:
                one = np.asarray(values[row]).reshape(-1)
                make = _warning if key.startswith("infos/") else _error
                yield make("finite", f"{key} holds {one[~np.isfinite(one)][0]} at {place(dataset, row)}; "
                           "expected finite numbers. Remove or repair that episode.")  # fmt: skip


def _flags(dataset: Dataset) -> Iterator[Finding]:
    flagged = ends_of(dataset.terminations, dataset.truncations)
    wrong = np.setxor1d(flagged, dataset.episode_ends)
    if len(wrong):
        yield _error("flags", f"{place(dataset, int(wrong[0]) - 1)} is flagged as an end and is none, or the reverse; "
                     "expected a termination or truncation at exactly the last timestep of each episode.")  # fmt: skip
    both = int(np.count_nonzero(np.asarray(dataset.terminations) & np.asarray(dataset.truncations)))
    if both:
        yield _warning("flags", f"{both} timesteps are both termination and truncation; they count as terminations.")


def _transitions(dataset: Dataset) -> Iterator[Finding]:
    following = dataset.next_observations
    if following is None:
        return
    ends = np.zeros(dataset.num_steps, bool)
    ends[dataset.episode_ends - 1] = True

    def differs(rows: slice) -> np.ndarray:
        stop = min(rows.stop, dataset.num_steps - 1)
        found = np.zeros(rows.stop - rows.start, bool)
        parts = following[rows.start : stop] != dataset.observations[rows.start + 1 : stop + 1]
        found[: stop - rows.start] = parts.reshape(stop - rows.start, parts[0].size if len(parts) else 1).any(axis=1)
        return found & ~ends[rows]

    row = _first(dataset, differs)
    if row is not None:
        yield _warning("transitions", f"next_observations at {place(dataset, row)} is not the observation that "
                       "follows; were steps dropped or shifted when recording?")  # fmt: skip


def _fingerprint(dataset: Dataset) -> Iterator[Finding]:
    if dataset.stored_fingerprint is not None and dataset.stored_fingerprint != dataset.fingerprint():
        yield _error("fingerprint", "the columns are not those that were written (the stored fingerprint differs); "
                     "the file was edited or damaged: fetch or make it again.")  # fmt: skip


def _constants(dataset: Dataset) -> Iterator[Finding]:
    for key in ("observations", "actions", "rewards"):
        values = getattr(dataset, key).reshape(dataset.num_steps, -1)
        constant = np.flatnonzero(values.min(axis=0) == values.max(axis=0))
        if len(constant) and dataset.num_steps > 1:
            where = f" in {len(constant)} of {values.shape[1]} dimensions (first: {constant[0]})"
            yield _warning("constant", f"{key} never change{where if values.shape[1] > 1 else ''}.")


def _repetition(dataset: Dataset) -> Iterator[Finding]:
    seen: dict[bytes, int] = {}
    twice: list[tuple[int, int]] = []
    columns = [np.ascontiguousarray(c) for c in (dataset.observations, dataset.actions, dataset.rewards)]
    for index, (start, end) in enumerate(zip(dataset.episode_starts.tolist(), dataset.episode_ends.tolist())):
        digest = hashlib.blake2b(digest_size=16)
        for values in columns:
            digest.update(values[start:end].view(np.uint8).data)
        first = seen.setdefault(digest.digest(), index)
        if first != index:
            twice.append((first, index))
    if twice:
        first, second = twice[0]
        yield _warning("duplicates", f"{len(twice)} episodes repeat earlier ones (episode {second} equals {first}).")


def _starts(dataset: Dataset) -> Iterator[Finding]:
    starts = dataset.observations[dataset.episode_starts]
    if len(starts) > 1 and (starts == starts[:1]).all():
        yield _warning("starts", f"all {len(starts)} episodes start from the same observation; were they seeded alike?")


def _lengths(dataset: Dataset) -> Iterator[Finding]:
    single = int(np.count_nonzero(dataset.episode_lengths == 1))
    if single:
        yield _warning("lengths", f"{single} episodes have a single timestep.")


def _actions(dataset: Dataset) -> Iterator[Finding]:
    actions = dataset.actions
    if dataset.discrete:
        row = _first(dataset, lambda rows: actions[rows] < 0)
        if row is not None:
            yield _error("actions", f"action {actions[row]} at {place(dataset, row)}; expected choices from 0 on.")
    elif actions.shape[1] == 1:
        low, high = actions.min(), actions.max()
        if low == 0 and 0 < high < FEW_VALUES and np.all(actions == np.rint(actions)):
            yield _warning("actions", f"actions are floats but only whole numbers 0 to {high:.0f}; if they number "
                           "choices, store them as integers of shape (timesteps,).")  # fmt: skip


def _environment(dataset: Dataset, spec: EnvironmentSpec) -> Iterator[Finding]:
    if dataset.observation_shape != spec.observation_shape:
        yield _warning("observations", f"observations have shape {dataset.observation_shape}; {spec.name} gives "
                       f"{spec.observation_shape}. A policy that learned from them needs the same change.")  # fmt: skip
    if spec.horizon is not None and (longest := int(dataset.episode_lengths.max())) > spec.horizon:
        yield _warning("lengths", f"an episode has {longest} timesteps; {spec.name} stops after {spec.horizon}.")
    if dataset.discrete != (spec.num_actions is not None):
        kinds = ("discrete", "continuous") if dataset.discrete else ("continuous", "discrete")
        yield _error("actions", f"actions are {kinds[0]}; {spec.name} takes {kinds[1]} ones.")
    elif spec.num_actions is not None:
        row = _first(dataset, lambda rows: dataset.actions[rows] >= spec.num_actions)
        if row is not None:
            yield _error("actions", f"action {dataset.actions[row]} at {place(dataset, row)}; {spec.name} takes "
                         f"0 to {spec.num_actions - 1}.")  # fmt: skip
    elif dataset.action_dim != spec.action_dim:
        yield _error("actions", f"actions have {dataset.action_dim} components; {spec.name} takes {spec.action_dim}.")
    else:
        yield from _bounds(dataset, spec)


def _bounds(dataset: Dataset, spec: EnvironmentSpec) -> Iterator[Finding]:
    actions, least, most = dataset.actions, np.asarray(spec.action_low), np.asarray(spec.action_high)
    slack = RANGE_TOLERANCE * (most - least)
    row = _first(dataset, lambda rows: (actions[rows] < least - slack) | (actions[rows] > most + slack))
    if row is not None:
        yield _error("actions", f"action {actions[row].tolist()} at {place(dataset, row)} is outside the range of "
                     f"{spec.name}, {least.tolist()} to {most.tolist()}; rescale or clip the actions.")  # fmt: skip
    low, high, middle = actions.min(axis=0), actions.max(axis=0), (least + most) / 2
    for index in np.flatnonzero((low >= middle) | (high <= middle)).tolist():
        yield _warning("actions", f"component {index} of the actions stays in one half of its range ({low[index]:g} to "
                       f"{high[index]:g} of {least[index]:g} to {most[index]:g}); is its scale right?")  # fmt: skip
