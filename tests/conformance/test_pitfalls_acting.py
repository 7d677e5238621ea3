"""Rows of the table of pitfalls that concern acting with a sequence model; each twice: the rule, and its breach."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from conformance import checks
from conformance.checks import notices
from foretell.core.errors import UsageError
from foretell.core.returns import returns_to_go
from foretell.evaluation.conditioned import ConditionedPolicy
from foretell.models.registry import MODELS
from foretell.models.trajectory_transformer import TrajectoryTransformer
from foretell.sequences.normalization import Normalization
from foretell.sequences.scaling import ActionRange
from foretell.sequences.targets import Telling
from foretell.sequences.windows import WindowSampler
from reference.making import IDENTITY, SHAPES, RecordingModel, each, make_dataset, scaled, small_config, small_model

K = 3
REWARDS = [1.0, 2.0, 4.0, 8.0, 16.0]
ANSWERS = [0.5, -0.25, 1.0, -1.0, 0.125]


CASES = [(name, kind) for name in MODELS for kind in SHAPES]
REMEMBERING = [case for case in CASES if small_config(case[0]).context_length > 1]


@pytest.fixture(params=CASES, ids="-".join)
def model(request):
    return small_model(request.param[0], SHAPES[request.param[1]])


@pytest.fixture(params=REMEMBERING, ids="-".join)
def remembering(request):
    """The networks that see more than the newest timestep: windows of the others are never padded."""
    return small_model(request.param[0], SHAPES[request.param[1]])


def _normalization(model):
    return replace(scaled(), action_range=None) if model.shape.discrete else scaled()


def check_actions_cover_the_range():
    """An answer of -1, 0.5, 1 is a torque of -2, 1, 2, and the data's torque of 2 is learned as 1."""
    policy = ConditionedPolicy(RecordingModel([-1.0, 0.5, 1.0]), scaled(1, limit=2.0), 0.0)
    np.testing.assert_array_equal(checks.play(policy, np.zeros((3, 1)), np.zeros(3))[:, 0], [-2.0, 1.0, 2.0])
    torque = np.array([[-2.0], [1.0], [2.0]], np.float32)
    sampler = WindowSampler(make_dataset([3], actions=torque), scaled(1, limit=2.0), context_length=3, seed=0)
    np.testing.assert_array_equal(sampler.windows(np.array([2])).actions[0, :, 0], [-1.0, 0.5, 1.0])


def test_row_01_actions_cover_the_environments_range():
    check_actions_cover_the_range()


@pytest.mark.parametrize("method", ["to_environment", "to_unit"])
def test_row_01_notices_the_fault(method, monkeypatch):
    monkeypatch.setattr(ActionRange, method, lambda self, actions: np.clip(actions, -1, 1).astype(np.float32))
    notices(check_actions_cover_the_range)


def check_end_of_table():
    """A model of two timesteps acts twice; the third time it says why it cannot; reset begins anew."""
    policy = ConditionedPolicy(RecordingModel([0.0] * 2), scaled(1), 0.0)
    for _ in range(2):
        policy.model.seen.clear()
        checks.play(policy, np.zeros((2, 1)), np.zeros(2))
        error = checks.raises(UsageError, policy.act, np.zeros((1, 1)))
        assert "timestep 2" in str(error)
        assert "2 timesteps" in str(error)


def test_row_03_past_the_embedding_table_is_an_error():
    check_end_of_table()


def test_row_03_notices_the_fault(monkeypatch):
    plain = ConditionedPolicy.act

    def clamped(self, observations):
        self._timestep = min(self._timestep, self.model.shape.max_timesteps - 1)
        self.model.seen.clear()
        return plain(self, observations)

    monkeypatch.setattr(ConditionedPolicy, "act", clamped)
    notices(check_end_of_table)


def test_row_06_acting_sees_what_training_saw(model):
    checks.check_acting_equals_training(model, _normalization(model))


def test_row_06_notices_the_fault(remembering, monkeypatch):
    plain = ConditionedPolicy._batch

    def padded_and_attended(self, envs):  # a whole window from the first timestep on, its fill taken for real
        batch = plain(self, envs)
        missing = self.model.config.context_length - batch.mask.shape[1]
        filled = each(batch, lambda values: torch.cat([torch.zeros_like(values[:, :1])] * missing + [values], 1))
        return replace(filled, mask=torch.ones_like(filled.mask))

    monkeypatch.setattr(ConditionedPolicy, "_batch", padded_and_attended)
    notices(checks.check_acting_equals_training, remembering, _normalization(remembering))


