"""What a finished run does, or a policy of one's own, recorded as a dataset."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

import foretell
from foretell.core.errors import CheckpointError, UsageError
from foretell.core.files import sha256_of
from foretell.core.seeding import stream
from foretell.evaluation.protocol import evaluate
from foretell.facade import load_policy

PENDULUM = "Pendulum-v1"


def start_seeds(seed, count):
    return stream(seed, "collection-starts").integers(2**31 - 1, size=count).tolist()


def swing(observations):
    return -2 * np.sign(observations[:, 2:])


class Lean:
    """CartPole: pushes towards where the pole leans, and remembers what was done."""

    def __init__(self):
        self.targets, self.taken = [], []

    def reset(self, num_envs, target_return=None, where=None):
        self.targets.append(target_return)

    def act(self, observations):
        return (observations[:, 2] > 0).astype(np.int32)

    def observe(self, rewards, actions=None):
        self.taken.append(actions)


def test_without_noise_it_is_what_is_evaluated(pendulum_run, tmp_path):
    data = foretell.collect_policy(
        pendulum_run, tmp_path / "a.hdf5", num_steps=600, target_returns=-900, seed=5, num_envs=3
    )
    found = evaluate(load_policy(pendulum_run), PENDULUM, start_seeds(5, 3), target_return=-900.0)
    np.testing.assert_allclose(data.episode_returns(), found.returns, rtol=1e-6)
    assert "action_log_probs" not in data.infos
    assert data.next_observations is not None


@pytest.mark.parametrize("run", ["pendulum_run", "cartpole_run"])
def test_noise_is_what_was_drawn_and_the_run_is_told(run, request, tmp_path):
    """Acting again on what is recorded, told what was taken, gives the recorded actions less the noise."""
    run, noise = request.getfixturevalue(run), 0.3
    data = foretell.collect_policy(run, tmp_path / "a.hdf5", num_steps=60, noise=noise, seed=2, num_envs=1)
    rng, policy, untold, others = stream(2, "collection-actions"), load_policy(run), load_policy(run), 0
    for episode in data.episodes():
        policy.reset(1)
        untold.reset(1)
        for step in range(len(episode)):
            said = policy.act(episode.observations[step][None])
            others += int((untold.act(episode.observations[step][None]) != said).any())
            if data.actions.dtype.kind == "i":
                drawn = rng.integers(2, size=1)
                expected = np.where(rng.random(1) < noise, drawn, said)
            else:
                drawn = rng.standard_normal((1, 1), np.float32)
                expected = np.clip(said + np.float32(noise) * 2 * drawn, -2, 2)
            np.testing.assert_allclose(episode.actions[step], expected[0], atol=2e-6)  # rewards are kept as float32
            policy.observe(episode.rewards[step][None], episode.actions[step][None])
            untold.observe(episode.rewards[step][None])
    if data.actions.dtype.kind != "i":
        assert others > 0, "what was taken changes nothing: the test shows nothing"


def test_the_same_seed_gives_the_same_bytes(pendulum_run, tmp_path):
    def recorded(name, **changes):
        given = {"num_steps": 250, "noise": 0.1, "seed": 1} | changes
        return foretell.collect_policy(pendulum_run, tmp_path / name, **given).fingerprint()

    first = recorded("a.hdf5")
    assert recorded("b.hdf5") == first
    assert len({first, recorded("c.hdf5", seed=2), recorded("d.hdf5", noise=0.2), recorded("e.hdf5", noise=0)}) == 4
    assert recorded("f.hdf5", target_returns=-1500) != first


def test_targets_are_asked_for_in_turn(pendulum_run, tmp_path):
    targets = [-1700.0, -700.0, -1200.0]
    data = foretell.collect_policy(
        pendulum_run, tmp_path / "a.hdf5", num_steps=1000, target_returns=targets, num_envs=2, seed=3
    )
    policy = load_policy(pendulum_run)
    for place, (start, earned) in enumerate(zip(start_seeds(3, 5), data.episode_returns(), strict=True)):
        alone = evaluate(policy, PENDULUM, [start], target_return=targets[place % 3])
        assert earned == pytest.approx(alone.returns[0], abs=0.05)
    apart = [evaluate(policy, PENDULUM, start_seeds(3, 1), target_return=one).returns[0] for one in targets]
    assert len({round(one) for one in apart}) == 3


def test_what_the_file_says_of_it(pendulum_run, tmp_path):
    data = foretell.collect_policy(
        pendulum_run, tmp_path / "a.hdf5", num_steps=20, noise=0.25, target_returns=[-900, -800], seed=4
    )
    found = foretell.open_dataset(tmp_path / "a.hdf5").metadata
    assert (found.environment, found.algorithm, found.seed) == (PENDULUM, "decision-transformer", 4)
    assert found.description == (
        "Recorded by a run of decision-transformer on pendulum-random, asked for -900, -800 in turn, "
        "with noise of 0.25."
    )
    weights = sha256_of(pendulum_run / "model.safetensors")
    settings = {"noise": 0.25, "target_returns": [-900, -800], "weights": weights, "training_seed": 0}
    assert settings.items() <= found.hyperparameters.items()
    assert "torch" in found.versions
    assert data.truncations[-1]


def test_a_function_of_one_s_own(tmp_path):
    data = foretell.collect_policy(
        swing, tmp_path / "a.hdf5", num_steps=400, environment=PENDULUM, name="swing", seed=1, noise=0.5
    )
    assert (data.metadata.algorithm, data.metadata.description) == ("swing", "Recorded by swing, with noise of 0.5.")
    away = (data.actions - swing(data.observations)) * (np.abs(data.actions) < 2)
    assert 0.1 < np.abs(away).mean() < 1
    assert np.abs(data.actions).max() <= 2
    env = gymnasium.make(PENDULUM)
    for episode, seed in zip(data.episodes(), start_seeds(1, 2), strict=True):
        observation, _ = env.reset(seed=seed)
        for step in range(len(episode)):
            np.testing.assert_allclose(episode.observations[step], observation, atol=1e-3)
            observation, reward, *_ = env.step(episode.actions[step])
            assert episode.rewards[step] == pytest.approx(reward, abs=1e-3)


def test_an_object_is_told_targets_and_what_was_taken(tmp_path):
    policy = Lean()
    data = foretell.collect_policy(
        policy, tmp_path / "a.hdf5", num_steps=500, environment="CartPole-v1", name="lean", noise=0.5, seed=0,
        target_returns=[100, 200], num_envs=1,
    )  # fmt: skip
    assert [one.tolist() for one in policy.targets[:3]] == [[100], [200], [100]]
    np.testing.assert_array_equal(np.concatenate(policy.taken), data.actions)
    assert data.actions.dtype == np.int64
    other = (data.actions != (data.observations[:, 2] > 0)).mean()
    assert other == pytest.approx(0.25, abs=0.08)  # half of half
    more = foretell.concatenate([data, foretell.collect_random("CartPole-v1", 100, 0, tmp_path / "r.hdf5")])
    assert more.num_steps == 600
    quiet = Lean()
    foretell.collect_policy(quiet, tmp_path / "b.hdf5", num_steps=50, environment="CartPole-v1", name="lean")
    assert quiet.taken == [None] * len(quiet.taken)


class Strong:
    """Pendulum: pushes with 5, which its environment takes for 2, and remembers what was done."""

    def __init__(self):
        self.taken = []

    def reset(self, num_envs, target_return=None, where=None):
        pass

    def act(self, observations):
        return np.full((len(observations), 1), np.where(observations[0, 2] > 0, 5.0, 1.0))

    def observe(self, rewards, actions=None):
        self.taken.append(actions)


def test_actions_beyond_the_range_are_clipped_and_told(tmp_path):
    """Data that hold them are refused by training: they are what no environment of this range does."""
    strong = Strong()
    with pytest.warns(UserWarning, match=r"act gave 5; Pendulum-v1 takes -2 to 2\. Actions beyond are clipped") as told:
        data = foretell.collect_policy(
            strong, tmp_path / "a.hdf5", num_steps=200, environment=PENDULUM, name="strong", num_envs=1
        )
    assert len(told) == 1
    assert set(data.actions.ravel()) == {1.0, 2.0}
    assert [actions if actions is None else actions.item() for actions in strong.taken] == [
        2.0 if action == 2 else None for action in data.actions[:, 0]
    ]


class Untold(Lean):
    def observe(self, rewards):
        self.taken.append(None)


def test_who_is_not_told_what_was_taken_takes_no_noise(tmp_path):
    given = {"num_steps": 20, "environment": "CartPole-v1", "name": "untold"}
    with pytest.raises(UsageError, match=r"observe\(rewards, actions\), with the actions that were taken"):
        foretell.collect_policy(Untold(), tmp_path / "a.hdf5", noise=0.1, **given)
    assert foretell.collect_policy(Untold(), tmp_path / "a.hdf5", **given).num_steps == 20


class Wrapped(Lean):
    """Hands on whatever it is told, as wrappers do."""

    def observe(self, rewards, **told):
        self.taken.append(told.get("actions"))


def test_who_takes_any_keyword_is_told(tmp_path):
    wrapped = Wrapped()
    data = foretell.collect_policy(
        wrapped, tmp_path / "a.hdf5", noise=0.5, num_steps=50, environment="CartPole-v1", name="wrapped", num_envs=1
    )
    np.testing.assert_array_equal(np.concatenate(wrapped.taken), data.actions)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"noise": -0.1}, "noise is -0.1; expected 0 or more"),
        ({"noise": float("nan")}, "noise"),
        ({"noise": float("inf")}, "noise"),
        ({"noise": "much"}, "noise is 'much'"),
        ({"num_steps": 0}, "0 timesteps"),
        ({"num_envs": 0}, "num_envs"),
        ({"run": "random"}, "collect_random"),
        ({"target_returns": []}, "target_returns is empty"),
        ({"acting": {"horizon": 3}}, "no settings of how a run"),
        ({"run": swing}, "expected both"),
        ({"run": 3}, "run is 3"),
        ({"path": "name.csv"}, "hdf5"),
        ({"environment": "CartPole-v1"}, "the run was trained for"),
    ],
)
def test_refusals_leave_nothing(pendulum_run, tmp_path, monkeypatch, changes, words):
    monkeypatch.chdir(tmp_path)
    given = {"run": pendulum_run, "path": "a.hdf5", "num_steps": 10} | changes
    with pytest.raises(UsageError, match=words):
        foretell.collect_policy(**given)
    assert list(tmp_path.iterdir()) == []


def test_choices_take_a_share(cartpole_run, tmp_path):
    with pytest.raises(UsageError, match="expected 0 to 1, the share of actions that are drawn"):
        foretell.collect_policy(cartpole_run, tmp_path / "a.hdf5", num_steps=10, noise=1.5)
    data = foretell.collect_policy(cartpole_run, tmp_path / "a.hdf5", num_steps=2000, noise=1)
    assert data.actions.mean() == pytest.approx(0.5, abs=0.05)


def test_what_is_there_stays(pendulum_run, tmp_path):
    foretell.collect_policy(pendulum_run, tmp_path / "a.hdf5", num_steps=10)
    before = sha256_of(tmp_path / "a.hdf5")
    with pytest.raises(UsageError, match="exists"):
        foretell.collect_policy(pendulum_run, tmp_path / "a.hdf5", num_steps=20)
    assert sha256_of(tmp_path / "a.hdf5") == before


def test_actions_that_are_none_are_refused(tmp_path):
    def wide(observations):
        return np.zeros((len(observations), 2))

    def nothing(observations):
        return np.full((len(observations), 1), np.nan)

    given = {"num_steps": 10, "environment": PENDULUM, "name": "mine"}
    with pytest.raises(UsageError, match="act gave actions of shape"):
        foretell.collect_policy(wide, tmp_path / "a.hdf5", **given)
    with pytest.raises(UsageError, match="act gave nan"):
        foretell.collect_policy(nothing, tmp_path / "a.hdf5", **given)
    assert list(tmp_path.iterdir()) == []


def test_runs_of_several_seeds_are_refused(pendulum_random, tmp_path):
    from reference.making import small_config

    training = foretell.TrainingConfig(updates=2, batch_size=4, warmup_updates=1)
    foretell.train_seeds(
        pendulum_random, tmp_path / "runs", [0, 1], model=small_config("decision-transformer"), training=training
    )
    with pytest.raises(CheckpointError, match=r"several seeds; expected one of them, .*seed-0"):
        foretell.collect_policy(tmp_path / "runs", tmp_path / "a.hdf5", num_steps=10)
    with pytest.raises(CheckpointError, match="expected the folder of a finished run"):
        foretell.collect_policy(tmp_path / "none", tmp_path / "a.hdf5", num_steps=10)


def test_without_a_time_limit_episodes_are_as_long_as_the_run_can_act(cartpole_run, tmp_path, monkeypatch):
    gymnasium.register("EndlessCart-v0", entry_point="gymnasium.envs.classic_control:CartPoleEnv")
    try:
        from foretell.evaluation.conditioned import ConditionedPolicy

        monkeypatch.setattr(ConditionedPolicy, "most_timesteps", 6)
        with pytest.warns(UserWarning, match="EndlessCart-v0 has no time limit: .* after 6 timesteps"):
            cut = foretell.collect_policy(
                cartpole_run, tmp_path / "c.hdf5", num_steps=100, environment="EndlessCart-v0"
            )
        assert cut.episode_lengths.max() == 6
        assert (cut.episode_lengths == 6).sum() > 10
        ends = cut.episode_ends - 1
        assert (cut.terminations[ends] ^ cut.truncations[ends]).all()
        assert cut.truncations.sum() + cut.terminations.sum() == cut.num_episodes
        data = foretell.collect_policy(
            cartpole_run, tmp_path / "a.hdf5", num_steps=10, environment="EndlessCart-v0,max_episode_steps=5"
        )
        assert data.metadata.environment == "EndlessCart-v0,max_episode_steps=5"
        assert data.episode_lengths.max() <= 5
        endless = foretell.collect_policy(
            Lean(), tmp_path / "b.hdf5", num_steps=300, environment="EndlessCart-v0", name="lean"
        )
        assert endless.num_steps == 300
    finally:
        del gymnasium.registry["EndlessCart-v0"]


def test_it_learns_from_its_own_recording(pendulum_run, pendulum_random, tmp_path):
    """The circle closes: what was recorded joins what it learned from, and training goes on."""
    more = foretell.collect_policy(pendulum_run, tmp_path / "more.hdf5", num_steps=400, noise=0.2)
    both = foretell.concatenate([foretell.open_dataset(pendulum_random.path), more], name="both")
    config = foretell.TrainingConfig(updates=3, batch_size=4, warmup_updates=1)
    from reference.making import small_config

    again = foretell.train(
        both, tmp_path / "again", model=small_config("decision-transformer"), training=config,
        initial_weights=pendulum_run,
    )  # fmt: skip
    assert (again / "model.safetensors").is_file()
