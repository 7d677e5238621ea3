"""`foretell collect`: experience to a dataset."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from foretell.cli.flags import require_one, require_threads, use_threads
from foretell.cli.own_environments import to_paste
from foretell.cli.progress import watch
from foretell.core.decimals import counted, shown
from foretell.core.errors import CheckpointError, UsageError
from foretell.core.files import read_json, sha256_of, where_it_leads, write_json
from foretell.core.locks import output_lock
from foretell.core.run_settings import as_json
from foretell.core.seeds_folder import runs_of_seeds
from foretell.values.configs import DynamicsConfig

if TYPE_CHECKING:
    from foretell.datasets.dataset import Dataset

DEFAULT_STEPS = {"random": 1_000_000, "sac-agent": 200_000, "policy": 100_000, "imagined": 200_000}
"""Timesteps of a recording without --steps; of a replay, all that there are."""
NAMED = ("optimum", "random")
"""In the place of a run folder: the best that Pendulum-v1 allows; the other has a recipe of its own, and is told so."""


@dataclass(frozen=True, kw_only=True)
class Collect:
    """Record experience as a D4RL dataset.

    Recipes: random (uniform actions, in any Gymnasium environment whose actions are choices or bounded numbers),
    sac-agent (a trained agent acting), sac-replay (the steps that an agent took while it learned; all without --steps),
    policy (any finished run acting, with noise if asked), imagined (uniform actions in a world that is learned from few
    recorded steps).

    To try it:
      foretell collect random --steps 1000000 --out data/pendulum-random.hdf5
      foretell collect sac-agent --agent runs/sac --steps 200000 --out data/pendulum-medium.hdf5
      foretell collect sac-replay --agent runs/sac --steps 1000 --keep first --out data/few.hdf5
      foretell collect policy --agent runs/dt --target-returns -400 -200 --noise 0.1 --out data/more.hdf5
      foretell collect imagined --source data/few.hdf5 --steps 200000 --out data/imagined.hdf5
    """

    recipe: Annotated[Literal["random", "sac-agent", "sac-replay", "policy", "imagined"], tyro.conf.Positional]
    """Who acts."""
    out: Path
    """File to write, .hdf5; an existing one is kept if it is the same recording, and refused if not."""
    environment: str | None = None
    """Gymnasium id, keywords behind it (FrozenLake-v1,is_slippery=false). Default: the agent's, or Pendulum-v1 where
    there is no agent; --agent optimum needs it."""
    steps: int | None = None
    """Timesteps to record. Default: 1,000,000 (random), 200,000 (sac-agent, imagined), 100,000 (policy), all
    (sac-replay)."""
    keep: Literal["last", "first"] = "last"
    """sac-replay with --steps: the last steps (a ring buffer of that capacity when training ends) or the first."""
    agent: Path | None = None
    """policy: the run folder that acts, or optimum. Else that of a SAC agent (foretell train --algorithm sac), without
    which one is trained beside --out first."""
    target_returns: tuple[float, ...] = ()
    """policy: what the run is asked for; with several, episodes take them in turn. Default: what the run's own rule
    chooses."""
    noise: float = 0.0
    """policy: deviation of the normal noise on every action, in half action ranges; with choices, the share that is
    drawn uniformly."""
    source: str | None = None
    """imagined: the dataset that the world is learned from."""
    dynamics: DynamicsConfig = field(default_factory=DynamicsConfig)
    seed: int = 0
    """Seed of start states and actions."""
    num_envs: int | None = None
    """random, sac-agent, policy: environments that step together; another number gives another recording. Default:
    many of Pendulum-v1, 16 of others."""
    threads: int | None = None
    """Threads of the arithmetic, where networks or worlds are asked. Default: one a core."""
    json: bool = False
    """Print one JSON object and nothing else on stdout."""

    def run(self) -> dict[str, Any]:
        """Record, or find the recording already there; return what is in the file."""
        if self.out.is_symlink():
            return replace(self, out=where_it_leads(self.out)).run()
        if self.out.suffix not in (".hdf5", ".h5"):
            raise UsageError(f"--out {self.out}; expected a file name that ends in .hdf5 or .h5.")
        if self.steps is not None and self.steps < 1:
            raise UsageError(f"--steps {self.steps}; expected at least 1.")
        require_threads(self.threads)
        require_one("num-envs", self.num_envs)
        if self.num_envs is not None and self.recipe not in ("random", "sac-agent", "policy"):
            raise UsageError(
                f"--num-envs {self.num_envs}: is for random, sac-agent and policy, which step environments."
            )
        self._require_who_acts()
        imagined = self.recipe == "imagined"
        if imagined != (self.source is not None) or (imagined and (self.agent or self.environment)):
            raise UsageError("--source is for the recipe imagined, which needs it, and neither agent nor environment.")
        if self.recipe != "imagined" and self.dynamics != DynamicsConfig():
            raise UsageError(f"--dynamics flags do not apply to the recipe {self.recipe}.")
        if self.keep != "last" and (self.recipe != "sac-replay" or self.steps is None):
            raise UsageError(f"--keep {self.keep}: is for sac-replay with --steps; all of it is recorded otherwise.")
        request = {
            "recipe": self.recipe,
            "environment": self.environment if self.agent or self.source else self._environment,
            "steps": self.steps, "keep": self.keep, "seed": self.seed, "agent": self._agent_identity(),
            **self._source_identity(), **({} if self.num_envs is None else {"num_envs": self.num_envs}),
            **({"target_returns": list(self.target_returns), "noise": self.noise} if self.recipe == "policy" else {}),
        }  # fmt: skip
        with output_lock(self.out):
            dataset = self._recorded_before(request) or self._record(self.out)
            fingerprint = dataset.fingerprint()
            write_json(self._request_path, request | {"fingerprint": fingerprint})
        return {
            "path": str(self.out), "steps": dataset.num_steps, "episodes": dataset.num_episodes,
            "mean_return": float(dataset.episode_returns().mean()), "fingerprint": fingerprint,
        }  # fmt: skip

    def _require_who_acts(self) -> None:
        """Raise `UsageError` where the flags of who acts are not those of the recipe."""
        if self.recipe == "policy":
            if self.agent is None:
                raise UsageError("--agent is missing; the recipe policy needs the run folder that is to act.")
            return
        if self.agent and (self.environment or self.recipe == "random"):
            raise UsageError(
                "--agent brings its own environment, and is for sac-agent and sac-replay; policy takes both."
            )
        if self.target_returns or self.noise:
            raise UsageError(f"--target-returns and --noise are for the recipe policy, not for {self.recipe}.")

    @property
    def _environment(self) -> str:
        return self.environment or "Pendulum-v1"

    @property
    def _steps(self) -> int:
        """Return how many timesteps to record; 0 for all of a replay."""
        return self.steps or DEFAULT_STEPS.get(self.recipe, 0)

    @property
    def _request_path(self) -> Path:
        return self.out.with_suffix(".request.json")

    def _agent_identity(self) -> str | None:
        """Return the SHA-256 of the weights that are to act, None where no agent was named."""
        if self.agent is None:
            return None
        if self.recipe == "policy" and str(self.agent) in NAMED:
            return str(self.agent)
        if seeds := runs_of_seeds(self.agent):
            raise CheckpointError(
                f"{self.agent}: holds runs of several seeds; expected one of them, for example {seeds[0]}."
            )
        weights = self.agent / "model.safetensors"
        if not weights.exists():
            kind = "" if self.recipe == "policy" else " of SAC"
            raise CheckpointError(f"{weights}: no such file; expected a finished run{kind} (foretell train --help).")
        return sha256_of(weights)

    def _source_identity(self) -> dict[str, Any]:
        """Return what an imagined dataset follows from, nothing for the other recipes."""
        if self.source is None:
            return {}
        from foretell.datasets.registry import open_dataset

        return {"source": open_dataset(self.source).fingerprint(), "dynamics": as_json(asdict(self.dynamics))}

    def _recorded_before(self, request: dict[str, Any]) -> Dataset | None:
        """Return the dataset if it is there and is this very recording, None if there is nothing yet.

        A stop between the recording and its request leaves a file that says too little of itself: it is then recorded
        again beside it, and compared. Raises `UsageError` where it is anything else; it stays as it is.
        """
        from foretell.datasets.registry import open_dataset

        if not self.out.exists():
            return None
        there = open_dataset(self.out)
        if self._request_path.exists():
            found = read_json(self._request_path)
            same = found == request | {"fingerprint": there.fingerprint()}
        elif self.recipe in DEFAULT_STEPS and there.num_steps != self._steps:
            same = False
        else:
            again = self.out.with_name(f".{self.out.name}.again.hdf5")
            again.unlink(missing_ok=True)  # of a start that died here
            try:
                same = self._record(again).fingerprint() == there.fingerprint()
            finally:
                again.unlink(missing_ok=True)
        if not same:
            raise UsageError(f"{self.out}: exists and is another recording; choose another --out, or remove it.")
        return there

    def _record(self, path: Path) -> Dataset:
        from foretell.collection.recipes import collect_random, collect_replay

        with watch(f"collect {self.recipe}", quiet=self.json) as progress:
            if self.recipe == "random":
                return collect_random(
                    self._environment, self._steps, self.seed, path, progress, num_envs=self.num_envs
                )  # fmt: skip
            from foretell.facade import collect_imagined, collect_policy, collect_sac, train_sac

            use_threads(self.threads)
            if self.source:
                return collect_imagined(
                    self.source, path, num_steps=self._steps, seed=self.seed, config=self.dynamics, progress=progress
                )  # fmt: skip

            if self.recipe == "policy":
                assert self.agent is not None
                return collect_policy(
                    str(self.agent), path, num_steps=self._steps, environment=self.environment,
                    target_returns=self.target_returns or None, noise=self.noise, seed=self.seed,
                    num_envs=self.num_envs, progress=progress,
                )  # fmt: skip
            agent = self.agent or self.out.with_name(f"{self.out.stem}-sac")
            if self.agent is None:
                train_sac(self._environment, agent, seed=self.seed, progress=progress)
            if self.recipe == "sac-agent":
                return collect_sac(
                    agent, path, num_steps=self._steps, seed=self.seed, num_envs=self.num_envs, progress=progress
                )  # fmt: skip
            return collect_replay(agent / "replay.hdf5", path=path, num_steps=self.steps, keep=self.keep)

    def show(self, result: dict[str, Any]) -> str:
        """Say it in one line."""
        return (
            f"{result['path']}: {counted(result['steps'], 'timestep')} in "
            f"{counted(result['episodes'], 'episode')}, mean return {shown(result['mean_return'])}. Next: "
            f"{to_paste('foretell', 'inspect', result['path'])}"
        )
