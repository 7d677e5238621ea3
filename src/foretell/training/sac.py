"""Training Soft Actor-Critic: act, record, update. Every step that was taken ends in `replay.hdf5` of the run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from foretell.agents.configs import SACConfig
from foretell.agents.policy import SACPolicy
from foretell.agents.transitions import Transitions
from foretell.agents.untraced import load_optimizer_tensors, optimizer_tensors
from foretell.core.decimals import counted
from foretell.core.errors import StoppedError, UsageError
from foretell.core.locks import folder_lock
from foretell.core.progress import Progress, silent
from foretell.core.seeding import derive_seed
from foretell.datasets.d4rl_writer import D4RLWriter, layout_of
from foretell.datasets.metadata import DatasetMetadata
from foretell.environments.making import EnvironmentSpec, environment_spec, make_environments
from foretell.sequences.scaling import ActionRange
from foretell.training.checked_sac import CheckedActorCritic, NotFiniteError
from foretell.training.checkpoints import loaded
from foretell.training.run_folder import RunFolder, run_versions

LOG_EVERY = 500
"""Timesteps between events that hold the losses."""
PATIENCE = 1_000
"""Timesteps that a stop waits for the end of an episode where no time limit ends it."""
AHEAD = 64
"""Timesteps for which random numbers are drawn together: for one alone, it takes three times as long."""
KEPT_EVERY = 100
"""Updates between copies of the agent in memory, from which an update that fails half-way is taken back."""


class Replay:
    """Every timestep so far, in the order taken; actions in the environment's units, next observations kept."""

    def __init__(self, capacity: int, spec: EnvironmentSpec, info_shapes: Mapping[str, tuple[int, ...]]):
        shape = spec.observation_shape
        self.columns: dict[str, np.ndarray] = {
            "observations": np.zeros((capacity, *shape), np.float32),
            "actions": np.zeros((capacity, spec.action_dim), np.float32),
            "rewards": np.zeros(capacity, np.float32),
            "next_observations": np.zeros((capacity, *shape), np.float32),
            "terminations": np.zeros(capacity, bool),
            "truncations": np.zeros(capacity, bool),
            "infos/action_log_probs": np.zeros(capacity, np.float32),
            **{f"infos/{name}": np.zeros((capacity, *shape), np.float32) for name, shape in info_shapes.items()},
        }
        self.size = 0

    def append(self, **row: np.ndarray | float | bool) -> None:
        """Add one timestep; names with `__` stand for a slash."""
        for name, value in row.items():
            self.columns[name.replace("__", "/")][self.size] = value
        self.size += 1

    def sample(self, rows: Int[np.ndarray, " batch"], action_range: ActionRange) -> Transitions:
        """Return these timesteps, actions in [-1, 1]."""
        observations, actions, rewards, next_observations, terminations = (
            self.columns[name].take(rows, 0)
            for name in ("observations", "actions", "rewards", "next_observations", "terminations")
        )
        return Transitions(
            observations=torch.from_numpy(observations.reshape(len(rows), -1)),
            actions=torch.from_numpy(action_range.to_unit(actions)),
            rewards=torch.from_numpy(rewards),
            next_observations=torch.from_numpy(next_observations.reshape(len(rows), -1)),
            terminations=torch.from_numpy(terminations),
        )


