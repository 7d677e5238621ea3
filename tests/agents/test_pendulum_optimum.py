from __future__ import annotations

import numpy as np
import pytest

from foretell.agents.pendulum_backup import PendulumGrid, interpolate
from foretell.agents.pendulum_optimum import OptimumConfig, OptimumPolicy, pendulum_optimum
from foretell.core.errors import UsageError
from foretell.environments.pendulum import HORIZON, BatchedPendulum
from foretell.evaluation.protocol import evaluate, validation_starts
from reference.pendulum_optimum import tables_slowly

TINY, SMALL = OptimumConfig(angles=14, torques=3), OptimumConfig(angles=200, torques=11)
STARTS = validation_starts(0, 20)


@pytest.fixture(scope="module")
def optimum():
    return pendulum_optimum(SMALL)


def observed(angle, velocity):
    angle, velocity = np.broadcast_arrays(angle, velocity)
    return np.stack([np.cos(angle), np.sin(angle), velocity], axis=-1).astype(float)


def states(count, seed=0):
    return np.random.default_rng(seed).uniform([-np.pi, -8.0], [np.pi, 8.0], (count, 2)).T


def test_tables_equal_one_node_after_the_other():
    found = pendulum_optimum(TINY).tables
    for table, slow in zip(found, tables_slowly(14, 3, 5)):
        for (j, i), value in slow.items():
            mirrored = table[abs(j), i if j >= 0 else -i % 14]
            assert mirrored == pytest.approx(value, rel=1e-6, abs=1e-5)


def test_one_timestep_is_worth_its_reward_without_torque(optimum):
    angle, velocity = states(50)
    torques, returns = optimum.best(observed(angle, velocity), 1)
    np.testing.assert_allclose(returns, -(angle**2) - 0.1 * velocity**2, rtol=1e-12)
    np.testing.assert_array_equal(torques, 0)


def test_two_timesteps_by_hand(optimum):
    # hanging at rest: 0.15 u faster, 0.0075 u further; -(pi - 0.0075 u)^2 - 0.1 (0.15 u)^2 - 0.001 u^2 is best at u = 2
    expected = -(np.pi**2) - (np.pi - 0.015) ** 2 - 0.1 * 0.3**2 - 0.001 * 4
    torques, returns = optimum.best(observed([np.pi], [0.0]), 2)
    assert abs(torques[0]) == 2
    assert returns[0] == pytest.approx(expected, abs=1e-3)  # the kink at pi is drawn straight


def test_looking_ahead_from_a_node_gives_the_next_table():
    found = pendulum_optimum(OptimumConfig(angles=40, torques=7, acting_torques=7))
    j, i = np.meshgrid(np.arange(0, found.grid.rows - 4, 3), np.arange(40), indexing="ij")
    nodes = observed(i.ravel() * found.grid.angle_step, j.ravel() * found.grid.velocity_step)
    for steps in (2, 20, 60):
        np.testing.assert_allclose(found.returns(nodes, steps), found.tables[steps][j, i].ravel(), atol=2e-4)


def test_turning_every_sign_changes_only_the_torques_sign(optimum):
    angle, velocity = states(300)
    for steps in (3, 50, HORIZON):
        torques, returns = optimum.best(observed(angle, velocity), steps)
        mirrored_torques, mirrored_returns = optimum.best(observed(-angle, -velocity), steps)
        np.testing.assert_allclose(mirrored_returns, returns, atol=1e-9)
        np.testing.assert_allclose(mirrored_torques, -torques, atol=1e-9)


def test_more_timesteps_are_never_worth_more(optimum):
    changes = [later - sooner for sooner, later in zip(optimum.tables, optimum.tables[1:])]
    assert max(change.max() for change in changes) < 0.05  # the bend is not monotone, hence not 0
    assert max(change.mean() for change in changes) <= 0
    assert all((table <= 0).all() for table in optimum.tables)
    assert np.abs(changes[-1]).max() <= SMALL.tolerance < np.abs(changes[-2]).max()


def test_near_the_top_it_is_the_linear_quadratic_regulator(optimum):
    """The discrete Riccati equation of the dynamics linearised at the top, where no torque reaches its bound."""
    a, b = np.array([[1 + 0.75 * 0.05, 0.05], [0.75, 1.0]]), np.array([[0.15 * 0.05], [0.15]])
    cost = np.diag([1.0, 0.1])
    p = cost
    for _ in range(1_000):
        gain = np.linalg.solve(0.001 + b.T @ p @ b, b.T @ p @ a)
        p = cost + a.T @ p @ (a - b @ gain)
    x = np.array([[0.02, 0.0], [0.0, 0.05], [0.02, -0.08], [-0.03, 0.1], [0.05, 0.0], [0.03, 0.03]])
    assert np.abs(x @ gain.T).max() < 2
    torques, returns = optimum.best(observed(x[:, 0], x[:, 1]), HORIZON)
    np.testing.assert_allclose(returns, -np.einsum("bi,ij,bj->b", x, p, x), rtol=0.06)
    np.testing.assert_allclose(torques, -(x @ gain.T).ravel(), atol=0.25)


