"""`foretell train`: a dataset to a run folder."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from foretell.agents.configs import SACConfig
from foretell.cli.flags import (
    FIRST,
    common_flags,
    flags_of,
    model_prefix,
    parse_seeds,
    require_one,
    require_threads,
    use_threads,
)
from foretell.cli.own_environments import evaluate_next
from foretell.cli.progress import watch
from foretell.cli.seeds import train_seeds
from foretell.core.errors import UsageError
from foretell.core.files import read_json, read_json_lines
from foretell.core.launching import launch
from foretell.core.locks import early_lock
from foretell.evaluation.configs import ACTING, ActingConfig, ChunkingConfig, PlanningConfig
from foretell.models.configs import DecisionTransformerConfig
from foretell.models.registry import MODELS
from foretell.sequences.conditions import NEEDS_VALUES, Condition
from foretell.training.configs import ComputeConfig, TrainingConfig
from foretell.values.configs import IQLConfig

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
      foretell train data/pendulum-random.hdf5 --out runs/planner --algorithm trajectory-transformer --condition value
      foretell train data/pendulum-medium.hdf5 --out runs/dt-seeds --seeds 0..7
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
    """Train on this share of the episodes alone: those that earned most of the ones that began alike."""
    values_from: Path | None = None
    """Finished run of --algorithm iql whose value functions are used, on the same data or on timesteps imagined from
    them; of a folder of several seeds, the run of the same seed. Default: they are learned first."""
    initial_weights: Path | None = None
    """Finished run of the same network whose weights to begin with, to train it further or on other data; its units
    stay. Of a folder of several seeds it is the run of the same seed. Default: drawn."""
    environment: str | None = None
    """Gymnasium id, keywords behind it (Pendulum-v1,g=3). Default: the one that the dataset names; Pendulum-v1 for
    SAC."""
    horizon: int | None = None
    """Time limit in timesteps, for files that do not say where episodes end."""
    ends_at: str | None = None
    """Array of the file whose flags are True at the last timestep of each episode, and which alone says where they end:
    timeouts (AntMaze), episode_terminals (d3rlpy), terminals. Terminals elsewhere are cleared."""
    seed: int = 0
    """Seed of weights, batches and dropout."""
    seeds: str | None = None
    """Several seeds at the same time, one run folder each, OUT/seed-0 and so on: 0..7, or 0,3,5."""
    workers: int | None = None
    """With --seeds: processes at work at the same time, of one thread each. Default: one a core."""
    root_seed: int = 0
    """Seed of the validation start states."""
    validation_episodes: int = 50
    """Episodes per evaluation on validation starts (--evaluate-every)."""
    threads: int | None = None
    """Threads of the arithmetic; the same bits come out only under the same number. Default: one a core, shared among
    the processes where torchrun started several."""
    model: Annotated[DecisionTransformerConfig, tyro.conf.arg(name="")] = field(
        default_factory=DecisionTransformerConfig
    )
    others: Annotated[_Others, tyro.conf.arg(name="")] = field(default_factory=_Others)  # type: ignore[valid-type]
    training: Annotated[TrainingConfig, tyro.conf.arg(name="")] = field(default_factory=TrainingConfig)
    compute: Annotated[ComputeConfig, tyro.conf.arg(name="")] = field(default_factory=ComputeConfig)
    planning: PlanningConfig = field(default_factory=PlanningConfig)
    chunking: ChunkingConfig = field(default_factory=ChunkingConfig)
    values: IQLConfig = field(default_factory=IQLConfig)
    sac: SACConfig = field(default_factory=SACConfig)
    json: bool = False
    """Print one JSON object and nothing else on stdout."""

    def run(self) -> dict[str, Any]:
        """Train, or find the run finished; return where it lies and its last events."""
        if (self.algorithm == "sac") != (self.dataset is None):
            found = "learns by acting and takes no dataset" if self.dataset else "needs a dataset"
            raise UsageError(f"--algorithm {self.algorithm} {found}; see foretell train --help for examples.")
        require_threads(self.threads)
        require_one("workers", self.workers)
        require_one("validation-episodes", self.validation_episodes)
        self._refuse_what_does_not_apply()
        if launch().count > 1 and (self.algorithm not in MODELS or self.seeds is not None):
            what = "--seeds" if self.seeds is not None else f"--algorithm {self.algorithm}"
            raise UsageError(
                f"{what}: torchrun starts several processes for one run of a network; expected one process."
            )
        if self.seeds is not None:
            found = train_seeds(self, parse_seeds(self.seeds))
            return {**found, "environment": _environment_of(Path(found["runs"][0]))}
        here = launch()
        with early_lock(self.out) if here.count == 1 else nullcontext():  # who comes second hears it before torch loads
            use_threads(self.threads, here.local_count)
            with watch(f"train {self.out.name}", quiet=self.json or not here.speaks) as progress:
                self._train(progress)
        if not here.speaks:  # whose folder may be on another machine
            return {"run": str(self.out), "last": {}}
        last = {event["event"]: event for event in read_json_lines(self.out / "events.jsonl")}
        return {"run": str(self.out), "last": last, "environment": _environment_of(self.out)}

    def arguments(self, seed: int) -> tuple[str, ...]:
        """Return the command line that trains one seed of these settings on one thread."""
        plain = ("algorithm", "environment", "horizon", "ends_at", "root_seed", "validation_episodes")
        asked = (
            ("condition", "target", "best_share", "values_from", "initial_weights") if self.algorithm in MODELS else ()
        )
        parts = ["train", *([self.dataset] if self.dataset else []), "--out", str(self.out / f"seed-{seed}")]
        parts += ["--seed", str(seed), "--threads", "1", *common_flags(self, (*plain, *asked))]
        if self.algorithm in MODELS:
            parts += flags_of(self.settings[self.algorithm], model_prefix(self.algorithm)) + flags_of(self.training)
            parts += flags_of(self.compute)
        if self._acting is not None:
            parts += flags_of(self._acting, "planning." if self._acting is self.planning else "chunking.")
        learned = self.algorithm == "iql" or (self.condition in NEEDS_VALUES and self.values_from is None)
        parts += flags_of(self.values, "values.") if learned else []
        return (*parts, *(flags_of(self.sac, "sac.") if self.algorithm == "sac" else []))

    def _train(self, progress: Any) -> None:
        from foretell import facade
        from foretell.training.processes import joined

        given: dict[str, Any] = {"seed": self.seed, "progress": progress}
        if self.dataset is None:
            environment = self.environment or "Pendulum-v1"
            facade.train_sac(environment, self.out, config=self.sac, **given, **self._of_validation())
        elif self.algorithm == "iql":
            facade.train_iql(self.dataset, self.out, values=self.values, **given, **self._of_data())
        else:
            with joined(launch(), self.compute.device) as processes:
                facade.train(self.dataset, self.out, processes=processes, **given, **self.of_network())

    def _of_validation(self) -> dict[str, Any]:
        return {"root_seed": self.root_seed, "validation_episodes": self.validation_episodes}

    def _of_data(self) -> dict[str, Any]:
        return {
            **self._of_validation(), "environment": self.environment, "horizon": self.horizon, "ends_at": self.ends_at,
        }  # fmt: skip

    def of_network(self) -> dict[str, Any]:
        """Return what `facade.train` is told of a network, whatever the seed."""
        learned = self.condition in NEEDS_VALUES and not self.values_from
        return {
            **self._of_data(), "algorithm": self.algorithm, "condition": self.condition, "target": self.target,
            "model": self.settings[self.algorithm], "training": self.training, "acting": self._acting,
            "compute": self.compute, "best_share": self.best_share, "values": self.values if learned else None,
            "values_from": self.values_from, "initial_weights": self.initial_weights,
        }  # fmt: skip

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of every model by its name."""
        return {name: self.model if name == FIRST else getattr(self.others, name.replace("-", "_")) for name in MODELS}

    @property
    def _acting(self) -> ActingConfig | None:
        """Settings of how the model acts, where it has any."""
        given = (self.planning, self.chunking)
        return next((settings for settings in given if type(settings) is ACTING.get(self.algorithm)), None)

    def _refuse_what_does_not_apply(self) -> None:
        """Refuse a flag that would have no effect: whoever gives it expects one."""
        offline = self.algorithm in MODELS
        unused = {
            "flags of the Decision Transformer" if name == FIRST else f"--{name} flags": settings != entry_config()
            for name, settings in self.settings.items()
            if name != self.algorithm and (entry_config := MODELS[name].config)
        }
        learned = self.algorithm == "iql" or (offline and self.condition in NEEDS_VALUES)
        if not offline:
            unused |= {
                "--condition, --target, --best-share, --values-from and --initial-weights": (
                    (self.condition, self.target, self.best_share, self.values_from, self.initial_weights)
                    != ("return", "auto", 1.0, None, None)
                ),
                "flags of how a network is trained": self.training != TrainingConfig(),
                "--device and --precision": self.compute != ComputeConfig(),
            }
        unused |= {
            "--planning flags": ACTING.get(self.algorithm) is not PlanningConfig and self.planning != PlanningConfig(),
            "--chunking flags": ACTING.get(self.algorithm) is not ChunkingConfig and self.chunking != ChunkingConfig(),
            "--sac flags": self.algorithm != "sac" and self.sac != SACConfig(),
            "--values flags": self.values != IQLConfig() and (not learned or self.values_from is not None),
            "--values-from": self.values_from is not None and not learned,
            "--horizon": self.algorithm == "sac" and self.horizon is not None,
            "--ends-at": self.algorithm == "sac" and self.ends_at is not None,
        }
        for flags, given in unused.items():
            if given:
                told = f" with --condition {self.condition}" if offline else ""
                own = {"iql": "values", "sac": "sac", FIRST: None}.get(self.algorithm, self.algorithm)
                rather = f"; its own begin with --{own}. (foretell train --help)" if own else "."
                apply = "do not apply" if " " in flags else "does not apply"
                raise UsageError(f"{flags} {apply} to --algorithm {self.algorithm}{told}{rather}")
        self._refuse_what_has_no_effect()

    def _refuse_what_has_no_effect(self) -> None:
        """The same for flags that another flag takes the effect from; say which."""
        evaluated = {"sac": self.sac, "iql": self.values}.get(self.algorithm, self.training).evaluate_every
        evaluated = evaluated or (self.algorithm in MODELS and self.values.evaluate_every)
        several, counted = self.seeds is not None, self.validation_episodes != Train.validation_episodes
        for useless, why in (
            (several and self.seed != 0, "--seed: --seeds names them all; leave it out."),
            (several and self.threads is not None,
             "--threads: of --seeds each computes on one thread; --workers says how many at the same time."),
            (not several and self.workers is not None, "--workers: is for --seeds; leave it out, or give both."),
            (counted and not evaluated,
             "--validation-episodes: without --evaluate-every nothing is evaluated on the way; give both."),
        ):  # fmt: skip
            if useless:
                raise UsageError(why)

    def show(self, result: dict[str, Any]) -> str:
        """Say where the run lies and what to do next."""
        finished = [f"{run}: finished" for run in result.get("runs", [])]
        after = f"Next: {evaluate_next(result['run'], result.get('environment'))}"
        return "\n".join([*finished, after]) if finished else f"{result['run']}: finished. {after}"


def _environment_of(run: Path) -> str | None:
    """Return the environment that a run was trained for; None where its data named none."""
    return read_json(run / "config.json")["environment"]["name"] or None