class SACTraining:
    """One agent in one environment, from its first step to its last; continues from a checkpoint bit for bit.

    Checkpoints fall on ends of episodes, where the environment's state is only the next start seed, and every
    random draw is a pure function of (seed, step): so weights, optimisers and replay are the whole state.
    """

    def __init__(self, environment: str, config: SACConfig, seed: int):
        self.spec = environment_spec(environment)
        if self.spec.action_low is None or self.spec.action_high is None:
            raise UsageError(f"{environment}: discrete actions; SAC expects a Box. Collect with the recipe random.")
        self.config, self.seed = config, seed
        self.action_range = ActionRange(low=self.spec.action_low, high=self.spec.action_high)
        self.environments = make_environments(environment, 1)
        self.generator = torch.Generator()
        self.agent = CheckedActorCritic(
            config, int(np.prod(self.spec.observation_shape)), self.spec.action_dim, self._seeded("sac-init", 0)
        )
        self.policy = SACPolicy(self.agent.policy, self.action_range)
        self._observations = self.environments.reset([0])
        info_shapes = {name: values.shape[1:] for name, values in self.environments.simulator_state().items()}
        self.replay = Replay(config.total_steps, self.spec, info_shapes)
        self.episode_start, self.episodes = 0, 0
        self._kept: tuple[int, dict[str, Tensor]] | None = None
        self._acting: dict[int, np.random.Generator] = {}
        self._updating: dict[int, tuple[np.ndarray, Tensor]] = {}

    def _seeded(self, name: str, index: int) -> torch.Generator:
        return self.generator.manual_seed(derive_seed(self.seed, name, index))

    def _acting_rng(self, step: int) -> np.random.Generator:
        """Return the stream that the action of `step` is drawn from, at its beginning."""
        if step not in self._acting:
            self._acting = {
                at: np.random.Generator(np.random.PCG64(derive_seed(self.seed, "sac-act", at)))
                for at in range(step, step + AHEAD)
            }
        return self._acting.pop(step)

    def begin_episode(self) -> None:
        """Start the next episode from its own seed."""
        start = derive_seed(self.seed, "sac-start", self.episodes) % (2**31 - 1)
        self._observations = self.environments.reset([start])
        self.episode_start, self.episodes = self.replay.size, self.episodes + 1

    def act_and_record(self) -> bool:
        """Take one timestep; return whether the episode ended with it."""
        step = self.replay.size
        rng = self._acting_rng(step)
        if step < self.config.learning_starts:
            actions = self.action_range.to_environment(rng.uniform(-1, 1, (1, self.spec.action_dim)))
            widths = np.asarray(self.action_range.high) - np.asarray(self.action_range.low)
            log_probs = -np.log(widths[widths > 0]).sum(keepdims=True)
        else:
            actions, log_probs = self.policy.act(self._observations.reshape(1, -1), rng)
        infos = {f"infos__{name}": values[0] for name, values in self.environments.simulator_state().items()}
        following, rewards, terminations, truncations = self.environments.step(actions)
        last = step + 1 == self.config.total_steps
        self.replay.append(
            observations=self._observations[0], actions=actions[0], rewards=float(rewards[0]),
            next_observations=following[0], terminations=bool(terminations[0]),
            truncations=bool(truncations[0] or (last and not terminations[0])),
            infos__action_log_probs=float(log_probs[0]), **infos,
        )  # fmt: skip
        self._observations = following
        return bool(terminations[0] or truncations[0])

    def update(self) -> dict[str, Tensor]:
        """Take one gradient step on a batch of the replay; return the losses.

        Raises `DivergedError`, which says where, with the agent as it was before, where a loss or a gradient is not
        finite.
        """
        step = self.replay.size
        if self._kept is None or step % KEPT_EVERY == 0:
            self._kept = step, {name: tensor.clone() for name, tensor in self._learned().items()}
        batch, noise = self._drawn(step)
        try:
            return self.agent.update(batch, noise)
        except NotFiniteError as found:
            failed = self.agent.diverged(step, batch, found)
            if found.network != "q":  # the first to step; the others' losses are of Q-functions that have
                self._take_back(step)
            raise failed from None

    def _drawn(self, step: int) -> tuple[Transitions, Tensor]:
        """Return the batch of the update at `step`, of timesteps before it, all equally likely, and the noise."""
        if step not in self._updating:
            self._updating = {at: self._draw(at) for at in range(step, step + AHEAD)}
        rows, noise = self._updating[step]
        return self.replay.sample(rows, self.action_range), noise

    def _draw(self, step: int) -> tuple[np.ndarray, Tensor]:
        size, generator = self.config.batch_size, self._seeded("sac-update", step)
        rows = torch.randint(step, (size,), generator=generator).numpy()
        return rows, torch.randn(2 * size, self.spec.action_dim, generator=generator)

    def _take_back(self, step: int) -> None:
        """Make the agent what it was before the update of `step`: from the copy, by the updates since."""
        assert self._kept is not None
        (kept, tensors), self._kept = self._kept, None
        self._load_learned(tensors)
        with contextlib.suppress(NotFiniteError):  # what was finite before and is no more: the memory is at fault
            for self.replay.size in range(kept, step):
                self.agent.update(*self._drawn(self.replay.size))
        self.replay.size = step

    def state(self) -> dict[str, Tensor]:
        """Return everything that a later start needs, as named tensors."""
        replay = {
            f"replay/{name}": torch.from_numpy(column[: self.replay.size])
            for name, column in self.replay.columns.items()
        }
        return {**self._learned(), **replay, "episodes": torch.tensor(self.episodes)}

    def _learned(self) -> dict[str, Tensor]:
        tensors = {f"agent/{name}": value for name, value in self.agent.state_dict().items()}
        for name, optimizer in self.agent.optimizers.items():
            tensors.update(optimizer_tensors(f"optimizer/{name}", optimizer))
        return tensors

    def load_state(self, tensors: Mapping[str, Tensor], step: int) -> None:
        """Put back what `state` returned."""
        self._load_learned(tensors)
        for name, column in self.replay.columns.items():
            column[:step] = tensors[f"replay/{name}"].numpy()
        self.replay.size, self.episodes = step, int(tensors["episodes"])

    def _load_learned(self, tensors: Mapping[str, Tensor]) -> None:
        self.agent.load_state_dict({n.removeprefix("agent/"): v for n, v in tensors.items() if n.startswith("agent/")})
        for name, optimizer in self.agent.optimizers.items():
            load_optimizer_tensors(f"optimizer/{name}", optimizer, tensors)


