"""Whether timesteps follow from each other: by the environment's rules where they are known, else by the data's own.

With known rules every timestep is played again, and what differs is an error. Without, a linear model of one step is
fitted: it tells leaps, and actions that lie one timestep beside their effect. Rewards without known rules cannot be
told from shifted ones: a reward for the state that was left and one for the state that was reached are both usual.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from foretell.core.decimals import counted
from foretell.datasets.dataset import Dataset
from foretell.datasets.findings import Finding, blocks, deviation, error, inside, place, spread, warning
from foretell.datasets.one_step import OneStep, misplaced_actions
from foretell.datasets.rules import KNOWN, Rule
from foretell.environments.making import EnvironmentSpec

SAME = 1e-3
"""Absolute and relative difference up to which a recorded number is the one that the rules give."""
EDGE = 1e-4
"""An end is not judged within this distance: recorded observations are rounded."""
SLIGHT = 0.1
"""Differences up to this part of a column's deviation are those of noise, or of a learned model of the environment."""
FEW, MOST = 0.01, 0.5
"""Where a larger share differs slightly, or most differ at all, the data follow other rules as a whole."""
UNRELATED = 0.5
"""Where half of those that differ are farther off, in deviations, than any rules would lead in one timestep."""
ALL = 0.9
"""From this share of the differing timesteps on that a shift explains, it is the shift."""
ENOUGH = 10
"""Differing timesteps needed to speak of a shift."""
SHIFTS = {-1: "one timestep late: each row holds that of the row before", 1: "one timestep early: each row holds that "
          "of the row behind"}  # fmt: skip
LOOKED_AT = 2_000

FINALS, FINAL_SHARE = 5, 0.5
"""Of so many episodes, final observations that leap in more than this share are no accidents."""


def dynamics(dataset: Dataset, spec: EnvironmentSpec | None) -> Iterator[Finding]:
    """Hold each timestep against the one before; imagined ones follow rules that were learned, and are left alone."""
    if dataset.metadata.algorithm == "imagined":
        return
    rule = KNOWN.get(spec.name) if spec is not None else None
    if rule is None or spec is None:
        yield from _by_the_data(dataset)
    elif (
        dataset.observation_shape == spec.observation_shape
        and dataset.discrete == (spec.num_actions is not None)
        and (dataset.discrete or dataset.action_dim == spec.action_dim)
    ):
        yield from _by_the_rules(dataset, rule, spec)


def _by_the_rules(dataset: Dataset, rule: Rule, spec: EnvironmentSpec) -> Iterator[Finding]:
    differing, name = _differing(dataset, rule), spec.name
    steps = differing["observations"]
    if shift := _action_shift(dataset, rule, steps):
        yield error("replay", f"actions are {SHIFTS[shift]} (first: {place(dataset, int(steps[0]))}); played again in "
                    f"{name}, they lead to the recorded observations only there. Move them back.")  # fmt: skip
        return
    if scale := _action_scale(dataset, rule, spec, steps):
        yield error("replay", f"actions are rescaled to -1 to 1 (first: {place(dataset, int(steps[0]))}); played again "
                    f"in {name}, they lead to the recorded observations only if multiplied back, as those of "
                    f"Stable-Baselines3's replay buffers: {scale}.")  # fmt: skip
        return
    gaps = _gaps(dataset, rule, steps)
    if _other_rules(dataset, gaps) and np.median(gaps) <= UNRELATED:
        yield warning("replay", f"observations follow other rules than {name}'s at {len(steps):,} of "
                      f"{dataset.num_steps:,} timesteps (first: {place(dataset, int(steps[0]))}): imagined, with "
                      "noise, or of another version?")  # fmt: skip
        return
    for key, offset in (("observations", 1), ("next_observations", 0)):
        if len(rows := differing[key]):
            yield error("replay", f"{key} at {place(dataset, int(rows[0]) + offset)} are not what {name} gives after "
                        f"the action there ({counted(len(rows), 'such timestep')}). Were values changed, steps dropped "
                        "or episodes joined, or rows not in the order of recording? Remove or repair "
                        "them.")  # fmt: skip
            break
    yield from _rewards(dataset, rule, name, differing["rewards"])
    if len(rows := differing["terminations"]):
        row = int(rows[0])
        said = "True" if dataset.terminations[row] else "False"
        yield error("replay", f"terminations is {said} at {place(dataset, row)}, where {name} says the reverse "
                    f"({counted(len(rows), 'such timestep')}). A time limit belongs in truncations "
                    "('timeouts').")  # fmt: skip


