"""Which environment belongs to a dataset or a run, and whether the two fit."""

from __future__ import annotations

from typing import Any

from foretell.core.decimals import counted
from foretell.core.errors import DatasetError, UsageError
from foretell.core.stepping import sizes_in_words
from foretell.core.warning import warn_caller
from foretell.datasets.dataset import Dataset
from foretell.datasets.doctor import diagnose
from foretell.datasets.doctor_values import RANGE_TOLERANCE
from foretell.datasets.recorded_environment import spec_of_data
from foretell.environments.making import (
    EnvironmentSpec,
    environment_spec,
    observation_range,
    stored_environment_spec,
)
from foretell.evaluation.protocol import NO_HORIZON_LIMIT
from foretell.sequences.normalization import Normalization

MANY_TIMESTEPS = 20_000
"""Episodes longer than this are rarely one."""
SEEN_ENOUGH = 0.9
"""Part of the time limit that the longest episode must reach; the few timesteps behind it decide little."""
LONG_WINDOW = 100
"""Timesteps of a window from which on it costs noticeable time and memory."""


def environment_of(data: Dataset, environment: str | None) -> EnvironmentSpec:
    """Return the environment asked for, or the one that the data name, or what the data themselves show."""
    if environment is not None:
        return environment_spec(environment)
    return stored_environment_spec(data.metadata.environment) or spec_of_data(data)


def refuse_unfit(data: Dataset, spec: EnvironmentSpec) -> None:
    """Raise `DatasetError` for data that training must not meet; warn of what else the doctor finds."""
    for finding in diagnose(data, spec if spec.name else None):  # errors first
        said = f"{data.path or data.name}: {finding.message}"
        if finding.severity == "error":
            raise DatasetError(said)
        warn_caller(said)


def fitting_environment(config: dict[str, Any], environment: str | None) -> EnvironmentSpec:
    """Return where a run is to be evaluated.

    Raises `UsageError` where its shapes differ from the run's, where the run acts beyond what it takes, or where images
    are on another scale.
    """
    trained = config["environment"]
    name = trained["name"] if environment is None else environment
    if not name:
        raise UsageError(
            "the run names no environment: its data named none, or one that could not be made when it was trained; say "
            "which with --environment. Where there is none, foretell.load_policy acts in a loop of your own, and "
            "docs/quickstart.md says how to try it on recorded episodes."
        )
    spec = environment_spec(name)
    seen = config.get("shape", trained)["observation_shape"]
    found = (list(spec.observation_shape), spec.action_dim, spec.num_actions is None)
    expected = (list(seen), trained["action_dim"], trained["num_actions"] is None)
    if found != expected:
        raise UsageError(
            f"{name} has observations {sizes_in_words(*found)}; the run was trained for {sizes_in_words(*expected)}. "
            f"Evaluate it in an environment of these; where the data are of {name}, train with --environment {name}."
        )
    _refuse_other_actions(config, spec)
    if "shape" in config:
        refuse_divided_images(Normalization.from_json(config["normalization"]), spec)
    longest = config.get("shape", {}).get("max_timesteps")
    if longest is not None and spec.horizon is not None and spec.horizon > longest:
        warn_caller(
            f"{name} stops after {spec.horizon:,} timesteps; the run was trained for episodes of {longest:,}, and "
            f"cannot act after them. Train it with --environment {name}."
        )
    return spec


def refuse_divided_images(normalization: Normalization, spec: EnvironmentSpec) -> None:
    """Raise `UsageError` where a run divides images by 255, and those of the environment were divided before."""
    if len(spec.observation_shape) != 3 or (bounds := observation_range(spec.name)) is None:
        return
    if normalization.divided_before(*bounds):
        raise UsageError(
            f"{spec.name} gives images from {bounds[0]:g} to {bounds[1]:g}; the run was trained on bytes, 0 to 255, "
            "and divides by 255. Evaluate it in an environment that gives bytes, or train it on images as "
            f"{spec.name} gives them."
        )


def warn_of_endless_episodes(spec: EnvironmentSpec) -> None:
    """Warn that episodes of a validation may never end, before anything is learned."""
    if spec.horizon is None:
        warn_caller(
            f"{spec.name} has no time limit: a validation episode that does not end by itself is an error after "
            f"{NO_HORIZON_LIMIT:,} timesteps. Name a limit ({spec.name},max_episode_steps=N), or leave validation out "
            "(evaluate_every 0)."
        )


def warn_of_timesteps(data: Dataset, spec: EnvironmentSpec, most: int, *, window: int, learned: bool) -> None:
    """Warn of timesteps that a sequence model cannot act in, or has not seen: `learned` of one with a vector for each.

    It acts for `most` timesteps, and is trained on windows of `window`. Nothing but the data says for how long to act
    where the environment has no limit, and where there is none, how far.
    """
    longest = int(data.episode_lengths.max())
    if window > max(longest, LONG_WINDOW):
        warn_caller(
            f"windows have {window:,} timesteps, the longest episode of {data.name} has {longest:,}: more are never "
            "there, and take time and memory for nothing. Give a shorter context_length."
        )
    if spec.horizon is None:
        found, ending = f"{spec.name} has no time limit", f"Name one: {spec.name},max_episode_steps=N."
        if not spec.name:
            found = f"{data.name} names no environment that can be made"
            ending = "Its actions stay within those of the data. Name one with environment"
            ending += "; one that nobody steps will do (docs/quickstart.md)."
        if learned and longest > MANY_TIMESTEPS:
            ending += (
                f" It keeps a vector for each of them; is the file "
                f"{counted(data.num_episodes, 'episode')} because it does not say where they end (horizon)? "
                "timestep_embedding sinusoidal keeps none."
            )
        warn_caller(
            f"{found}: the run will act for {counted(most, 'timestep')}, as long as the longest episode of the data, "
            f"and no further. {ending}"
        )
    elif learned and longest < SEEN_ENOUGH * spec.horizon:
        warn_caller(
            f"episodes of {spec.name} go on for up to {spec.horizon:,} timesteps, the longest of {data.name} has "
            f"{longest:,}: the vectors of later timesteps are not learned, and what is done there is anyone's guess. "
            "timestep_embedding sinusoidal makes later timesteps like those before."
        )


def _refuse_other_actions(config: dict[str, Any], spec: EnvironmentSpec) -> None:
    """Raise `UsageError` where a run acts beyond what the environment takes: many environments do not look."""
    acted = (config.get("normalization") or {}).get("action_range")
    if acted is None or spec.action_low is None or spec.action_high is None:
        return
    room = [RANGE_TOLERANCE * (high - low) for low, high in zip(spec.action_low, spec.action_high)]
    below = any(one < low - more for one, low, more in zip(acted["low"], spec.action_low, room))
    above = any(one > high + more for one, high, more in zip(acted["high"], spec.action_high, room))
    if below or above:
        raise UsageError(
            f"the run acts from {list(acted['low'])} to {list(acted['high'])}; {spec.name} takes actions from "
            f"{list(spec.action_low)} to {list(spec.action_high)}. Train it with --environment."
        )
