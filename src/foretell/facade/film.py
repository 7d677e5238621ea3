"""A film of what a policy does: an episode from a shared start state, for each return that is asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from foretell.core.errors import UsageError
from foretell.core.progress import Progress, silent
from foretell.core.settings import check_kinds, check_progress, path_of, whole
from foretell.core.stepping import TargetReturn
from foretell.environments.making import GymnasiumLoop, environment_spec, make_environment
from foretell.evaluation.protocol import Policy, checked_actions, evaluation_starts, given_up
from foretell.facade.evaluation import checked_targets, part_of
from foretell.facade.subjects import Subject, check_by_name, subjects
from foretell.facade.training import ROOT_SEED
from foretell.reporting.film import Reel, write_film
from foretell.sequences.defaults import usual_defaults

RENDERED = "rgb_array"
"""The way of Gymnasium's environments to give what they look like as an array."""
USUAL_SPEED = 30.0
"""Frames a second, of environments that do not say."""
MOST_REELS = 8
"""Episodes beside each other."""
OF_MUJOCO = (
    " Without a screen, MuJoCo draws where the variable MUJOCO_GL is egl, or osmesa where that is installed: "
    "MUJOCO_GL=egl foretell evaluate ..."
)


@usual_defaults
def film(
    run: str | Path | Policy | Callable[[np.ndarray], Any],
    path: str | Path,
    *,
    environment: str | None = None,
    target_returns: TargetReturn = None,
    acting: Mapping[str, Any] | None = None,
    name: str | None = None,
    start: int = 0,
    root_seed: int = ROOT_SEED,
    progress: Progress = silent,
) -> list[dict[str, Any]]:
    """Write an animated GIF of what a run does, or a policy of your own; return what each episode earned.

    `run`, `environment`, `acting`, `name` and `root_seed` are those of `foretell.evaluate`. It acts from one of the
    shared start states, number `start` of the evaluation's; of several `target_returns` the episodes are beside each
    other, so are those of several seeds. `path` ends in .gif; what was there is replaced. Of each episode `seed`,
    `target`, `return` and `length` come back.

    Raises `UsageError` where the environment cannot be drawn (`render_mode` rgb_array of Gymnasium's), for more than
    eight episodes, and as `foretell.evaluate` does.
    """
    check_by_name(acting)
    check_kinds(name=(name, str))
    check_progress(progress)
    path, start, root_seed = path_of("path", path), whole("start", start), whole("root_seed", root_seed)
    if path.suffix != ".gif" or path.is_dir():
        raise UsageError(f"{path}: expected a file name that ends in .gif.")
    found = subjects(run, environment=environment, acting=acting, name=name, seed=None, root_seed=root_seed)
    shown = [
        (subject, target)
        for subject in (one() for one in found)
        for target in (
            [None] if target_returns is None else checked_targets(target_returns, subject.config)
        )
    ]  # fmt: skip
    if len(shown) > MOST_REELS:
        raise UsageError(f"{len(shown)} episodes beside each other; expected {MOST_REELS} at most. Ask for fewer.")
    seed = evaluation_starts(root_seed, start + 1)[start]
    reels, episodes, speed = list[Reel](), list[dict[str, Any]](), USUAL_SPEED
    for place, (subject, target) in enumerate(shown):
        caption = subject.facts["policy"] if target is None else f"asked {target:g}"
        if len(found) > 1:
            caption = f"seed {subject.facts['seed']}, {caption}"
        reel, speed = _episode(subject, target, seed, caption, part_of(progress, place, len(shown)))
        reels.append(reel)
        episodes.append({
            "seed": subject.facts["seed"], "target": target, "return": reel.earned[reel.length], "length": reel.length,
        })  # fmt: skip
    write_film(path, reels, frames_per_second=speed)
    return episodes


def _episode(subject: Subject, target: float | None, seed: int, caption: str, progress: Progress) -> tuple[Reel, float]:
    """Act one whole episode; return it, and the frames a second of the environment."""
    policy, spec = subject.policy, environment_spec(subject.environment)
    shape = (1,) if spec.num_actions is not None else (1, spec.action_dim)
    _require_drawn(spec.name)
    reel, earned, timestep, ended = Reel(caption=caption), 0.0, 0, False
    with contextlib.closing(GymnasiumLoop(spec.name, 1, RENDERED)) as loop:
        observations = loop.reset([seed])
        policy.reset(1, target)
        reel.add(0, _frame(loop), earned)
        while not ended:
            actions = checked_actions(policy.act(observations), shape, spec.num_actions)
            observations, rewards, terminations, truncations = loop.step(actions)
            policy.observe(rewards)
            earned, timestep = earned + float(rewards[0]), timestep + 1
            ended = bool(terminations[0] or truncations[0]) or given_up(policy, spec, timestep, running=1, count=1)
            if ended or reel.shows(timestep):
                reel.add(timestep, _frame(loop), earned)
            if not ended:
                progress(timestep, spec.horizon or timestep + 1)
        total = spec.horizon or timestep
        progress(total, total, mean_return=earned)
        return reel, float(loop.environments[0].metadata.get("render_fps") or USUAL_SPEED)


def _require_drawn(name: str) -> None:
    """Raise `UsageError` for an environment that does not give what it looks like as an array."""
    with contextlib.closing(make_environment(name)) as env:
        modes = env.metadata.get("render_modes", ())
    if RENDERED not in modes:
        raise UsageError(f"{name} cannot be drawn: its render_modes are {list(modes)}; expected {RENDERED} among them.")


def _frame(loop: GymnasiumLoop) -> np.ndarray:
    """Return what the environment looks like now. Raises `UsageError` where it cannot say."""
    try:
        frame = np.asarray(loop.environments[0].render())
    except Exception as error:  # of a screen, a driver or a package that is not there
        reason = (str(error) or type(error).__name__).splitlines()[0].removesuffix(".")
        advice = OF_MUJOCO if "mujoco" in type(loop.environments[0].unwrapped).__module__ else ""
        raise UsageError(f"{loop.name} cannot be drawn ({reason}).{advice}") from error
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or 0 in frame.shape:
        raise UsageError(
            f"{loop.name} cannot be drawn: render gave {frame.dtype} of shape {frame.shape}; expected uint8 of "
            "(height, width, 3)."
        )
    return frame