NOT_READ = {TrajectoryTransformer: "returns_to_go"}
"""The column that a network takes no notice of in choosing actions; for all others it is the rewards."""


@pytest.mark.parametrize("column", ["observations", "returns_to_go", "rewards"])
def test_row_06_notices_other_units(column, model, monkeypatch):
    plain = ConditionedPolicy._batch

    def doubled(self, envs):
        batch = plain(self, envs)
        return replace(batch, **{column: 2 * getattr(batch, column)})

    monkeypatch.setattr(ConditionedPolicy, "_batch", doubled)
    if column == NOT_READ.get(type(model), "rewards"):
        checks.check_acting_equals_training(model, _normalization(model))
    else:
        notices(checks.check_acting_equals_training, model, _normalization(model))


def test_row_06_notices_a_window_without_its_past(remembering, monkeypatch):
    plain = ConditionedPolicy._batch

    def newest_alone(self, envs):
        return each(plain(self, envs), lambda values: values[:, -1:])

    monkeypatch.setattr(ConditionedPolicy, "_batch", newest_alone)
    notices(checks.check_acting_equals_training, remembering, _normalization(remembering))


@pytest.mark.parametrize("name", MODELS)
def test_row_09_no_dropout_while_acting(name):
    checks.check_acting_deterministic(small_model(name, dropout=0.5), scaled())


@pytest.mark.parametrize("name", MODELS)
def test_row_09_notices_the_fault(name, monkeypatch):
    network, generator = MODELS[name].network, torch.Generator()
    plain = network.forward
    monkeypatch.setattr(
        network, "forward", lambda self, batch, _=None, **options: plain(self, batch, generator, **options)
    )
    notices(checks.check_acting_deterministic, small_model(name, dropout=0.5), scaled())


def check_worked_example():
    """By hand, K = 3, target 100, scale 10: what the model is shown at t = 0, 1, K-1, K, K+1."""
    model = RecordingModel(ANSWERS, context_length=K)
    policy = ConditionedPolicy(model, scaled(1), 100.0)
    checks.play(policy, np.arange(5.0)[:, None] * 2 + 1, np.array(REWARDS))  # normalised: 0, 1, 2, 3, 4
    expected = [  # timesteps and observations; returns still asked for; actions, the one to be taken a placeholder
        ([0], [10.0], [0.0]),
        ([0, 1], [10.0, 9.9], [0.5, 0.0]),
        ([0, 1, 2], [10.0, 9.9, 9.7], [0.5, -0.25, 0.0]),
        ([1, 2, 3], [9.9, 9.7, 9.3], [-0.25, 1.0, 0.0]),
        ([2, 3, 4], [9.7, 9.3, 8.5], [1.0, -1.0, 0.0]),
    ]
    assert len(model.seen) == 5
    for seen, (timesteps, asked, actions) in zip(model.seen, expected):
        real = seen["mask"][0]
        np.testing.assert_array_equal(seen["timesteps"][0, real], timesteps)
        np.testing.assert_array_equal(seen["observations"][0, real, 0], timesteps)
        np.testing.assert_allclose(seen["returns_to_go"][0, real, 0], asked, rtol=1e-6)
        np.testing.assert_array_equal(seen["actions"][0, real, 0], actions)


def test_row_11_worked_example():
    check_worked_example()


def _not_decremented(monkeypatch):
    monkeypatch.setattr(ConditionedPolicy, "observe", lambda self, rewards: None)


def _not_scaled(monkeypatch):
    monkeypatch.setattr(Telling, "units", lambda self, values: np.asarray(values, np.float32))


def _context_one_short(monkeypatch):
    plain = ConditionedPolicy._batch

    def shorter(self, envs):
        return each(plain(self, envs), lambda values: values[:, -(K - 1) :])

    monkeypatch.setattr(ConditionedPolicy, "_batch", shorter)


def _timesteps_from_the_window(monkeypatch):
    plain = ConditionedPolicy._batch

    def restarted(self, envs):
        batch = plain(self, envs)
        return replace(batch, timesteps=batch.timesteps - batch.timesteps[:, :1])

    monkeypatch.setattr(ConditionedPolicy, "_batch", restarted)