def train_sac(
    path: Path,
    environment: str,
    config: SACConfig,
    *,
    seed: int = 0,
    evaluate: Callable[[SACPolicy], float] | None = None,
    validation: Mapping[str, int] | None = None,
    progress: Progress = silent,
) -> Path:
    """Train one agent in `path`, or continue it; a finished run is left as it is.

    `validation` says in `config.json` which start states `evaluate` uses.
    `evaluate` returns the mean return on validation starts, for the learning curve. Writes the run folder and
    `replay.hdf5`, every timestep taken as a D4RL dataset.
    """
    training = SACTraining(environment, config, seed)
    facts = {**sac_run_config(training.spec, config, seed), "validation": dict(validation or {})}
    with contextlib.closing(training.environments), folder_lock(path), RunFolder(path, facts) as run:
        if run.finished:
            return path
        if resumed := run.resume():
            loaded(lambda: training.load_state(*resumed), path / "checkpoints")
        run.require_room(
            training.agent.state_dict(), beside=sum(column.nbytes for column in training.replay.columns.values())
        )
        _loop(run, training, evaluate, progress)
        _write_replay(path / "replay.hdf5", training)
        run.finish({f"policy.{name}": value for name, value in training.agent.policy.state_dict().items()})
    return path


def sac_run_config(spec: EnvironmentSpec, config: SACConfig, seed: int) -> dict[str, object]:
    """Return what `config.json` of a SAC run holds."""
    return {"kind": "sac", "algorithm": "sac", "environment": asdict(spec), "agent": asdict(config), "seed": seed}


def _loop(
    run: RunFolder, training: SACTraining, evaluate: Callable[[SACPolicy], float] | None, progress: Progress
) -> None:
    config, replay = training.config, training.replay
    latest: dict[str, float] = {}
    stopped: StoppedError | None = None
    waited, checkpointed = 0, replay.size
    training.begin_episode()
    while replay.size < config.total_steps:
        ended = training.act_and_record()
        if replay.size > config.learning_starts:
            losses = training.update()
            if replay.size % LOG_EVERY == 0:
                latest["loss"] = float(losses["q"])
                named = {f"{name}_loss": float(loss) for name, loss in losses.items()}
                run.event("training", {"step": replay.size}, **named, temperature=training.agent.temperature)
        if evaluate and config.evaluate_every and replay.size % config.evaluate_every == 0:
            latest["evaluated"] = evaluate(training.policy)
            run.event("evaluation", {"step": replay.size}, mean_return=latest["evaluated"])
        if ended:
            rewards = replay.columns["rewards"][training.episode_start : replay.size]
            latest["return"] = float(rewards.sum(dtype=np.float64))
            run.event("episode", {"step": replay.size}, **{"return": latest["return"]}, length=len(rewards))
            if stopped or replay.size - checkpointed >= config.checkpoint_every:
                run.checkpoint(replay.size, training.state())
                checkpointed = replay.size
            if stopped:
                raise stopped
            if replay.size < config.total_steps:
                training.begin_episode()
        try:
            progress(replay.size, config.total_steps, **latest)
        except StoppedError as error:  # the state can be saved where an episode ends, so go on to there
            stopped, waited = stopped or error, waited + 1
            if training.spec.horizon is None and waited > PATIENCE:
                raise


def _write_replay(path: Path, training: SACTraining) -> None:
    """Write every timestep that the agent took, in order, as a D4RL dataset of whole episodes."""
    config, columns = training.config, training.replay.columns
    metadata = DatasetMetadata(
        environment=training.spec.name, algorithm=f"sac ({config.form})", seed=training.seed, versions=run_versions(),
        hyperparameters=asdict(config),
        description=f"Every step that a Soft Actor-Critic agent took while it learned "
        f"({counted(config.total_steps, 'step')}; the first {config.learning_starts:,} with uniform random actions).",
    )  # fmt: skip
    with D4RLWriter(path, num_steps=config.total_steps, layout=layout_of(columns), metadata=metadata) as writer:
        writer.append(columns)
