"""`foretell train`: a dataset to a run folder."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from foretell.agents.configs import SACConfig
from foretell.cli.progress import watch
from foretell.core.errors import UsageError
from foretell.models.configs import DecisionTransformerConfig
from foretell.training.configs import TrainingConfig


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train a sequence model on a dataset, or a SAC agent in an environment.

    Writes a run folder; the same command again continues an interrupted run.

    To try it:
      foretell train data/pendulum-medium.hdf5 --out runs/dt --updates 4000
      foretell train --algorithm sac --environment Pendulum-v1 --out runs/sac
    """

    dataset: Annotated[str | None, tyro.conf.Positional] = None
    """Path of an HDF5 file in D4RL's form, or minari:ID; none for SAC."""
    out: Path
    """Run folder to make or continue."""
    algorithm: Literal["decision-transformer", "sac"] = "decision-transformer"
    """What to train."""
    environment: str | None = None
    """Gymnasium id. Default: the one that the dataset names; Pendulum-v1 for SAC."""
    horizon: int | None = None
    """Time limit in timesteps, for files that do not say where episodes end."""
    target_return: float | None = None
    """Return that the policy asks for, in reward units. Default: a quantile of the returns in the data."""
    seed: int = 0
    """Seed of weights, batches and dropout."""
    root_seed: int = 0
    """Seed of the validation start states."""
    validation_episodes: int = 50
    """Episodes per evaluation on validation starts (--evaluate-every)."""
    threads: int | None = None
    """Threads of the arithmetic; the same bits come out only under the same number. Default: one a core."""
    model: Annotated[DecisionTransformerConfig, tyro.conf.arg(name="")] = field(
        default_factory=DecisionTransformerConfig
    )
    training: Annotated[TrainingConfig, tyro.conf.arg(name="")] = field(default_factory=TrainingConfig)
    sac: SACConfig = field(default_factory=SACConfig)
    json: bool = False
    """Print one JSON object and nothing else on stdout."""

    def run(self) -> dict[str, Any]:
        """Train, or find the run finished; return where it lies and its last events."""
        if (self.algorithm == "sac") != (self.dataset is None):
            found = "learns by acting and takes no dataset" if self.dataset else "needs a dataset"
            raise UsageError(f"--algorithm {self.algorithm} {found}; see foretell train --help for examples.")
        self._refuse_what_does_not_apply()
        import torch

        from foretell import facade
        from foretell.core.files import read_json_lines

        torch.set_num_threads(self.threads or os.cpu_count() or 1)
        with watch(f"train {self.out.name}", quiet=self.json) as progress:
            if self.dataset is None:
                facade.train_sac(
                    self.environment or "Pendulum-v1", self.out, config=self.sac, seed=self.seed,
                    root_seed=self.root_seed, validation_episodes=self.validation_episodes, progress=progress,
                )  # fmt: skip
            else:
                facade.train(
                    self.dataset, self.out, algorithm=self.algorithm, model=self.model, training=self.training,
                    target_return=self.target_return, environment=self.environment, horizon=self.horizon,
                    seed=self.seed, root_seed=self.root_seed, validation_episodes=self.validation_episodes,
                    progress=progress,
                )  # fmt: skip
        events = read_json_lines(self.out / "events.jsonl")
        return {"run": str(self.out), "last": {event["event"]: event for event in events}}

    def _refuse_what_does_not_apply(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise UsageError(f"--threads {self.threads}; expected at least 1.")
        if self.algorithm != "sac" and self.sac != SACConfig():
            raise UsageError(f"--sac flags do not apply to --algorithm {self.algorithm}.")
        settings = (self.model, self.training, self.horizon, self.target_return)
        if self.algorithm == "sac" and settings != (DecisionTransformerConfig(), TrainingConfig(), None, None):
            raise UsageError("flags of sequence models do not apply to --algorithm sac; its own begin with --sac.")

    def show(self, result: dict[str, Any]) -> str:
        """Say where the run lies and what to do next."""
        return f"{result['run']}: finished. Next: foretell evaluate {result['run']}"