def _rewards(dataset: Dataset, rule: Rule, name: str, rows: np.ndarray) -> Iterator[Finding]:
    if len(rows) == 0:
        return
    if shift := _reward_shift(dataset, rule, rows):
        yield error("replay", f"rewards are {SHIFTS[shift]} (first: {place(dataset, int(rows[0]))}), by the rules of "
                    f"{name}. Move them back.")  # fmt: skip
        return
    row = int(rows[0])
    expected = rule(dataset.observations[rows], dataset.actions[rows])[1]
    where = f"{dataset.rewards[row]:g} at {place(dataset, row)} where {name} gives {expected[0]:g}"
    gaps = np.abs(expected - dataset.rewards[rows]) / max(float(deviation(dataset.rewards)), 1e-12)
    if _other_rules(dataset, gaps):
        yield warning("replay", f"rewards are others than {name}'s at {len(rows):,} of {dataset.num_steps:,} timesteps "
                      f"(first: {where}): another scale, or another task?")  # fmt: skip
    else:
        yield error("replay", f"rewards hold {where} ({counted(len(rows), 'such timestep')}). Repair or remove those "
                    "episodes.")  # fmt: skip


def _gaps(dataset: Dataset, rule: Rule, rows: np.ndarray) -> np.ndarray:
    """How far the observation behind each row is from the rules', in deviations, in the dimension where it is most."""
    if len(rows) == 0:
        return np.zeros(0)
    usual = np.maximum(deviation(dataset.observations), 1e-12)
    expected, _, _ = rule(dataset.observations[rows], dataset.actions[rows])
    return (np.abs(expected - dataset.observations[rows + 1]) / usual).max(axis=1)


def _other_rules(dataset: Dataset, gaps: np.ndarray) -> bool:
    """Whether rows that differ by `gaps`, in deviations of the column, are more than single faults."""
    slight = int(np.count_nonzero(gaps <= SLIGHT))
    return slight > FEW * dataset.num_steps or len(gaps) > MOST * dataset.num_steps


def _differing(dataset: Dataset, rule: Rule) -> dict[str, np.ndarray]:
    """Rows whose recorded following observation, reward or termination is not the one that the rules give.

    `observations` are rows whose next row differs, `next_observations` rows whose own column does.
    """
    inner, following = inside(dataset), dataset.next_observations
    found: dict[str, list[np.ndarray]] = {
        "observations": [], "next_observations": [], "rewards": [], "terminations": []
    }  # fmt: skip
    for rows in blocks(dataset):
        observations, rewards, terminations = rule(dataset.observations[rows], dataset.actions[rows])
        stop = min(rows.stop, dataset.num_steps - 1)
        behind = dataset.observations[rows.start + 1 : stop + 1]
        bad = {
            "observations": _far(observations[: len(behind)], behind) & inner[rows.start : stop],
            "rewards": _far(rewards, dataset.rewards[rows]),
            "terminations": terminations != dataset.terminations[rows],
        }
        if following is not None:
            bad["next_observations"] = _far(observations, following[rows])
        for key, values in bad.items():
            if len(places := np.flatnonzero(values)):
                found[key].append(rows.start + places)
    differing = {key: np.concatenate(rows) if rows else np.zeros(0, np.int64) for key, rows in found.items()}
    return differing | {"terminations": _clear_of_the_edge(dataset, rule, differing["terminations"])}


def _far(expected: np.ndarray, recorded: np.ndarray) -> np.ndarray:
    far = np.abs(expected - recorded) > SAME * (1 + np.abs(expected))
    if not far.any():
        return np.zeros(len(far), bool)
    return np.asarray(far.reshape(len(far), -1).any(axis=1))


