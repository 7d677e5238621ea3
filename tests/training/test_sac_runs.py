from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.envs.classic_control.pendulum import PendulumEnv

from foretell import facade
from foretell.agents.configs import SACConfig
from foretell.core.errors import DivergedError, StoppedError, UsageError
from foretell.core.seeding import derive_seed
from foretell.datasets.registry import open_dataset
from foretell.training import sac as sac_training
from foretell.training.checkpoints import load_tensors
from foretell.training.run_folder import read_events
from reference.replaying import check_replay

TINY = SACConfig(
    total_steps=650, hidden_sizes=(8, 8), learning_starts=50, batch_size=16, checkpoint_every=200, evaluate_every=300
)


class Killed(Exception):
    pass


def _train(out, progress=lambda *_, **__: None, **changes):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(facade.agents, "validation_starts", lambda root, count: list(range(2)))
        return facade.train_sac("Pendulum-v1", out, **{"config": TINY, "progress": progress, **changes})


@pytest.fixture(scope="module", params=["twin-q", "value"])
def runs(request, tmp_path_factory):
    """The same run straight through, and killed at step 470 and continued."""
    folder = tmp_path_factory.mktemp("sac")
    config = SACConfig(**{**vars(TINY), "form": request.param})

    def kill(done, total, **_):
        if done == 470:
            raise Killed

    straight = _train(folder / "straight", config=config)
    with pytest.raises(Killed):
        _train(folder / "killed", kill, config=config)
    steps = []
    resumed = _train(folder / "killed", lambda done, *_, **__: steps.append(done), config=config)
    assert steps[0] == 401
    return straight, resumed


def test_resumes_bit_for_bit(runs):
    one, other = (load_tensors(run / "model.safetensors") for run in runs)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert open_dataset(runs[0] / "replay.hdf5").fingerprint() == open_dataset(runs[1] / "replay.hdf5").fingerprint()
    events = [[{k: v for k, v in event.items() if k != "wall_seconds"} for event in read_events(run)] for run in runs]
    assert events[0] == events[1]
    assert [event["step"] for event in events[0] if event["event"] == "evaluation"] == [300, 600]
    assert [event["step"] for event in events[0] if event["event"] == "episode"] == [200, 400, 600]


def test_replay_is_a_dataset_that_gymnasium_repeats(runs):
    data = open_dataset(runs[0] / "replay.hdf5")
    assert data.episode_lengths.tolist() == [200, 200, 200, 50]
    assert not data.terminations.any()
    starts = [derive_seed(0, "sac-start", episode) % (2**31 - 1) for episode in range(4)]
    check_replay(data, starts=starts)
    np.testing.assert_allclose(data.infos["action_log_probs"][:50], -np.log(4.0), rtol=1e-6)
    assert len(np.unique(data.infos["action_log_probs"][50:])) > 500
    logged = [event["return"] for event in read_events(runs[0]) if event["event"] == "episode"]
    np.testing.assert_allclose(logged, data.episode_returns()[:3], rtol=1e-6)


def test_actions_after_the_warm_up_have_the_policys_log_probs(runs):
    """The weights at the end are not those that acted before; only the law of what is stored is looked at."""
    data = open_dataset(runs[0] / "replay.hdf5")
    assert (np.abs(data.actions) <= 2).all()
    assert float(np.abs(data.actions[:50]).max()) > 1.5
    np.testing.assert_allclose(np.cos(data.infos["qpos"][:, 0]), data.observations[:, 0], atol=1e-5)


def test_a_seed_is_a_run(runs, tmp_path):
    other = _train(tmp_path / "other", seed=1, config=SACConfig(**{**vars(TINY), "total_steps": 60}))
    again = _train(tmp_path / "again", seed=1, config=SACConfig(**{**vars(TINY), "total_steps": 60}))
    one, two = (open_dataset(run / "replay.hdf5") for run in (other, again))
    assert one.fingerprint() == two.fingerprint()
    assert not np.array_equal(one.observations[:50], open_dataset(runs[0] / "replay.hdf5").observations[:50])


def test_another_configuration_is_refused(runs):
    before = (runs[0] / "model.safetensors").read_bytes()
    with pytest.raises(UsageError, match="another configuration"):
        _train(runs[0], seed=1)
    assert (runs[0] / "model.safetensors").read_bytes() == before


def test_losses_that_are_not_finite_stop_it(tmp_path, monkeypatch):
    plain = sac_training.Replay.sample

    def poisoned(self, *arguments):
        batch = plain(self, *arguments)
        if self.size == 60:
            batch.rewards[0] = torch.inf
        return batch

    monkeypatch.setattr(sac_training.Replay, "sample", poisoned)
    with pytest.raises(DivergedError, match="step 60"):
        _train(tmp_path / "run")
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_discrete_actions_are_refused(tmp_path):
    with pytest.raises(UsageError, match="discrete"):
        facade.train_sac("CartPole-v1", tmp_path / "run", config=TINY)


def test_a_stop_goes_on_to_the_end_of_the_episode_and_saves(tmp_path):
    def stop(done, total, **_):
        if done == 270:
            raise StoppedError(15)

    with pytest.raises(StoppedError):
        _train(tmp_path / "run", stop)
    (newest,) = sorted((tmp_path / "run" / "checkpoints").glob("update-*"))[-1:]
    assert newest.name == "update-000000000400"
    _train(tmp_path / "run")
    _train(tmp_path / "whole")
    weights = [load_tensors(tmp_path / name / "model.safetensors") for name in ("run", "whole")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])


class _OneFixed(PendulumEnv):
    """A second component of the action that has one value alone, and does nothing."""

    def __init__(self):
        super().__init__()
        self.action_space = gymnasium.spaces.Box(np.array([-2, 0.5]), np.array([2, 0.5]), dtype=np.float32)

    def step(self, u):
        return super().step(u[:1])


def test_an_action_component_of_one_value_has_no_part_in_the_density():
    """Its width of 0 would make it infinite."""
    if "FixedPendulum-v0" not in gymnasium.registry:
        gymnasium.register("FixedPendulum-v0", entry_point=_OneFixed, max_episode_steps=9)
    config = SACConfig(total_steps=4, learning_starts=2, hidden_sizes=(8,))
    training = sac_training.SACTraining("FixedPendulum-v0", config, 0)
    training.begin_episode()
    for _ in range(4):
        training.act_and_record()
    found = training.replay.columns["infos/action_log_probs"]
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[:2], -np.log(4.0), rtol=1e-6)
