"""From a finished run to a figure of its attention: one real episode, one window of it."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32

from foretell.core.decimals import counted
from foretell.core.errors import UsageError
from foretell.core.stepping import Rewards, TargetReturn, Where
from foretell.datasets.dataset import Dataset
from foretell.datasets.registry import open_dataset
from foretell.evaluation.conditioned import ConditionedPolicy
from foretell.evaluation.planned import PlanningPolicy
from foretell.evaluation.protocol import Policy, evaluate, validation_starts
from foretell.facade.environments import fitting_environment
from foretell.facade.subjects import load_policy
from foretell.models.attention_maps import AttentionMap, attention_maps
from foretell.reporting.attention_figure import AttentionPanels, draw_attention
from foretell.sequences.batch import SequenceBatch
from foretell.sequences.defaults import usual_defaults
from foretell.sequences.windows import WindowSampler
from foretell.training.run_folder import load_run
from foretell.values.asking import foretold_of

ATTENTIVE = ("decision-transformer", "trajectory-transformer", "encoder-decoder")
"""Networks that have attention."""


@usual_defaults
def draw_run_attention(
    run: str | Path,
    out: str | Path | None = None,
    *,
    timestep: int | None = None,
    dataset: str | Path | Dataset | None = None,
    environment: str | None = None,
    horizon: int | None = None,
    ends_at: str | None = None,
) -> dict[str, Any]:
    """Draw what the tokens of one window attend to, in every layer and head of a finished run, as a PNG and an SVG.

    The episode is acted by the run's policy from its first validation start, in its environment or the one given; where
    there is a `dataset`, it is the first one recorded there (`horizon` for files that do not say where episodes end,
    `ends_at` for those where one array says it). The window ends at `timestep`, by default the middle of the episode.
    `out` ends in .png; default: attention.png in the run folder. Returns `run`, `figure`, `episode` (where it comes
    from, its length and return), `timestep`, `caption` and `maps` (name, shape `[layers, heads, queries, keys]`,
    queries and keys by name).
    Raises `UsageError` for a run without attention, a timestep that the episode has not, another kind of `out`.
    """
    config, _ = load_run(Path(run))
    stem = _stem(Path(run), out)
    if config.get("algorithm") not in ATTENTIVE:
        raise UsageError(
            f"{run}: a run of {config.get('algorithm')}, which has no attention; expected one of "
            f"{', '.join(ATTENTIVE)}."
        )
    policy = load_policy(run)
    assert isinstance(policy, ConditionedPolicy)
    if dataset is None:
        name = _environment(config, environment)
        episode = acted_episode(policy, name, validation_starts(config["validation"]["root_seed"], 1)[0])
    else:
        episode = recorded_episode(policy, dataset, horizon, ends_at)
        name = episode.name
    length = episode.num_steps
    timestep = length // 2 if timestep is None else timestep
    if not 0 <= timestep < length:
        raise UsageError(f"timestep {timestep}; the episode has {length}: expected 0 to {length - 1}.")
    maps = attention_maps(policy.model, window(policy, config, episode, timestep))
    first = max(0, timestep + 1 - policy.model.config.context_length)
    title = f"{config['algorithm']} of {config['dataset']['name']}: attention in timesteps {first}–{timestep}"
    drawn = draw_attention(stem, title, [_panels(found) for found in maps])
    return {
        "run": str(run), "figure": str(drawn.paths[-1]), "caption": drawn.caption, "timestep": timestep,
        "episode": {"of": name, "length": length, "return": float(episode.episode_returns()[0])},
        "maps": [
            {"name": found.name, "shape": list(found.weights.shape), "queries": _names(found.queries),
             "keys": _names(found.keys)} for found in maps
        ],
    }  # fmt: skip


def _environment(config: dict[str, Any], environment: str | None) -> str:
    """Return where the episode is acted. Raises `UsageError` where the environment cannot be made or does not fit."""
    try:
        return fitting_environment(config, environment).name
    except UsageError as error:
        raise UsageError(f"{error} Or take a recorded episode: --dataset.") from None


class _Remembering:
    """A policy that acts in one environment, and what it saw, did and earned there."""

    def __init__(self, policy: Policy):
        self.policy = policy
        self.observations: list[np.ndarray] = []
        self.actions: list[np.ndarray] = []
        self.rewards: list[float] = []

    def reset(self, num_envs: int, target_return: TargetReturn = None, where: Where | None = None) -> None:
        self.policy.reset(num_envs, target_return, where)

    def act(self, observations: np.ndarray) -> np.ndarray:
        actions = self.policy.act(observations)
        self.observations.append(np.array(observations[0]))
        self.actions.append(np.array(actions[0]))
        return actions

    def observe(self, rewards: Rewards) -> None:
        self.policy.observe(rewards)
        self.rewards.append(float(rewards[0]))


def acted_episode(policy: Policy, environment: str, start: int) -> Dataset:
    """Act one whole episode from a start state; return it as a dataset of one episode."""
    seen = _Remembering(policy)
    evaluate(seen, environment, [start])
    steps = len(seen.rewards)
    return Dataset(
        name=environment, observations=np.stack(seen.observations), actions=np.stack(seen.actions),
        rewards=np.array(seen.rewards, np.float32), terminations=np.zeros(steps, bool),
        truncations=np.arange(steps) == steps - 1, next_observations=None, episode_ends=np.array([steps]),
    )  # fmt: skip


def recorded_episode(
    policy: ConditionedPolicy, dataset: str | Path | Dataset, horizon: int | None, ends_at: str | None = None
) -> Dataset:
    """Return the first episode of a dataset. Raises `UsageError` where its shapes are not those of the run."""
    data = dataset if isinstance(dataset, Dataset) else open_dataset(dataset, horizon=horizon, ends_at=ends_at)
    shape = policy.model.shape
    found = (data.observation_shape, data.discrete, None if data.discrete else data.action_dim)
    expected = (shape.observation_shape, shape.discrete, None if shape.discrete else shape.action_dim)
    if found != expected:
        raise UsageError(
            f"{data.name} has observations of shape {found[0]} and {_actions(*found[1:])}; the run was trained on "
            f"{expected[0]} and {_actions(*expected[1:])}. Name a dataset of its environment."
        )
    return data.section(0, int(data.episode_ends[0]))


def window(policy: ConditionedPolicy, config: dict[str, Any], episode: Dataset, timestep: int) -> SequenceBatch:
    """Return the window that ends at `timestep` of an episode, told what the run's policy tells: one, unpadded."""
    sampler = WindowSampler(
        episode, policy.normalization, context_length=policy.model.config.context_length, seed=0,
        told=told_of_episode(policy, config, episode),
    )  # fmt: skip
    batch = sampler.windows(np.array([timestep]))
    real = batch.mask[0]
    kept = {name: getattr(batch, name)[:, real] for name in (field.name for field in fields(batch)) if name != "goals"}
    batch = replace(batch, **kept)
    if isinstance(policy, PlanningPolicy) and policy.planning.goal:
        goal = policy.normalization.observations(np.array([policy.planning.goal], np.float32))
        batch = replace(batch, goals=torch.from_numpy(goal))
    return batch


