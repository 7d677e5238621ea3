"""What the files of a run folder have to hold: forms (`core.forms`) of its configuration, events and manifests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from foretell.core.errors import CheckpointError
from foretell.core.files import read_sealed_json
from foretell.core.forms import Name, check_form

_SIZES = {"observation_shape": [int], "action_dim": int}
_ENVIRONMENT = {
    **_SIZES, "name": str, "action_low": ([float], None), "action_high": ([float], None), "num_actions": (int, None),
    "horizon": (int, None),
}  # fmt: skip
_DATASET = {
    "name": str, "fingerprint": str, "steps": int, "episodes": int, "lowest_return": float, "highest_return": float,
    "reference_scores?": [float],
}  # fmt: skip
_NORMALIZATION = {
    "observation_mean": [float], "observation_std": [float], "return_scale": float,
    "action_range": ({"low": [float], "high": [float]}, None),
}  # fmt: skip
_VALUES = {"updates": int, "hidden_sizes": [int]}
_RUN = {"kind": str, "algorithm": str, "environment": _ENVIRONMENT, "seed": int, "versions": {...: str}}

CONFIGS = {
    "sequence": {
        **_RUN, "condition": str, "dataset": _DATASET, "normalization": _NORMALIZATION,
        "shape": {**_SIZES, "discrete": bool, "max_timesteps": int}, "model": dict, "training": {"updates": int},
        "values": (_VALUES, None), "values_from": (str, None), "target": {"rule": str, "return": (float, None)},
        "acting": (dict, None), "best_share?": float, "initial_weights?": str,
    },
    "values": {**_RUN, "dataset": _DATASET, "normalization": _NORMALIZATION, "values": _VALUES},
    "sac": {**_RUN, "agent": {"total_steps": int, "hidden_sizes": [int]}},
}  # fmt: skip
"""Of each kind of run what its configuration holds."""
EVENT = {"event": str, ...: float}
EVENTS = {"episode": {"step": int, "return": float}, "evaluation": {"mean_return": float}}
"""What is read of events besides, by their name."""
MANIFEST = {
    "configuration": str, "update": int, "events": int, "wall_seconds": float, "versions": {...: str}, "sha256": str,
}  # fmt: skip
MEND = "Restore it or start a new run."
RECORD = {
    "policy": Name, "algorithm": Name, "dataset": (Name, None), "seed": (int, None), "start": int,
    "target": (float, None), "return": float, "length?": int, "environment?": Name, "settings?": (Name, None),
    "data?": (Name, None),
}  # fmt: skip
"""Of one evaluation record."""


def read_config(path: Path, *, whole: bool = False) -> dict[str, Any]:
    """Return the configuration of a run; its checksum is still in it.

    Raises `CheckpointError` as `read_sealed_json`, where a setting is not what it is in a run of its kind, and where a
    `whole` one lacks any.
    """
    found = read_sealed_json(path)
    if not whole:
        check_form(found, CONFIGS.get(str(found.get("kind")), {}), str(path), MEND, partial=True)
        return found
    check_form(found, {"kind": str}, str(path), MEND)
    if found["kind"] not in CONFIGS:
        raise CheckpointError(f"{path}: kind is {found['kind']!r:.60}; expected one of {', '.join(CONFIGS)}. {MEND}")
    check_form(found, CONFIGS[found["kind"]], str(path), MEND)
    if "normalization" in found:
        _check_units(found, path)
    return found


def _check_units(config: dict[str, Any], path: Path) -> None:
    """Raise `CheckpointError` where a run's units are of other observations or actions than the run."""
    sizes, units = config.get("shape", config["environment"]), config["normalization"]
    means, deviations = len(units["observation_mean"]), len(units["observation_std"])
    several = {1, *sizes["observation_shape"][-1:]} if "shape" in config else {means}  # data may have been transformed
    if means != deviations or means not in several or not means:
        raise CheckpointError(
            f"{path}: {means} means and {deviations} deviations of observations; expected "
            f"{max(several) or 'some'} of each. {MEND}"
        )
    limits, discrete = units["action_range"], config["environment"]["num_actions"] is not None
    count = None if limits is None else {len(limits["low"]), len(limits["high"])}
    if (limits is None) != discrete or count not in (None, {sizes["action_dim"]}):
        of = "choices, which have none" if discrete else f"{sizes['action_dim']} numbers"
        raise CheckpointError(f"{path}: its range of actions is not that of {of}. {MEND}")


def check_events(events: Sequence[Any], path: Path) -> None:
    """Raise `CheckpointError`, naming the line, where an event lacks what is read of it, or holds no numbers."""
    for number, event in enumerate(events, start=1):
        where = f"{path}: event {number}"
        check_form(event, EVENT, where, MEND)
        check_form(event, EVENTS.get(event["event"], {}), where, MEND)
        if event["event"] == "evaluation" and not {"update", "step"} & event.keys():
            raise CheckpointError(f"{where} lacks 'update'; expected when it was measured. {MEND}")
