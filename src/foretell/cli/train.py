"""`foretell train`: a dataset to a run folder."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from foretell.agents.configs import SACConfig
from foretell.cli.progress import watch
from foretell.core.errors import UsageError
from foretell.models.configs import DecisionTransformerConfig
from foretell.models.registry import MODELS
from foretell.sequences.targets import Condition
from foretell.training.configs import TrainingConfig
from foretell.values.configs import IQLConfig

FIRST = "decision-transformer"
"""The model whose flags have no prefix."""
_Others = make_dataclass(
    "_Others",
    [
        (name.replace("-", "_"), entry.config, field(default_factory=entry.config))
        for name, entry in MODELS.items()
        if name != FIRST
    ],
    frozen=True,
    kw_only=True,
)
"""Settings of every other model of the registry, under its own prefix."""
Algorithm = Literal[(*MODELS, "iql", "sac")]  # type: ignore[valid-type]


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train a sequence model or value functions on a dataset, or a SAC agent in an environment.

    Writes a run folder; the same command again continues an interrupted run.

    To try it:
      foretell train data/pendulum-medium.hdf5 --out runs/dt --updates 4000
      foretell train data/pendulum-random.hdf5 --out runs/dt-advantage --condition advantage
      foretell train data/pendulum-medium.hdf5 --out runs/cloned --algorithm mlp --condition none
      foretell train --algorithm sac --environment Pendulum-v1 --out runs/sac
    """

    dataset: Annotated[str | None, tyro.conf.Positional] = None
    """Path of an HDF5 file in D4RL's form, or minari:ID; none for SAC."""
    out: Path
    """Run folder to make or continue."""
    algorithm: Algorithm = FIRST
    """What to train: a network that acts, iql (implicit Q-learning and its policy), or sac (learns by acting)."""
    condition: Condition = "return"
    """What the network is told at every timestep: the return still earned in the data; the same, raised to what learned
    value functions expect; how good the action is among those that the data take in that state, by learned value
    functions; or nothing (behaviour cloning)."""
    target: float | Literal["auto"] = "auto"
    """What the policy asks for: auto, a rule from the data alone; or a number: a return in reward units for the
    conditions return and value, a quantile from 0 to 1 for advantage."""
    best_share: float = 1.0
    """Train on this share of the episodes alone: those that earned most beyond what their start state let expect."""
    values_from: Path | None = None
    """Finished run of --algorithm iql on the same data, whose value functions are used. Default: learned first."""
    environment: str | None = None
    """Gymnasium id. Default: the one that the dataset names; Pendulum-v1 for SAC."""
    horizon: int | None = None
    """Time limit in timesteps, for files that do not say where episodes end."""
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
    others: Annotated[_Others, tyro.conf.arg(name="")] = field(default_factory=_Others)  # type: ignore[valid-type]
    training: Annotated[TrainingConfig, tyro.conf.arg(name="")] = field(default_factory=TrainingConfig)
    values: IQLConfig = field(default_factory=IQLConfig)
    sac: SACConfig = field(default_factory=SACConfig)
    json: bool = False
    """Print one JSON object and nothing else on stdout."""

    def run(self) -> dict[str, Any]:
        """Train, or find the run finished; return where it lies and its last events."""
        if (self.algorithm == "sac") != (self.dataset is None):
            found = "learns by acting and takes no dataset" if self.dataset else "needs a dataset"
            raise UsageError(f"--algorithm {self.algorithm} {found}; see foretell train --help for examples.")
        if self.threads is not None and self.threads < 1:
            raise UsageError(f"--threads {self.threads}; expected at least 1.")
        self._refuse_what_does_not_apply()
        import torch

        from foretell.core.files import read_json_lines

        torch.set_num_threads(self.threads or os.cpu_count() or 1)
        with watch(f"train {self.out.name}", quiet=self.json) as progress:
            self._train(progress)
        events = read_json_lines(self.out / "events.jsonl")
        return {"run": str(self.out), "last": {event["event"]: event for event in events}}

    def _train(self, progress: Any) -> None:
        from foretell import facade

        shared: dict[str, Any] = {
            "seed": self.seed, "root_seed": self.root_seed, "validation_episodes": self.validation_episodes,
            "progress": progress,
        }  # fmt: skip
        if self.dataset is None:
            facade.train_sac(self.environment or "Pendulum-v1", self.out, config=self.sac, **shared)
            return
        shared |= {"environment": self.environment, "horizon": self.horizon}
        if self.algorithm == "iql":
            facade.train_iql(self.dataset, self.out, values=self.values, **shared)
            return
        learned = self.condition in ("value", "advantage")
        facade.train(
            self.dataset, self.out, algorithm=self.algorithm, condition=self.condition, target=self.target,
            model=self._settings[self.algorithm], training=self.training, best_share=self.best_share,
            values=self.values if learned and not self.values_from else None, values_from=self.values_from, **shared,
        )  # fmt: skip

    @property
    def _settings(self) -> dict[str, Any]:
        """Settings of every model by its name."""
        return {name: self.model if name == FIRST else getattr(self.others, name.replace("-", "_")) for name in MODELS}

    def _refuse_what_does_not_apply(self) -> None:
        """Refuse a flag that would have no effect: whoever gives it expects one."""
        offline = self.algorithm in MODELS
        unused = {
            "flags of the Decision Transformer" if name == FIRST else f"--{name} flags": settings != entry_config()
            for name, settings in self._settings.items()
            if name != self.algorithm and (entry_config := MODELS[name].config)
        }
        learned = self.algorithm == "iql" or (offline and self.condition in ("value", "advantage"))
        if not offline:
            unused |= {
                "--condition, --target, --best-share and --values-from": (
                    (self.condition, self.target, self.best_share, self.values_from) != ("return", "auto", 1.0, None)
                ),
                "flags of how a network is trained": self.training != TrainingConfig(),
            }
        unused |= {
            "--sac flags": self.algorithm != "sac" and self.sac != SACConfig(),
            "--values flags": self.values != IQLConfig() and (not learned or self.values_from is not None),
            "--values-from": self.values_from is not None and not learned,
            "--horizon": self.algorithm == "sac" and self.horizon is not None,
        }
        for flags, given in unused.items():
            if given:
                told = f" with --condition {self.condition}" if offline else ""
                raise UsageError(f"{flags} do not apply to --algorithm {self.algorithm}{told}.")

    def show(self, result: dict[str, Any]) -> str:
        """Say where the run lies and what to do next."""
        return f"{result['run']}: finished. Next: foretell evaluate {result['run']}"
