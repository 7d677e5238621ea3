"""`foretell evaluate`: a run folder to evaluation records."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields, make_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import tyro

from foretell.cli.flags import RECORDS, require_one, require_threads, use_threads
from foretell.cli.progress import watch
from foretell.core.decimals import counted, decimals_of
from foretell.core.errors import UsageError
from foretell.core.files import where_it_leads
from foretell.evaluation.configs import ChunkingConfig, PlanningConfig

UNSET = "as-trained"


def _changes(settings: type) -> type:
    """Return the same settings, all of them unset: what is given changes what the run was trained with.

    They inherit from these for the sake of their help; what is set is checked where it is used.
    """
    kinds = get_type_hints(settings)
    changed = [(item.name, kinds[item.name] | Literal["as-trained"], field(default=UNSET)) for item in fields(settings)]
    return make_dataclass(
        f"_{settings.__name__}", changed, bases=(settings,), namespace={"__post_init__": lambda self: None},
        frozen=True, kw_only=True,
    )  # fmt: skip


_Planning = _changes(PlanningConfig)
"""Settings of a planner that are to be changed."""
_Chunking = _changes(ChunkingConfig)
"""Settings of acting with an encoder-decoder that are to be changed."""


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Act from the shared start states and record every episode's return.

    To try it:
      foretell evaluate runs/dt
      foretell evaluate runs/dt-seeds
      foretell evaluate runs/dt --target-returns -400 -200 -100 --film runs/dt/film.gif
      foretell evaluate runs/planner --planning.horizon 3 --name further-ahead
      foretell evaluate runs/iql --greedy
      foretell evaluate random --environment Pendulum-v1 --out random.jsonl
      foretell evaluate optimum --environment Pendulum-v1 --out optimum.jsonl
    """

    policy: Annotated[str, tyro.conf.Positional]
    """A finished run folder, or one of several seeds, all of which are evaluated; or random; or optimum, which for
    Pendulum-v1 is the best that there is."""
    out: Path | None = None
    """Records to add to, one JSON object an episode. Default: evaluations.jsonl in the folder."""
    environment: str | None = None
    """Gymnasium id; default: where the run was trained."""
    episodes: int = 200
    """Episodes for each target return."""
    target_returns: tuple[float, ...] = ()
    """What to ask for: returns in reward units; quantiles from 0 to 1 of a run that is told advantages. Default: what
    the run's own rule chooses."""
    name: str | None = None
    """What the records call the policy. Default: the dataset of a sequence model, else the algorithm, or
    iql-greedy."""
    root_seed: int = 0
    """Seed of the shared start states."""
    num_envs: int | None = None
    """Environments that may exist at once, for large simulators. Default: one for each episode, all together."""
    planning: Annotated[_Planning, tyro.conf.arg(name="planning")] = field(default_factory=_Planning)  # type: ignore[valid-type]
    """Changes of how a Trajectory Transformer plans; what is not given stays as the run was trained."""
    chunking: Annotated[_Chunking, tyro.conf.arg(name="chunking")] = field(default_factory=_Chunking)  # type: ignore[valid-type]
    """Changes of how an encoder-decoder acts."""
    greedy: bool = False
    """Of a run of value functions: take the action of the largest Q instead of imitating good ones. For data whose
    actions cover what can be done, as random ones do; the records call it iql-greedy."""
    film: Path | None = None
    """Also write what it does from the first start state as an animated GIF, a name that ends in .gif; episodes of
    several targets, or seeds, beside each other, eight at most."""
    threads: int | None = None
    """Threads of the arithmetic. Default: one a core."""
    json: bool = False
    """Print one JSON object and nothing else on stdout."""

    def run(self) -> dict[str, Any]:
        """Evaluate and save; return the mean for each target."""
        require_threads(self.threads)
        if self.episodes < 1:
            raise UsageError(f"--episodes {self.episodes}; expected at least 1.")
        require_one("num-envs", self.num_envs)
        if self.out is None and self.policy in ("random", "optimum"):
            raise UsageError(f"the policy {self.policy} has no run folder; say where the records go with --out.")
        if self.policy not in ("random", "optimum") and Path(self.policy).is_file():
            raise UsageError(f"{self.policy}: is a file; expected the folder of a finished run, or random or optimum.")
        if self.film is not None and self.film.suffix != ".gif":
            raise UsageError(f"--film {self.film}; expected a file name that ends in .gif.")
        from foretell import facade

        use_threads(self.threads)
        out = where_it_leads(self.out) if self.out else Path(self.policy) / RECORDS
        filmed = self._filmed()
        with watch(f"evaluate {Path(self.policy).name}", quiet=self.json) as progress:
            records = facade.evaluate(
                self.policy, environment=self.environment, episodes=self.episodes,
                target_returns=self.target_returns or None, acting=self._acting, name=self.name,
                root_seed=self.root_seed, num_envs=self.num_envs, out=out, progress=progress,
            )  # fmt: skip
        return {"policy": self.policy, "records": str(out), "evaluations": _summaries(records), **filmed}

    def _filmed(self) -> dict[str, Any]:
        """Write the film, where there is to be one: what cannot be drawn is heard of before all episodes are acted."""
        if self.film is None:
            return {}
        from foretell.facade.film import film

        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # pygame draws, and needs no screen for it
        with watch(f"film {Path(self.policy).name}", quiet=self.json) as progress:
            episodes = film(
                self.policy, where_it_leads(self.film), environment=self.environment,
                target_returns=self.target_returns or None, acting=self._acting, name=self.name,
                root_seed=self.root_seed, progress=progress,
            )  # fmt: skip
        return {"film": str(self.film), "filmed": episodes}

    @property
    def _acting(self) -> dict[str, Any]:
        given = {**vars(self.planning), **vars(self.chunking)}
        changes = {name: value for name, value in given.items() if value != UNSET}
        return changes | ({"greedy": True} if self.greedy else {})

    def show(self, result: dict[str, Any]) -> str:
        """One line for each target."""
        lines = []
        for row in result["evaluations"]:
            asked = "" if row["target_return"] is None else f"asked {_asked(row['target_return'])}, "
            low, high = row["ci95"]
            digits = decimals_of(low, high, *row["mean_by_seed"])
            of = counted(row["episodes"], "episode")
            if len(row["seeds"]) > 1:
                of = f"{len(row['seeds'])} seeds, {of} each"
            if row["episodes"] == 1 and len(row["seeds"]) == 1:
                lines.append(f"{asked}earned {row['mean_return']:.{digits}f} in one episode")
                continue
            if low == high:
                lines.append(
                    f"{asked}earned {row['mean_return']:.{digits}f} in every episode ({of}): no interval can be told "
                    "from returns that are all alike"
                )
                continue
            lines.append(
                f"{asked}earned {row['mean_return']:.{digits}f} on average, 95% interval {low:.{digits}f} to "
                f"{high:.{digits}f} ({of})"
            )
            if len(row["seeds"]) > 1:
                each = zip(row["seeds"], row["mean_by_seed"], strict=True)
                lines.append("  by seed: " + ", ".join(f"{seed}: {mean:.{digits}f}" for seed, mean in each))
        film = [f"film: {result['film']}"] if "film" in result else []
        return "\n".join([*lines, f"records: {result['records']}", *film])


def _asked(target: float) -> str:
    """Return what was asked for with one decimal, or as many as it has."""
    return f"{target:.1f}" if round(target, 1) == target else f"{target:g}"


def _summaries(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    import numpy as np

    from foretell.core.seeding import stream
    from foretell.reporting.statistics import BOOTSTRAP_SAMPLES, estimate_mean

    rows = []
    for target in dict.fromkeys(record["target"] for record in records):
        asked = [record for record in records if record["target"] == target]
        seeds = list(dict.fromkeys(record["seed"] for record in asked))
        returns = np.array([[record["return"] for record in asked if record["seed"] == seed] for seed in seeds])
        mean = estimate_mean(returns, samples=BOOTSTRAP_SAMPLES, generator=stream(0, "bootstrap"))
        rows.append(
            {"target_return": target, "mean_return": mean.value, "ci95": [mean.low, mean.high],
             "episodes": returns.shape[1], "seeds": seeds, "mean_by_seed": returns.mean(axis=1).round(9).tolist()}
        )  # fmt: skip
    return rows
