"""What is wrong, or odd, with a dataset; in two severities.

An error makes training wrong: a value that is not finite, an action that the environment would have clipped, a flag in
the middle of an episode. A warning is odd, and often right: a constant dimension, an episode twice.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator

import numpy as np

from foretell.datasets.d4rl import OPTIONAL, REQUIRED
from foretell.datasets.dataset import Dataset
from foretell.datasets.doctor_dynamics import dynamics
from foretell.datasets.doctor_episodes import duplicates, flags, lengths, seams, starts, timesteps
from foretell.datasets.doctor_images import images
from foretell.datasets.doctor_order import order, terminations_run_on
from foretell.datasets.doctor_padding import padding
from foretell.datasets.doctor_resets import resets
from foretell.datasets.doctor_values import actions, constants, environment, magnitudes
from foretell.datasets.findings import Finding, error, first, place, warning
from foretell.datasets.fingerprint import REPLACED
from foretell.environments.making import EnvironmentSpec

OTHER_WORDS = {
    "reward": "rewards", "action": "actions", "obs": "observations", "states": "observations", "next_obs":
    "next_observations", "next_states": "next_observations", "done": "terminals", "dones": "terminals",
    "terminations": "terminals", "truncations": "timeouts",
}  # fmt: skip
"""What other programs call the columns."""


def diagnose(dataset: Dataset, spec: EnvironmentSpec | None = None) -> list[Finding]:
    """Return everything found, errors first. Linear in the size of the dataset; an empty list is a clean bill.

    With `spec`, shapes, actions and episode lengths are also held against what the environment takes and gives, and
    every timestep against its rules, where Foretell knows them (`rules.KNOWN`).
    """
    findings = [warning("reading", note) for note in dataset.notes]
    findings += _keys(dataset)
    findings += _values(dataset)
    if not any(finding.severity == "error" for finding in findings):  # the checks below compute with the values
        begun_anew = list(resets(dataset))
        findings += [*begun_anew, *magnitudes(dataset, spec)]
        # Rows that only reset upset what is asked of ends and rules: of these nothing more is said then.
        ends = () if begun_anew else (seams, terminations_run_on)
        of_episodes = (flags, *ends, order, padding, _fingerprint, timesteps, constants, duplicates, starts, lengths)
        for check in (*of_episodes, actions):
            findings += check(dataset)
        findings += images(dataset, spec)
        if not begun_anew:
            findings += environment(dataset, spec) if spec is not None else ()
            findings += dynamics(dataset, spec)
    return sorted(findings, key=lambda finding: finding.severity != "error")


def _values(dataset: Dataset) -> Iterator[Finding]:
    for key, values in dataset.columns().items():
        if values.dtype == bool:
            row = first(dataset, lambda rows, v=values: np.ascontiguousarray(v[rows]).view(np.uint8) > 1)
            if row is not None:
                yield error("flags", f"{key} holds a byte that is neither 0 nor 1 at {place(dataset, row)}; "
                            "expected a flag. The file is damaged: fetch or make it again.")  # fmt: skip
        elif values.dtype.kind == "f":
            row = first(dataset, lambda rows, v=values: ~np.isfinite(v[rows]))
            if row is not None:
                one = np.asarray(values[row]).reshape(-1)
                make = warning if key.startswith("infos/") else error
                yield make("finite", f"{key} holds {one[~np.isfinite(one)][0]} at {place(dataset, row)}; "
                           "expected finite numbers, none beyond float32. Remove or repair that episode.")  # fmt: skip


def _keys(dataset: Dataset) -> Iterator[Finding]:
    for key, values in dataset.extras.items():
        if key == "timesteps":
            continue
        close = difflib.get_close_matches(key, REQUIRED + OPTIONAL, n=1, cutoff=0.8)
        meant = OTHER_WORDS.get(key) or (close[0] if close else None)
        hint = f" Is it {meant!r} by another name?" if meant else ""
        yield warning("keys", f"{key!r}, {values.dtype} of shape {values.shape}, is no key that is read; it is kept "
                      f"and not used.{hint}")  # fmt: skip


def _fingerprint(dataset: Dataset) -> Iterator[Finding]:
    if dataset.stored_fingerprint is not None and dataset.stored_fingerprint != dataset.fingerprint():
        yield error("fingerprint", "the columns are not those that were written (the stored fingerprint differs); "
                    f"{REPLACED}")  # fmt: skip
