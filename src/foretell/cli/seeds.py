"""`foretell train --seeds`: several seeds at once, in workers of one thread each or, on a GPU, in one process."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foretell.cli.progress import watch
from foretell.core.errors import CheckpointError, UsageError
from foretell.core.files import sha256_of
from foretell.core.run_settings import as_json
from foretell.core.seeds_folder import REPORT, require_the_same, run_of_seed, runs_of_seeds
from foretell.core.system import cores
from foretell.models.registry import MODELS
from foretell.sequences.conditions import NEEDS_VALUES

if TYPE_CHECKING:
    from foretell.cli.train import Train


RECORDS_ENDING = ".jsonl"
"""Of files that evaluations of the seeds may have left beside them."""


def train_seeds(verb: Train, seeds: list[int]) -> dict[str, Any]:
    """Train every seed as `--seed` with one thread does, bit for bit; a rerun continues what is not finished."""
    _require_folder_of_seeds(verb)
    if verb.algorithm in MODELS and verb.compute.device != "cpu" and is_one_program(verb):
        return _train_together(verb, seeds)
    from foretell.cli.jobs import Job, run_jobs

    jobs = [Job(name=f"seed {seed}", arguments=verb.arguments(seed)) for seed in seeds]
    run_jobs(jobs, verb.workers or cores(), quiet=verb.json)
    return {"run": str(verb.out), "runs": [str(verb.out / f"seed-{seed}") for seed in seeds]}


def is_one_program(verb: Train) -> bool:
    """Whether a GPU takes the updates of all seeds at once. Raises `UsageError` where it is not there."""
    from foretell.training.placing import CAPTURABLE, Place

    return Place.of(verb.compute).device.type == "cuda" and verb.algorithm in CAPTURABLE


def _train_together(verb: Train, seeds: list[int]) -> dict[str, Any]:
    from foretell.facade.seeds import train_seeds as train_in_threads

    if verb.workers is not None:
        raise UsageError("--workers: on a GPU all seeds are trained in one process; leave it out.")
    assert verb.dataset is not None
    with watch(f"train {verb.out.name}", quiet=verb.json) as progress:
        runs = train_in_threads(verb.dataset, verb.out, seeds, progress=progress, **verb.of_network())
    return {"run": str(verb.out), "runs": [str(run) for run in runs]}


def _require_folder_of_seeds(verb: Train) -> None:
    """Raise `UsageError` where the folder holds more than seeds, records and report, or a seed trained otherwise."""
    if not verb.out.exists():
        return
    if not verb.out.is_dir():
        raise UsageError(f"{verb.out}: exists and is no folder; choose another --out.")
    begun = bool(runs_of_seeds(verb.out))
    strangers = sorted(
        one.name
        for one in verb.out.iterdir()
        if not one.name.startswith(("seed-", "."))
        and not (begun and (one.suffix == RECORDS_ENDING or one.name in REPORT))
    )
    if strangers:
        raise UsageError(
            f"{verb.out}: holds {strangers[0]}; expected an empty folder or one of --seeds. Choose another --out."
        )
    if begun:
        require_the_same(verb.out, _asked(verb))


def _weights_of(run: Path | None, seed: int) -> str | None:
    """Return the fingerprint of a run's weights, of several seeds that one's. Raises `CheckpointError` for none."""
    if run is None:
        return None
    run = run_of_seed(run, seed)
    if not (weights := run / "model.safetensors").is_file():
        raise CheckpointError(f"{run}: holds no finished run; expected one. Train it first.")
    return sha256_of(weights)


def _asked(verb: Train) -> dict[str, Any]:
    """Return what `config.json` of the first seed that was begun says, as follows from flags and data alone."""
    first = int(runs_of_seeds(verb.out)[0].name.removeprefix("seed-"))
    asked: dict[str, Any] = {
        "algorithm": verb.algorithm,
        "validation": {"root_seed": verb.root_seed, "episodes": verb.validation_episodes},
    }
    if verb.dataset is not None:
        from foretell.datasets.registry import open_dataset

        data = open_dataset(verb.dataset, horizon=verb.horizon, environment=verb.environment, ends_at=verb.ends_at)
        asked["dataset"] = {"fingerprint": data.fingerprint()}
    if verb.environment is not None:
        asked["environment"] = {"name": verb.environment}
    if verb.algorithm in MODELS:
        network = verb.of_network()
        asked |= {
            "condition": verb.condition, "best_share": verb.best_share, "training": asdict(verb.training),
            "model": asdict(network["model"]), "precision": verb.compute.precision,
            "values_from": _weights_of(verb.values_from, first),
            "initial_weights": _weights_of(verb.initial_weights, first),
            "target": {"return": None if verb.target == "auto" else verb.target},
        }  # fmt: skip
        if network["acting"] is not None:
            asked["acting"] = asdict(network["acting"])
        if verb.compute.device != "auto":
            asked["device"] = verb.compute.device.partition(":")[0]
        if verb.condition in NEEDS_VALUES and verb.values_from is None:
            asked["values"] = asdict(verb.values)
    else:
        asked |= {"agent": asdict(verb.sac)} if verb.algorithm == "sac" else {"values": asdict(verb.values)}
    return as_json(asked)