def _clear_of_the_edge(dataset: Dataset, rule: Rule, rows: np.ndarray) -> np.ndarray:
    """Leave out rows where an observation a little farther out, or in, would change what the rules say of the end."""
    wide, narrow = (rule(dataset.observations[rows] * (1 + sign * EDGE), dataset.actions[rows])[2] for sign in (1, -1))
    return rows[wide == narrow]


def _action_shift(dataset: Dataset, rule: Rule, rows: np.ndarray) -> int | None:
    """Return s, -1 or 1, where rows hold the action of row + s, as the observations tell; None where they do not."""
    for shift, some in _neighboured(dataset, rows):
        observations, _, _ = rule(dataset.observations[some], dataset.actions[some - shift])
        if np.mean(~_far(observations, dataset.observations[some + 1])) >= ALL:
            return shift
    return None


def _action_scale(dataset: Dataset, rule: Rule, spec: EnvironmentSpec, rows: np.ndarray) -> str:
    """Say how to multiply actions back that were rescaled to -1 to 1, as the observations tell; nothing otherwise."""
    if spec.action_low is None or spec.action_high is None or len(rows) < ENOUGH:
        return ""
    some = rows[spread(len(rows), LOOKED_AT)]
    low, high = np.asarray(spec.action_low), np.asarray(spec.action_high)
    observations, _, _ = rule(dataset.observations[some], low + (dataset.actions[some] + 1) / 2 * (high - low))
    if np.mean(~_far(observations, dataset.observations[some + 1])) < ALL:
        return ""
    return f"low + (actions + 1) / 2 * (high - low), here from {low.tolist()} to {high.tolist()}"


def _reward_shift(dataset: Dataset, rule: Rule, rows: np.ndarray) -> int | None:
    """Return s, -1 or 1, where rows hold the reward of row + s; None where they do not."""
    for shift, some in _neighboured(dataset, rows):
        _, rewards, _ = rule(dataset.observations[some + shift], dataset.actions[some + shift])
        if np.mean(~_far(rewards, dataset.rewards[some])) >= ALL:
            return shift
    return None


def _neighboured(dataset: Dataset, rows: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield each shift with some of the rows, evenly spread, that have a neighbour on both sides; few are no shift."""
    some = rows[(rows > 0) & (rows < dataset.num_steps - 1)]
    if len(some) >= ENOUGH:
        for shift in SHIFTS:
            yield shift, some[spread(len(some), LOOKED_AT)]


def _by_the_data(dataset: Dataset) -> Iterator[Finding]:
    model = OneStep.fit(dataset)
    if model is None:
        return
    if shift := misplaced_actions(dataset):
        yield warning("alignment", f"actions look {SHIFTS[shift]}; those of the row itself leave no trace in what "
                      "follows. Compare with the recording, and move them back.")  # fmt: skip
        return
    rows = model.leaps(dataset)
    if len(rows):
        yield warning("jumps", f"observations leap at {place(dataset, int(rows[0]) + 1)}, farther from what the "
                      f"timestep before lets expect than 99 in 100 ({counted(len(rows), 'such timestep')}); were steps "
                      "dropped or episodes joined?")  # fmt: skip
    yield from _finals(dataset, model.final_leaps(dataset))


def _finals(dataset: Dataset, leaping: np.ndarray) -> Iterator[Finding]:
    """Say that final observations leap, at these rows, where it is most of them, or of those of terminations."""
    ends, terminated = dataset.episode_ends - 1, np.asarray(dataset.terminations)
    for which, some, whole in (
        ("", leaping, ends), (" that terminate", leaping[terminated[leaping]], ends[terminated[ends]])
    ):  # fmt: skip
        if len(whole) >= FINALS and len(some) > FINAL_SHARE * len(whole):
            yield warning("jumps", f"the final observations (next_observations at the ends) of {len(some):,} of "
                          f"{len(whole):,} episodes{which} leap, farther from what the timestep before lets expect "
                          "than 99 in 100: were they made up, or are they of other episodes? Leave next_observations "
                          "out where they are unknown.")  # fmt: skip
            return
