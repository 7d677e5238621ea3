"""Simulators that are large, or of which there is one: how many environments exist at the same time."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

import foretell
from foretell import facade
from foretell.agents.configs import SACConfig
from foretell.cli.main import run_verb
from foretell.core.errors import UsageError
from foretell.models.configs import DecisionTransformerConfig
from foretell.training.configs import TrainingConfig


class Counted(gymnasium.Env):
    """Knows how many of it exist. Its episodes take 3 to 8 timesteps, as their start states say."""

    observation_space = spaces.Box(-9, 9, (2,), np.float32)
    action_space: spaces.Space = spaces.Box(-1, 1, (1,), np.float32)
    now = most = 0

    def __init__(self):
        Counted.now += 1
        Counted.most = max(Counted.most, Counted.now)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at, self.left = self.np_random.normal(size=2).astype(np.float32), int(self.np_random.integers(3, 9))
        return self.at.copy(), {}

    def step(self, action):
        self.at, self.left = np.float32(0.9) * self.at + np.float32(action[0]), self.left - 1
        return self.at.copy(), -float(np.abs(self.at).sum()), self.left == 0, False, {}

    def close(self):
        Counted.now -= 1


gymnasium.register("Counted-v0", entry_point=f"{__name__}:Counted", max_episode_steps=9)


@pytest.fixture(autouse=True)
def _none_yet():
    Counted.now = Counted.most = 0
    yield
    assert Counted.now == 0


def collected(path, **settings):
    return foretell.collect_random("Counted-v0", 90, 0, path, **settings)


def trained(tmp_path):
    return facade.train(
        collected(tmp_path / "data.hdf5", num_envs=1), tmp_path / "run",
        model=DecisionTransformerConfig(context_length=2, width=8, layers=1),
        training=TrainingConfig(updates=2, batch_size=8),
    )  # fmt: skip


def test_from_recording_to_evaluation_with_one_at_a_time(tmp_path):
    run = trained(tmp_path)
    found = facade.evaluate(run, episodes=7, num_envs=1)
    assert Counted.most == 1
    _same(found, facade.evaluate(run, episodes=7))
    assert Counted.most == 7


@pytest.mark.parametrize("num_envs", [2, 3, 7, 50])
def test_as_many_as_are_allowed_earn_the_same(num_envs, tmp_path):
    run = trained(tmp_path)
    told = []
    found = facade.evaluate(
        run, episodes=7, num_envs=num_envs, target_returns=[-3.0, -9.0],
        progress=lambda done, total, **_: told.append(done / total),
    )  # fmt: skip
    assert Counted.most == min(num_envs, 14)
    _same(found, facade.evaluate(run, episodes=7, target_returns=[-3.0, -9.0]))
    assert told == sorted(told)
    assert 0.8 < told[-1] <= 1


def _same(found, expected):
    facts = [{name: value for name, value in one.items() if name not in ("return", "checksum")} for one in found]
    assert facts == [
        {name: value for name, value in one.items() if name not in ("return", "checksum")} for one in expected
    ]
    np.testing.assert_allclose([one["return"] for one in found], [one["return"] for one in expected], rtol=1e-5)
    assert len({one["return"] for one in found}) > 5


def test_random_actions_of_each_part_are_their_own():
    found = facade.evaluate("random", environment="Counted-v0", episodes=8, num_envs=4)
    assert [one["start"] for one in found] == [
        one["start"] for one in facade.evaluate("random", environment="Counted-v0", episodes=8)
    ]
    assert found[:4] == facade.evaluate("random", environment="Counted-v0", episodes=4)
    assert found == facade.evaluate("random", environment="Counted-v0", episodes=8, num_envs=4)
    from foretell.environments.making import environment_spec
    from foretell.evaluation.policies import UniformPolicy

    one = UniformPolicy(environment_spec("Counted-v0"), 0)
    drawn = [policy.act(np.zeros((4, 2))) for policy in (one, one.another(), one.another().another())]
    assert len({float(action) for actions in drawn for action in actions.ravel()}) == 12


def test_a_recording_says_how_many_stepped_together_where_it_was_said(tmp_path):
    few, usual = collected(tmp_path / "few.hdf5", num_envs=2), collected(tmp_path / "usual.hdf5")
    assert few.metadata.hyperparameters == {"num_envs": 2}
    assert usual.metadata.hyperparameters == {}
    assert few.fingerprint() != usual.fingerprint()
    assert collected(tmp_path / "few.hdf5", num_envs=2).fingerprint() == few.fingerprint()  # it is there already
    with pytest.raises(UsageError, match="exists"):
        collected(tmp_path / "few.hdf5", num_envs=3)
    assert collected(tmp_path / "16.hdf5", num_envs=16).fingerprint() == usual.fingerprint()


def test_agents_record_with_few_as_well(tmp_path):
    agent = SACConfig(total_steps=30, learning_starts=10, hidden_sizes=(4,), batch_size=4, evaluate_every=0)
    run = facade.train_sac("Counted-v0", tmp_path / "sac", config=agent)
    found = facade.collect_sac(run, tmp_path / "data.hdf5", num_steps=40, num_envs=1)
    assert Counted.most == 1
    assert found.metadata.hyperparameters["num_envs"] == 1
    assert found.num_steps == 40


@pytest.mark.parametrize("num_envs", [0, -1, 1.5, True, "2"])
def test_other_numbers_are_refused(num_envs, tmp_path):
    with pytest.raises(UsageError, match=f"num_envs is {num_envs!r}; expected a whole number of 1 or more"):
        facade.evaluate("random", environment="Counted-v0", num_envs=num_envs)
    with pytest.raises(UsageError, match="num_envs is"):
        collected(tmp_path / "data.hdf5", num_envs=num_envs)
    assert not list(tmp_path.iterdir())


def test_the_verbs_take_it(tmp_path, capsys):
    out, records = str(tmp_path / "data.hdf5"), str(tmp_path / "random.jsonl")
    of = ("--environment", "Counted-v0", "--json", "--num-envs")
    for _ in range(2):  # the second finds the recording that it asks for
        run_verb(("collect", "random", "--steps", "50", "--out", out, *of, "2"))
    assert Counted.most == 2
    with pytest.raises(UsageError, match="another recording"):
        run_verb(("collect", "random", "--steps", "50", "--out", out, *of, "3"))
    run_verb(("evaluate", "random", "--episodes", "9", "--out", records, *of, "3"))
    assert Counted.most == 3
    with pytest.raises(UsageError, match="--num-envs 0; expected at least 1"):
        run_verb(("evaluate", "random", "--out", records, *of, "0"))
    with pytest.raises(UsageError, match="--num-envs 2: is for random, sac-agent and policy"):
        run_verb(("collect", "sac-replay", "--out", str(tmp_path / "b.hdf5"), *of, "2"))
