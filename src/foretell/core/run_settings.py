"""Settings of runs beside each other: which differ, in words."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from foretell.core.checksums import KEY, checksum

MEANT = {
    "training.optimizer": "adamw", "training.matrix_learning_rate": 0.01, "device": "cpu", "precision": "float32",
    "processes": 1,
}  # fmt: skip
"""What runs meant that began before there was another choice, and say nothing."""
NETWORKS_MEANT = {
    "decision-transformer": {"model.action_loss": "squared", "model.timestep_embedding": "learned"},
    **{name: {"model.action_loss": "squared"} for name in ("lstm", "mlp", "encoder-decoder")},
    "trajectory-transformer": {"model.told": False, "model.table_smoothing": 0.0},
}
"""The same of their network's settings, by algorithm."""
VALUES_MEANT = {"values.policy": True}
"""The same of those that learned value functions."""
SHOWN = 3
"""Differences that are told; where there are more, it is another run altogether."""
GREEDY = "-greedy"
"""Behind the algorithm, in records: the policy is not the one that was learned, but takes what has the largest Q."""


def without_effect(key: str, settings: Mapping[str, Any]) -> bool:
    """Whether this one of the flat settings may differ between starts of one run, and between its seeds: no weight or
    measurement of it follows from that.

    Whether data are the same, their fingerprint says and neither their name nor their reference scores; a run is the
    same however often it is saved; start states matter where something is evaluated on the way.
    """
    if key.startswith("validation."):
        return not any(value for name, value in settings.items() if name.endswith(".evaluate_every"))
    return key in ("dataset.name", "dataset.reference_scores") or key.endswith(".checkpoint_every")


def differences(there: Mapping[str, Any], here: Mapping[str, Any], keys: Collection[str] | None = None) -> str:
    """Say what the settings of one run are that are others `here`, of `keys` (dotted) or of all of `here`; else "".

    Those without an effect are passed over.

    >>> differences({"model": {"width": 8}, "seed": 0}, {"model": {"width": 9}, "seed": 0})
    'model.width 8 there, 9 here'
    """
    before, after = with_what_is_meant(flat(there)), with_what_is_meant(flat(here))
    found = [
        f"{key} {before.get(key)!r} there, {after.get(key)!r} here"
        for key in (flat(here) if keys is None else keys)
        if before.get(key) != after.get(key)
        and not without_effect(key, before | after)
        and not (key == "environment.name" and _meant_without_version(before.get(key), after.get(key)))
    ]
    return "; ".join(found[:SHOWN])


def _meant_without_version(there: Any, here: Any) -> bool:
    """Whether a run that names an environment without its version, as some did, may have meant the one `here`."""
    known, _, keywords = str(here).partition(",")
    return f"{known.rpartition('-v')[0]}{',' * bool(keywords)}{keywords}" == there


def with_what_is_meant(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return flat settings with those that a run of their kind has today, as it meant them where it does not say."""
    network = NETWORKS_MEANT.get(settings.get("algorithm", ""), {})
    return {**MEANT, **network, **(VALUES_MEANT if "values.updates" in settings else {}), **settings}


def is_of_one_seed(key: str) -> bool:
    """Whether this one of the flat settings is a seed's own: the seed, and what it was run by."""
    return key in ("seed", KEY) or key.startswith("versions.")


def alike(settings: Mapping[str, Any], acting: Mapping[str, Any]) -> str:
    """Return a checksum of how a run was trained and acts (settings by name), the same for all of its seeds.

    Each of them may have data of its own, have begun with weights of its own, been told by value functions of its own,
    and have been looked at more or less often.
    """
    found = with_what_is_meant(flat({**settings, "acting": acting}))
    own = ("dataset.", "normalization.", "values_from", "initial_weights", "validation.")
    seen = (".evaluate_every", ".log_every")
    return checksum({
        key: value for key, value in found.items()
        if not (is_of_one_seed(key) or key.startswith(own) or key.endswith(seen) or without_effect(key, found))
    })  # fmt: skip


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings under dotted names.

    >>> flat({"model": {"width": 8}, "seed": 0})
    {'model.width': 8, 'seed': 0}
    """
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            found.update(flat(value, f"{prefix}{key}."))
        else:
            found[prefix + key] = value
    return found


def as_json(value: Any, *, allow_nan: bool = True) -> Any:
    """Return a value as JSON gives it back: tuples are lists. Raises `ValueError` for NaN and infinity where they are
    not allowed.

    >>> as_json({"hidden_sizes": (8, 8)})
    {'hidden_sizes': [8, 8]}
    """
    return json.loads(json.dumps(value, allow_nan=allow_nan))