def told_of_episode(
    policy: ConditionedPolicy, config: dict[str, Any], episode: Dataset
) -> Float32[np.ndarray, " timesteps"]:
    """Return what every timestep is told: what is asked for, less what was earned; of a planner, what it foretells."""
    if isinstance(policy, PlanningPolicy) and not policy.model.config.told:
        numbers = foretold_of(
            config["condition"], episode, policy.normalization, policy.functions,
            discount=policy.model.config.discount,
        ).numbers  # fmt: skip
        assert numbers is not None
        return numbers
    asking = policy.asking
    left = np.full(episode.num_steps, asking.at_start(np.asarray(episode.observations[:1]))[0], np.float64)
    if asking.telling.spent:
        left[1:] -= np.cumsum(episode.rewards[:-1], dtype=np.float64)
    return asking.told(left, np.arange(episode.num_steps))


def _stem(run: Path, out: str | Path | None) -> Path:
    out = run / "attention.png" if out is None else Path(out)
    if out.suffix != ".png" or out.is_dir():
        raise UsageError(f"out {out}; expected a file name that ends in .png.")
    return out.with_suffix("")


def _panels(found: AttentionMap) -> AttentionPanels:
    return AttentionPanels(name=found.name, weights=found.weights.numpy(), queries=found.queries, keys=found.keys)


def _names(tokens: tuple[tuple[str, int | None], ...]) -> list[str]:
    return [kind if timestep is None else f"{kind} {timestep}" for kind, timestep in tokens]


def _actions(discrete: bool, dimensions: int | None) -> str:
    return "discrete actions" if discrete else counted(dimensions or 0, "action dimension")