class Swinger:
    """Pumps energy with full torque, and balances with a proportional and derivative torque near the top."""

    def reset(self, num_envs, target_return=None):
        pass

    def act(self, observations):
        cosine, sine, velocity = observations.astype(float).T
        missing = 15 - (velocity**2 / 2 + 15 * cosine)
        pump = np.where(velocity * missing >= 0, 2.0, -2.0)
        torque = np.where(cosine > 0.9, np.clip(-20 * sine - 5 * velocity, -2, 2), pump)
        return torque[:, None].astype(np.float32)

    def observe(self, rewards):
        pass


class Still(Swinger):
    """No torque at all."""

    def act(self, observations):
        return np.zeros((len(observations), 1), np.float32)


def test_acting_earns_what_the_tables_say_and_more_than_simple_controllers(optimum):
    best, swinging, still = (
        evaluate(policy, "Pendulum-v1", STARTS).returns for policy in (OptimumPolicy(optimum), Swinger(), Still())
    )
    promised = optimum.returns(BatchedPendulum(len(STARTS)).reset(STARTS))
    assert abs((best - promised).mean()) < 6
    assert np.median(np.abs(best - promised)) < 0.5
    assert (best >= np.maximum(swinging, still) - 1).all()
    assert best.mean() > swinging.mean() + 4 > still.mean() + 200


def test_starts_at_the_top_cost_next_to_nothing(optimum):
    environments, policy = BatchedPendulum(3), OptimumPolicy(optimum)
    environments.reset([0, 1, 2])
    policy.reset(3)
    environments.state = np.array([[0.0, 0.0], [0.05, -0.1], [-0.1, 0.3]])
    observations, earned = observed(*environments.state.T), np.zeros(3)
    for _ in range(HORIZON):
        observations, rewards, _, _ = environments.step(policy.act(observations))
        earned += rewards
    assert earned[0] == 0
    assert (earned > -1).all()


def test_it_knows_how_many_timesteps_are_left(optimum):
    policy, hanging = OptimumPolicy(optimum), observed([3.0], [0.0])
    with pytest.raises(UsageError, match="takes none"):
        policy.reset(1, target_return=-100.0)
    policy.reset(1)
    first = [float(policy.act(hanging)[0, 0]) for _ in range(HORIZON)]
    assert first[-1] == 0  # nothing comes after it, so torque only costs
    assert abs(first[0]) == 2
    expected = [optimum.best(hanging, HORIZON - step)[0][0] for step in range(HORIZON)]
    np.testing.assert_array_equal(first, np.float32(expected))
    policy.reset(1)
    assert policy.act(hanging)[0, 0] == first[0]


def test_equal_settings_give_equal_tables_and_progress_ends():
    told = []
    first = pendulum_optimum(TINY, progress=lambda done, total, **rest: told.append((done, total, rest["change"])))
    second = pendulum_optimum(TINY)
    assert len(first.tables) == len(second.tables) == len(told) + 1
    for one, other in zip(first.tables, second.tables):
        np.testing.assert_array_equal(one, other)
    assert told[-1][:2] == (HORIZON - 1, HORIZON - 1)
    assert told[0] == (1, HORIZON - 1, float(np.abs(first.tables[1]).max()))


def test_interpolation_is_exact_for_quadratics_and_stays_between_at_kinks():
    t = np.linspace(0, 1, 11)
    taps = [np.full(11, 3 * x**2 - 2 * x + 1) for x in (-1.0, 0.0, 1.0, 2.0)]
    np.testing.assert_allclose(interpolate(*taps, fraction=t), 3 * t**2 - 2 * t + 1, atol=1e-12)
    kinked = interpolate(*(np.full(11, x) for x in (4.0, 0.0, 0.0, -1.0)), fraction=t)
    np.testing.assert_array_equal(kinked, 0)


def test_grid_reaches_past_the_speed_limit():
    grid = PendulumGrid(angles=1_400, torques=41)
    assert grid.velocity_step == pytest.approx(0.015)
    assert grid.shape == (537, 1_400)
    assert (grid.rows - 3) * grid.velocity_step > 8


@pytest.mark.parametrize(
    ("name", "value"), [("angles", 7), ("angles", 6), ("torques", 4), ("acting_torques", 1), ("tolerance", -1.0)]
)
def test_bad_settings_are_refused(name, value):
    with pytest.raises(UsageError, match=f"{name} is {value}; expected"):
        OptimumConfig(**{name: value})


def test_bad_calls_are_refused(optimum):
    policy = OptimumPolicy(optimum)
    policy.reset(2)
    with pytest.raises(UsageError, match=r"shape \(2, 4\); expected \(2, 3\)"):
        policy.act(np.zeros((2, 4)))
    with pytest.raises(UsageError, match=r"shape \(1, 3\); expected \(2, 3\)"):
        policy.act(observed([0.0], [0.0]))
    for _ in range(HORIZON):
        policy.act(observed([0.0, 0.0], 0.0))
    with pytest.raises(UsageError, match="timestep 200 of 200; call reset"):
        policy.act(observed([0.0, 0.0], 0.0))
    for timesteps in (0, HORIZON + 1):
        with pytest.raises(UsageError, match=f"{timesteps} timesteps left"):
            optimum.returns(observed([0.0], [0.0]), timesteps)
