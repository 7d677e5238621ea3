"""Datasets as Minari has them loaded, filtered, split and combined; and the id of the environment that they name."""

from __future__ import annotations

from dataclasses import replace

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.classic_control.pendulum import PendulumEnv

from foretell.core.errors import DatasetError, UsageError
from foretell.datasets.d4rl import read_d4rl
from foretell.datasets.d4rl_writer import write_d4rl
from foretell.datasets.minari import read_minari, write_minari
from foretell.datasets.recorded_environment import changes_of_environment, registered_alike
from foretell.datasets.registry import open_dataset
from foretell.facade.source import Source

minari = pytest.importorskip("minari")
EpisodeBuffer = pytest.importorskip("minari.data_collector").EpisodeBuffer
pytestmark = [pytest.mark.filterwarnings("ignore::UserWarning:minari"), pytest.mark.usefixtures("minari_storage")]


def _recorded(name="own/data-v0", env="Pendulum-v1", lengths=(5, 3, 4, 2)):
    rng = np.random.default_rng(0)
    buffers = [
        EpisodeBuffer(
            observations=rng.normal(size=(steps + 1, 3)).astype(np.float32),
            actions=rng.uniform(-1, 1, (steps, 1)).astype(np.float32), rewards=np.full(steps, float(index)),
            terminations=np.zeros(steps, bool), truncations=np.arange(steps) == steps - 1,
            infos={"battery": np.arange(steps + 1.0)},
        )
        for index, steps in enumerate(lengths)
    ]  # fmt: skip
    return minari.create_dataset_from_buffers(name, buffers, env=env, algorithm_name="uniform")


def test_what_minari_has_loaded_is_what_its_id_names(same):
    found = open_dataset(_recorded())
    same(found, open_dataset("minari:own/data-v0"))
    assert (found.name, found.metadata.environment, found.metadata.algorithm) == (
        "own/data-v0",
        "Pendulum-v1",
        "uniform",
    )


def test_of_a_filtered_one_its_episodes_are_read(same):
    kept = open_dataset(_recorded().filter_episodes(lambda episode: len(episode.rewards) > 3))
    assert kept.episode_lengths.tolist() == [5, 4]
    assert kept.episode_returns().tolist() == [0, 8]
    assert kept.infos["battery"].tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3]
    whole = open_dataset("minari:own/data-v0")
    np.testing.assert_array_equal(kept.observations, np.concatenate([whole.observations[:5], whole.observations[8:12]]))
    assert kept.fingerprint() != whole.fingerprint()


def test_the_parts_of_a_split_one_are_the_whole():
    parts = [open_dataset(part) for part in minari.split_dataset(_recorded(), sizes=[3, 1], seed=1)]
    assert [part.num_episodes for part in parts] == [3, 1]
    returns = np.concatenate([part.episode_returns() for part in parts])
    assert sorted(returns.tolist()) == sorted(open_dataset("minari:own/data-v0").episode_returns().tolist())


def test_a_combined_one_is_read(same):
    both = minari.combine_datasets([_recorded(), _recorded("own/more-v0", lengths=(6,))], "own/both-v0")
    found = open_dataset(both)
    assert found.name == "own/both-v0"
    assert found.episode_lengths.tolist() == [5, 3, 4, 2, 6]
    same(found, read_minari("own/both-v0"))


def test_nothing_left_is_refused():
    with pytest.raises(DatasetError, match="own/data-v0: 0 episodes"):
        open_dataset(_recorded().filter_episodes(lambda episode: False))


def test_its_ends_are_known():
    loaded = _recorded()
    with pytest.raises(UsageError, match=r"own/data-v0: Minari says where episodes end; a horizon \(3\)"):
        open_dataset(loaded, horizon=3)
    with pytest.raises(UsageError, match=r"own/data-v0: Minari says where episodes end; ends_at \(timeouts\)"):
        open_dataset(loaded, ends_at="timeouts")