@pytest.mark.parametrize("fault", [_not_decremented, _not_scaled, _context_one_short, _timesteps_from_the_window])
def test_row_11_notices_the_fault(fault, monkeypatch):
    fault(monkeypatch)
    notices(check_worked_example)


def check_own_reward_included():
    """Rewards 1, 2, 4, 8, 16: 31 is still to be earned before the first, 16 before the last, in both places."""
    expected = [31.0, 30.0, 28.0, 24.0, 16.0]
    np.testing.assert_array_equal(returns_to_go(np.array(REWARDS)), expected)
    rewards, actions = np.array(REWARDS, np.float32), np.zeros((5, 1), np.float32)
    data = make_dataset([5, 2], rewards=np.append(rewards, [7, 7]), actions=np.zeros((7, 1), np.float32))
    sampler = WindowSampler(data, replace(IDENTITY, action_range=scaled(1).action_range), context_length=5, seed=0)
    np.testing.assert_array_equal(sampler.windows(np.array([4])).returns_to_go[0, :, 0], expected)
    model = RecordingModel(actions, context_length=1)
    checks.play(ConditionedPolicy(model, replace(scaled(1), return_scale=1.0), 31.0), np.zeros((5, 1)), rewards)
    np.testing.assert_array_equal([seen["returns_to_go"][0, -1, 0] for seen in model.seen], expected)


def test_row_12_return_to_go_includes_the_steps_own_reward():
    check_own_reward_included()


def test_row_12_notices_the_fault_in_training(monkeypatch):
    plain = WindowSampler._returns_to_go

    def excluded(self, rewards, last, ends):
        return np.pad(plain(self, rewards, last, ends)[:, 1:], ((0, 0), (0, 1)))

    monkeypatch.setattr(WindowSampler, "_returns_to_go", excluded)
    notices(check_own_reward_included)


def test_row_12_notices_the_fault_in_acting(monkeypatch):
    plain = ConditionedPolicy.observe

    def late(self, rewards):
        plain(self, getattr(self, "_before", np.zeros(1)))
        self._before = rewards

    monkeypatch.setattr(ConditionedPolicy, "observe", late)
    notices(check_own_reward_included)


def check_returns_are_not_rounded():
    """Quarters survive, and a hundred ones are not lost behind 2^24."""
    data = make_dataset([3], rewards=np.array([0.25, 0.5, 0.5], np.float32))
    sampler = WindowSampler(data, replace(scaled(), return_scale=2.0), context_length=3, seed=0)
    batch = sampler.windows(np.array([2]))
    assert batch.returns_to_go.dtype == torch.float32
    np.testing.assert_array_equal(batch.returns_to_go[0, :, 0], [0.625, 0.5, 0.25])
    model = RecordingModel([0.0, 0.0], context_length=1)
    policy = ConditionedPolicy(model, replace(scaled(1), return_scale=2.0), 1.25)
    checks.play(policy, np.zeros((2, 1)), np.array([0.25, 0.0]))
    assert [seen["returns_to_go"].item() for seen in model.seen] == [0.625, 0.5]
    assert model.seen[0]["returns_to_go"].dtype == np.float32
    long = np.append(np.ones(100, np.float32), np.float32(2**24))
    assert returns_to_go(long)[0] == 2**24 + 100
    sampler = WindowSampler(make_dataset([101], rewards=long), replace(scaled(), return_scale=1.0),
                            context_length=101, seed=0)  # fmt: skip
    assert sampler.windows(np.array([100])).returns_to_go[0, 0, 0] == 2**24 + 100


def test_row_13_returns_are_never_integers():
    check_returns_are_not_rounded()


def test_row_13_notices_the_fault(monkeypatch):
    monkeypatch.setattr(
        Normalization, "returns", lambda self, raw: (raw.astype(np.int64) / self.return_scale).astype(np.float32)
    )
    notices(check_returns_are_not_rounded)


def test_row_13_notices_sums_in_float32(monkeypatch):
    def drifting(self, rewards, last, ends):
        time = rewards.shape[1]
        starts = last + 1 - time
        rows = [self._rewards[start:end][::-1].cumsum(dtype=np.float32)[::-1] for start, end in zip(starts, ends)]
        return np.stack([row[:time] for row in rows]).astype(np.float64)

    monkeypatch.setattr(WindowSampler, "_returns_to_go", drifting)
    notices(check_returns_are_not_rounded)
