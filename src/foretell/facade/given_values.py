"""Value functions of another run, for a model that is told by them: whether they fit, and a copy of them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from foretell.core.errors import UsageError
from foretell.core.files import atomic_path, write_json
from foretell.core.run_settings import as_json
from foretell.datasets.metadata import IMAGINED_FROM
from foretell.facade.source import Source
from foretell.training.run_folder import load_run


def given_values(path: str | Path, source: Source) -> dict[str, Any]:
    """Return the configuration of a finished run of value functions.

    Raises `UsageError` where it is of another kind, or of other data than `source` and what was imagined from them.
    """
    config, _ = load_run(Path(path))
    if config.get("kind") != "values":
        raise UsageError(
            f"{path}: a run of {config.get('algorithm')}; expected one of `foretell train --algorithm iql`."
        )
    here = as_json(source.config())
    there = config["normalization"]
    if config["dataset"].get(IMAGINED_FROM) == source.data.fingerprint():  # of a wider world, in its own units
        others = ["action_range"]
    elif config["dataset"]["fingerprint"] == here["dataset"]["fingerprint"]:
        others = [name for name in here["normalization"] if name != "return_scale"]  # in which they measure nothing
    else:
        raise UsageError(
            f"{path}: its value functions were learned from other data; expected {source.data.name}, or timesteps that "
            "were imagined from it."
        )
    if different := [name for name in others if there[name] != here["normalization"][name]]:
        name, mend = config["environment"]["name"], "Learn them again"
        if name and name != here["environment"]["name"]:
            mend = f"They were learned with environment {name}: name it here as well, or learn them again"
        raise UsageError(
            f"{path}: its value functions have other units than are read here ({', '.join(different)}); expected the "
            f"same. {mend}, by `foretell train --algorithm iql`."
        )
    return config


def copy_values(run: Path, to: Path) -> None:
    """Copy what is needed to explain the run, weights last: their presence says that the copy is whole."""
    config, _ = load_run(run)
    write_json(to / "config.json", config)
    with atomic_path(to / "model.safetensors") as temporary:
        shutil.copyfile(run / "model.safetensors", temporary)