def test_of_ours_what_belongs_to_all_timesteps_is_not_kept_of_some(tmp_path, make_episode, metadata, same):
    rng = np.random.default_rng(0)
    write_d4rl(tmp_path / "a.hdf5", [make_episode(rng, 4), make_episode(rng, 2)], metadata)
    ours = read_d4rl(tmp_path / "a.hdf5")
    ours.extras["timesteps"] = np.array([0, 1, 2, 3, 0, 1])  # type: ignore[index]
    write_minari(ours, "own/ours-v0")
    loaded = minari.load_dataset("own/ours-v0")
    same(open_dataset(loaded), ours)
    kept = open_dataset(loaded.filter_episodes(lambda episode: len(episode.rewards) < 4))
    assert (kept.num_steps, dict(kept.extras)) == (2, {})
    np.testing.assert_array_equal(kept.observations, ours.observations[4:])
    np.testing.assert_array_equal(kept.next_observations, ours.next_observations[4:])


class _Alike(PendulumEnv):
    def __init__(self, size=(3, 4), hard=False, render_mode=None):
        super().__init__(render_mode=render_mode)


def _register(name, **settings):
    if name not in gymnasium.registry:
        gymnasium.register(name, **{"entry_point": f"{__name__}:_Alike", "max_episode_steps": 9, **settings})


@pytest.fixture
def registered():
    _register("Alike-v0")
    _register("AlikeShort-v0", max_episode_steps=5, kwargs={"hard": True})
    _register("AlikeHard-v0", kwargs={"hard": True, "size": (3, 4)})
    _register("AlikeLarge-v0", kwargs={"hard": True, "size": (30, 4)})
    yield
    for name in ("Alike-v0", "AlikeShort-v0", "AlikeHard-v0", "AlikeLarge-v0"):
        gymnasium.registry.pop(name)


@pytest.mark.parametrize(
    ("kwargs", "steps", "expected"),
    [
        ({"hard": True}, 9, "AlikeHard-v0"), ({"hard": True}, 5, "AlikeShort-v0"), ({"hard": True}, 7, None),
        ({"hard": True, "size": [30, 4]}, 9, "AlikeLarge-v0"), ({"hard": True, "size": [3, 5]}, 9, None),
        ({}, 9, "Alike-v0"), ({}, 5, None), ({"hard": True, "render_mode": "human"}, 9, "AlikeHard-v0"),
    ],
)  # fmt: skip
def test_an_id_stands_for_one_entry_point_its_keywords_and_its_time_limit(registered, kwargs, steps, expected):
    spec = replace(gymnasium.spec("Alike-v0"), kwargs=kwargs, max_episode_steps=steps)
    assert registered_alike(spec) == expected
    assert registered_alike(replace(spec, entry_point="elsewhere:Alike")) is None


def test_wrappers_are_in_no_registered_id(registered):
    wrapped = gymnasium.wrappers.TransformReward(gymnasium.make("Alike-v0", hard=True), abs)
    assert registered_alike(wrapped.spec) is None


def test_data_name_the_id_that_is_made_as_they_were(registered):
    _recorded("own/hard-v0", env=gymnasium.make("Alike-v0", hard=True))
    dataset = read_minari("own/hard-v0")
    assert dataset.metadata.environment == "AlikeHard-v0"
    assert dataset.notes == ("recorded in Alike-v0 with hard=True, which is registered as AlikeHard-v0.",)
    gymnasium.registry.pop("AlikeHard-v0")
    dataset = read_minari("own/hard-v0")
    assert dataset.metadata.environment == "Alike-v0,hard=true"
    assert dataset.notes == ("recorded in Alike-v0 with hard=True, which is called Alike-v0,hard=true.",)
    _register("AlikeHard-v0")  # for the fixture to take away


def test_what_no_name_says_is_not_named(registered):
    _recorded("own/path-v0", env=gymnasium.make("Alike-v0", size="a/path"))
    dataset = read_minari("own/path-v0")
    assert dataset.metadata.environment is None
    assert "no environment is named. Register one that is made so" in dataset.notes[0]


def test_it_is_trained_on_as_a_name_is(registered):
    loaded = _recorded(env="Alike-v0")
    kept = loaded.filter_episodes(lambda episode: len(episode.rewards) > 3)
    assert Source.of(kept, None, None, None).data.episode_lengths.tolist() == [5, 4]


def test_gymnasium_s_own_lander_is_found():
    """With or without its simulator."""
    spec = replace(gymnasium.spec("LunarLander-v3"), kwargs={"continuous": True})
    assert changes_of_environment(spec) == ("continuous=True",)
    assert registered_alike(spec) == "LunarLanderContinuous-v3"
