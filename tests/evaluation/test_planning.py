"""Beam search against exhaustive search that keeps nothing, and what a plan depends on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from conformance.checks import notices
from foretell.evaluation import planning
from foretell.evaluation.configs import PlanningConfig
from foretell.evaluation.planning import best_actions, likeliest
from reference.planning import SHAPES, best_slowly, exhaustive, greedy, tiny, windows

EVEN = PlanningConfig(beam_width=300, expansion=1, discount=0.8)
"""One branch for each draw: nothing that was drawn is dropped before the end."""


# The likeliest continuation.


def check_likeliest(kind="number", goals=False):
    """Four symbols ahead, over the border of a timestep; another continuation than the greedy one at least once."""
    different, seed = 0, 0
    while seed < 2 or (not different and seed < 12):
        model = tiny(kind, seed, goals=goals)
        tokens, asked = windows(model, count=2, seed=seed)
        front = model._embed_goals(asked) if goals else None
        wide, one = (likeliest(model, tokens, 4, width, front).tolist() for width in (5**3, 1))
        window, goal = tokens[1].tolist(), None if front is None else front[1]
        best, lead = exhaustive(model, window, 4, goal)
        assert lead > 1e-4
        assert tuple(wide[1]) == best
        assert tuple(one[1]) == greedy(model, window, 4, goal)
        different, seed = different + (best != tuple(one[1])), seed + 1
    assert different, "greedy search finds them all"


@pytest.mark.parametrize("goals", [False, True], ids=["", "goals"])
@pytest.mark.parametrize("kind", SHAPES)
def test_a_wide_beam_finds_the_likeliest_and_a_narrow_one_is_greedy(kind, goals):
    check_likeliest(kind, goals)


def test_scores_of_others_and_forgotten_ancestors_are_noticed(monkeypatch):
    plain = planning._Beams.select
    monkeypatch.setattr(planning._Beams, "select", lambda self, chosen: plain(self, chosen.flip(1)))
    notices(check_likeliest)


# The best plan, exhaustively.


def _worth(observation, action):
    return 2.0 * np.sin(7.0 * observation + 3.0 * sum(action) + 1.0)


def _worths(observations, actions):
    return torch.sin(7.0 * observations[..., 0] + 3.0 * actions.sum(-1) + 1.0) * 2.0


def check_best(kind, horizon, *, valued=False, goals=False, width=300, models=2):
    """The first action of the best plan, of windows of several models; it is not the same in all of them."""
    config, answers, seed = replace(EVEN, horizon=horizon, beam_width=width), set(), 0
    while seed < models or (len(answers) < 2 and seed < 12):
        model = tiny(kind, seed, goals=goals)
        tokens, asked = windows(model, timesteps=5 - horizon, count=2, seed=seed)
        front = model._embed_goals(asked) if goals else None
        found = best_actions(model, tokens, config, _worths if valued else None, 3.0, front)
        goal = None if front is None else front[1]
        best, lead = best_slowly(model, tokens[1].tolist(), config, _worth if valued else None, 3.0, goal)
        assert lead > 1e-4
        assert tuple(found[1].tolist()) == best
        answers, seed = answers | {best}, seed + 1
    assert len(answers) > 1, "the same action is best in every window"


@pytest.mark.parametrize(
    ("kind", "horizon"), [("number", 1), ("number", 2), ("number", 3), ("choice", 1), ("choice", 2)]
)
@pytest.mark.parametrize("valued", [False, True], ids=["return", "worth"])
def test_plans_are_those_of_exhaustive_search(kind, horizon, valued):
    check_best(kind, horizon, valued=valued, width=600 if kind == "choice" else 300)


def test_plans_of_two_dimensions_and_with_goals_are_those_of_exhaustive_search():
    check_best("plane", 2, width=1500)
    check_best("number", 2, goals=True)


@pytest.mark.parametrize("kind", SHAPES)
def test_every_action_is_drawn(kind, monkeypatch):
    """So many branches leave no action out: exhaustive search, with which plans are compared, is what they do."""
    seen, plain = [], planning._Beams.append

    def noted(self, symbols):
        seen.append((self.slot, symbols))
        plain(self, symbols)

    monkeypatch.setattr(planning._Beams, "append", noted)
    model = tiny(kind)
    tokens, _ = windows(model)
    best_actions(model, tokens, replace(EVEN, beam_width=1500 if kind == "plane" else 300))
    first = torch.stack([symbols for slot, symbols in seen if 1 <= slot <= model.action_slots], -1)
    for row in first.tolist():
        assert len(set(map(tuple, row))) == (4 if kind == "choice" else 3**model.action_slots)


@pytest.mark.parametrize("horizon", [1, 2])
def test_nobody_asks_what_comes_behind_a_valued_plan(horizon, monkeypatch):
    """That answer is most of the work, and is never read."""
    asked, model = [], tiny("plane")
    extend = model.extend
    monkeypatch.setattr(
        model, "extend", lambda symbols, place, *rest: asked.append(place) or extend(symbols, place, *rest)
    )
    tokens, _ = windows(model)
    best_actions(model, tokens, replace(EVEN, horizon=horizon), _worths, 3.0)
    steps = (horizon - 1) * model.slots + model.action_slots - 1
    assert asked == [tokens.shape[1] + step for step in range(steps)]


# What a plan depends on.


def test_a_plan_is_a_function_of_window_settings_and_seed():
    model = tiny("plane")
    tokens, _ = windows(model, count=30)
    config = PlanningConfig(horizon=2, beam_width=4)
    first = best_actions(model, tokens, config)
    torch.manual_seed(5)
    assert torch.equal(best_actions(model, tokens, config), first)
    assert not torch.equal(best_actions(model, tokens, replace(config, seed=1)), first)


@pytest.mark.parametrize("goals", [False, True], ids=["", "goals"])
def test_each_window_is_planned_as_if_alone(goals):
    model = tiny("plane", goals=goals)
    tokens, asked = windows(model, count=20)
    front = model._embed_goals(asked) if goals else None
    config = PlanningConfig(horizon=3, beam_width=6, observation_top_k=None)
    together = best_actions(model, tokens, config, None, 2.0, front)
    ahead = likeliest(model, tokens, 6, 4, front)
    for row in range(20):
        goal = None if front is None else front[row : row + 1]
        assert torch.equal(best_actions(model, tokens[row : row + 1], config, None, 2.0, goal)[0], together[row])
        assert torch.equal(likeliest(model, tokens[row : row + 1], 6, 4, goal)[0], ahead[row])
    assert len(set(map(tuple, together.tolist()))) > 1
