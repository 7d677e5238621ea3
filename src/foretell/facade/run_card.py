"""The card of a finished run: what it is, what it learned from, how it acts and what it earned, as plain JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from foretell.core.files import read_json_lines
from foretell.core.forms import Name, check_form
from foretell.core.run_forms import MEND, RECORD
from foretell.core.seeds_folder import runs_of_seeds
from foretell.evaluation.conditioned import ConditionedPolicy
from foretell.evaluation.policies import restore_values
from foretell.evaluation.records import IDENTITY
from foretell.facade.subjects import load_policy
from foretell.training.run_folder import load_run, read_events

UPDATES = {"sequence": ("training", "updates"), "values": ("values", "updates"), "sac": ("agent", "total_steps")}
"""Where the configuration of each kind of run says how long it trained."""


def run_card(run: str | Path) -> dict[str, Any]:
    """Return the card of a finished run folder; what a run of its kind has not is null.

    Keys: run, kind, algorithm, condition, dataset (name, steps, episodes, lowest and highest return, fingerprint),
    environment, seed, updates (of SAC: timesteps), parameters (learned numbers; of SAC, the policy's), model (settings
    of the network), target (the rule by which it asks), acting (settings), validation (the last evaluation on
    validation starts), evaluations (environment, policy, target, episodes and mean return of what `foretell evaluate`
    recorded).
    Raises `CheckpointError` where the folder holds no finished run.
    """
    folder = Path(run)
    config, tensors = load_run(folder)
    part, name = UPDATES[config["kind"]]
    events = read_events(folder) if (folder / "events.jsonl").exists() else []
    measured = [event for event in events if event["event"] == "evaluation"]
    return {
        "run": str(run), "kind": config["kind"], "algorithm": config["algorithm"],
        "condition": config.get("condition"), "dataset": config.get("dataset"),
        "environment": config["environment"]["name"] or None, "seed": config["seed"], "updates": config[part][name],
        "parameters": _parameters(folder, config, tensors), "model": config.get("model"),
        "target": config.get("target"),
        "acting": config.get("acting"), "validation": measured[-1] if measured else None,
        "evaluations": _means(_records_of(folder, config["seed"])),
    }  # fmt: skip


def _records_of(folder: Path, seed: int) -> list[Mapping[str, Any]]:
    """Return what was recorded of the run: in its folder, or of its seed beside all the others'."""
    folder = folder.resolve()  # of one that is called "." the parent is itself
    records, beside = folder / "evaluations.jsonl", folder.parent / "evaluations.jsonl"
    found = _read(records) if records.exists() else []
    if folder in runs_of_seeds(folder.parent) and beside.exists():
        found += [record for record in _read(beside) if record["seed"] == seed]
    return list({tuple(record.get(name) for name in IDENTITY): record for record in found}.values())


def _read(path: Path) -> list[Mapping[str, Any]]:
    records = read_json_lines(path)
    for number, record in enumerate(records, start=1):
        check_form(record, RECORD | {"environment": Name}, f"{path}: record {number}", MEND)
    return [*records]


def _parameters(run: Path, config: Mapping[str, Any], tensors: Mapping[str, Any]) -> int:
    """Count what was learned: not bins and units, which were measured."""
    if config["kind"] == "values":  # which may have no policy
        return sum(parameter.numel() for parameter in restore_values(config, tensors).parameters())
    policy = load_policy(run)
    if isinstance(policy, ConditionedPolicy):
        return sum(parameter.numel() for parameter in policy.model.parameters())
    return sum(tensor.numel() for tensor in tensors.values())


def _means(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    returns: dict[tuple[str, str, float | None], list[float]] = {}
    for record in records:
        told_apart = record["environment"], record["policy"], record["target"]
        returns.setdefault(told_apart, []).append(record["return"])
    return [
        {
            "environment": environment, "policy": policy, "target": target, "episodes": len(earned),
            "mean_return": sum(earned) / len(earned),
        }
        for (environment, policy, target), earned in returns.items()
    ]  # fmt: skip
