"""A Trajectory Transformer that is told what to earn, on a task where it can be seen whether it earns that."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from foretell import facade
from foretell.core.errors import UsageError
from foretell.evaluation.configs import PlanningConfig
from foretell.models.configs import TrajectoryTransformerConfig
from foretell.sequences.scaling import ActionRange
from foretell.training.configs import TrainingConfig
from foretell.values.configs import IQLConfig
from reference.making import make_dataset

STEPS = 10
MODEL = TrajectoryTransformerConfig(
    context_length=2, width=32, layers=2, heads=2, dropout=0.0, bins=15, binning="uniform", told=True
)
BRIEF = TrainingConfig(updates=2, batch_size=4)


def _world(episodes=200):
    """Every action earns itself, and every episode has an action of its own; observations say nothing."""
    rng = np.random.default_rng(0)
    actions = np.repeat(rng.uniform(-1, 1, episodes), STEPS).astype(np.float32)
    return make_dataset(
        [STEPS] * episodes, rewards=actions, actions=actions[:, None],
        observations=rng.normal(size=(episodes * STEPS, 1)).astype(np.float32),
    )  # fmt: skip


def _train(out, **changes):
    settings = {"model": MODEL, "training": BRIEF, "acting": PlanningConfig(beam_width=4), **changes}
    return facade.train(
        _world(), out, algorithm="trajectory-transformer", action_range=ActionRange(low=(-1.0,), high=(1.0,)),
        **settings,
    )  # fmt: skip


def _earned(policy, target=None):
    """Rewards of an episode that asks for `target`, by timestep."""
    rng, earned = np.random.default_rng(1), []
    policy.reset(1, target)
    for _ in range(STEPS):
        earned.append(float(policy.act(rng.normal(size=(1, 1)).astype(np.float32))[0, 0]))
        policy.observe(np.array(earned[-1:]))
    return np.array(earned)


def test_what_is_asked_for_is_earned(tmp_path):
    """By the middle action, the mean and the likeliest; and what the rule asks for."""
    run = _train(tmp_path / "run", training=TrainingConfig(updates=300, batch_size=64, learning_rate=3e-3))
    for behaviour in ("auto", "expectation", "imitation"):
        policy = facade.load_policy(run, acting={"behaviour": behaviour})
        for target in (-8.0, 0.0, 8.0):
            earned = _earned(policy, target)
            assert abs(earned.sum() - target) < 1.5, behaviour
            assert np.abs(earned[:5] - target / STEPS).max() < 0.3, behaviour
        asked = policy.asking.at_start(np.random.default_rng(1).normal(size=(1, 1)).astype(np.float32))[0]
        assert asked > 2.0
        assert abs(_earned(policy).sum() - asked) < 1.5, behaviour


def test_a_return_means_another_action_when_less_time_is_left(tmp_path):
    """The timestep is told, too: 4 from all ten is 0.4 each, 4 from the last five 0.8."""
    training = TrainingConfig(updates=300, batch_size=64, learning_rate=3e-3)
    run = _train(tmp_path / "run", model=replace(MODEL, context_length=1), training=training)
    policy = facade.load_policy(run)
    policy.reset(1, 4.0)
    rng, found = np.random.default_rng(1), []
    for _ in range(6):
        found.append(policy.act(rng.normal(size=(1, 1)).astype(np.float32))[0, 0])
        policy.observe(np.array([0.0]))
    assert found[0] == pytest.approx(0.4, abs=0.2)
    assert found[-1] == pytest.approx(0.8, abs=0.2)


def test_values_are_told_and_actions_picked_by_them(tmp_path):
    """Told relabelled returns, a model proposes what earns them; value functions choose among that if asked to."""
    values = IQLConfig(updates=20, batch_size=8, hidden_sizes=(8, 8))
    run = _train(tmp_path / "run", condition="value", values=values)
    assert facade.load_policy(run).planning.behaviour == "median"
    guided = facade.load_policy(run, acting={"behaviour": "value"})
    assert np.isfinite(_earned(guided)).all()


def test_advantages_are_told(tmp_path):
    values = IQLConfig(updates=20, batch_size=8, hidden_sizes=(8, 8))
    run = _train(tmp_path / "run", condition="advantage", values=values)
    policy = facade.load_policy(run)
    assert policy.asking.telling.condition == "advantage"
    assert np.isfinite(_earned(policy)).all()


def test_targets_can_be_set_in_training(tmp_path):
    run = _train(tmp_path / "run", target=3.0)
    assert facade.load_policy(run).asking.target == 3.0


def test_what_makes_no_sense_is_refused(tmp_path):
    with pytest.raises(UsageError, match="condition none tells nothing"):
        _train(tmp_path / "run", condition="none")
    with pytest.raises(UsageError, match="told what to earn and foretells no return"):
        _train(tmp_path / "run", acting=PlanningConfig(behaviour="return"))
    with pytest.raises(UsageError, match=r"train it with --trajectory-transformer\.told"):
        _train(tmp_path / "run", model=replace(MODEL, told=False), target=3.0)


def test_values_that_only_rank_may_pick_actions_too(tmp_path):
    """Told advantages, a run has value functions; other ways of acting do without them."""
    values = IQLConfig(updates=5, batch_size=8, hidden_sizes=(8,), evaluate_every=0)
    run = _train(tmp_path / "run", condition="advantage", values=values)
    policy = facade.load_policy(run, acting={"behaviour": "value"})
    assert policy.functions is not None
    assert np.isfinite(_earned(policy, 0.9)).all()
    assert facade.load_policy(run).functions is None
