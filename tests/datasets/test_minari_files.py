from __future__ import annotations

import functools
import json
import sys
from dataclasses import replace

import gymnasium
import h5py
import numpy as np
import pytest
from gymnasium.envs.classic_control.pendulum import PendulumEnv

from foretell.core.errors import DatasetError, UsageError
from foretell.datasets.d4rl import read_d4rl
from foretell.datasets.d4rl_writer import write_d4rl, write_dataset
from foretell.datasets.minari import read_minari, write_minari
from foretell.datasets.recorded_environment import changes_of_environment
from foretell.datasets.registry import open_dataset

minari = pytest.importorskip("minari")
EpisodeBuffer = pytest.importorskip("minari.data_collector").EpisodeBuffer
pytestmark = [pytest.mark.filterwarnings("ignore::UserWarning:minari"), pytest.mark.usefixtures("minari_storage")]


@pytest.fixture
def dataset(tmp_path, make_episode, metadata):
    rng = np.random.default_rng(0)
    episodes = [make_episode(rng, 4), make_episode(rng, 1, terminated=True), make_episode(rng, 3, both=True)]
    write_d4rl(tmp_path / "a.hdf5", episodes, metadata)
    return read_d4rl(tmp_path / "a.hdf5")


def test_there_and_back_loses_nothing(dataset, same, tmp_path):
    write_minari(dataset, "pendulum/test-v0")
    back = open_dataset("minari:pendulum/test-v0")
    same(back, dataset)
    write_dataset(tmp_path / "b.hdf5", back)
    assert (tmp_path / "b.hdf5").read_bytes() == dataset.path.read_bytes()


def test_unknown_and_inconsistent_next_observations_survive(dataset, same):
    odd = replace(dataset, next_observations=np.array(dataset.next_observations) + 1, stored_fingerprint=None)
    unknown = replace(dataset, next_observations=None, extras={"goal_kind": np.arange(3)}, stored_fingerprint=None)
    for name, one in (("odd-v0", odd), ("unknown-v0", unknown)):
        write_minari(one, name)
        same(read_minari(name), one)


def test_discrete_and_image_data_survive(foreign, tmp_path, make_episode, metadata, same):
    rng = np.random.default_rng(0)
    frames = rng.integers(256, size=(5, 40, 40, 3), dtype=np.uint8)  # large enough for Minari to think of JPEG
    for name, episode in (
        ("cart-v0", make_episode(rng, 4, discrete=True)),
        ("frames-v0", replace(make_episode(rng, 4), observations=frames)),
    ):
        write_d4rl(tmp_path / "x.hdf5", [episode], replace(metadata, environment=None))
        written = read_d4rl(tmp_path / "x.hdf5")
        write_minari(written, name)
        same(read_minari(name), written)


def test_minari_itself_reads_what_we_write(dataset):
    write_minari(dataset, "pendulum/test-v0")
    theirs = minari.load_dataset("pendulum/test-v0")
    assert (theirs.total_episodes, theirs.total_steps) == (3, 8)
    assert theirs.env_spec.id == "Pendulum-v1"
    assert theirs.storage.metadata["algorithm_name"] == "SAC"
    for ours, episode in zip(dataset.episodes(), theirs.iterate_episodes()):
        np.testing.assert_array_equal(ours.observations, episode.observations)
        np.testing.assert_array_equal(ours.rewards, episode.rewards)
        np.testing.assert_array_equal(ours.truncations, episode.truncations)


def test_reads_what_others_wrote_to_minari():
    """Float64, lists instead of arrays, an info with a row for the reset, and a last episode left open."""
    env = gymnasium.make("Pendulum-v1")
    env.action_space.seed(0)
    buffers = []
    for seed, steps in ((0, 200), (1, 30)):
        observations, results = [env.reset(seed=seed)[0]], []
        actions = [env.action_space.sample() for _ in range(steps)]
        for action in actions:
            results.append(env.step(action))
            observations.append(results[-1][0])
        _, rewards, terminations, truncations, _ = map(list, zip(*results))
        buffers.append(
            EpisodeBuffer(
                observations=observations, actions=actions, rewards=rewards, terminations=terminations,
                truncations=truncations, infos={"battery": np.arange(steps + 1), "deep": {"x": np.zeros((steps, 2))}},
            )
        )  # fmt: skip
    minari.create_dataset_from_buffers(
        "others/data-v0", buffers, env="Pendulum-v1", algorithm_name="uniform", author="Ann"
    )
    dataset = read_minari("others/data-v0")
    assert dataset.episode_lengths.tolist() == [200, 30]
    assert (dataset.metadata.environment, dataset.metadata.algorithm) == ("Pendulum-v1", "uniform")
    assert dataset.metadata.extra["minari/author"] == b"Ann"
    assert dataset.rewards.dtype == np.float32
    assert dataset.truncations[-1]
    np.testing.assert_array_equal(dataset.episode(1).observations, np.stack(buffers[1].observations))
    np.testing.assert_array_equal(dataset.episode(1).infos["battery"], np.arange(30))
    assert dataset.infos["deep/x"].shape == (230, 2)


def _buffer(steps, **changed):
    content = {
        "observations": np.zeros((steps + 1, 2), np.float32), "actions": np.zeros((steps, 1), np.float32),
        "rewards": np.zeros(steps), "terminations": np.zeros(steps, bool), "truncations": np.zeros(steps, bool),
    }  # fmt: skip
    return EpisodeBuffer(**(content | changed))


BOX = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)


def _written(*buffers):
    minari.create_dataset_from_buffers(
        "odd/data-v0", list(buffers), observation_space=BOX, action_space=gymnasium.spaces.Box(-2, 2, (1,)),
    )  # fmt: skip
    return minari.storage.datasets_root_dir.get_dataset_path("odd/data-v0") / "data" / "main_data.hdf5"


def test_what_is_assumed_or_left_out_is_noted():
    ended = _buffer(2, truncations=np.array([False, True]), infos={"goal": np.zeros((3, 1))})
    _written(ended, _buffer(2, infos={"goal": np.zeros((3, 1))}), _buffer(1, infos={"goal": np.zeros((2, 1))}))
    dataset = read_minari("odd/data-v0")
    assert dataset.truncations.tolist() == [False, True, False, True, True]
    assert dataset.notes == ("2 episodes are left open (first: episode 1), kept and flagged as truncated.",)
    assert set(dataset.infos) == {"goal"}


def test_infos_that_are_no_numbers_are_left_out_and_noted():
    path = _written(_buffer(2, truncations=np.array([False, True])))
    with h5py.File(path, "r+") as file:
        file["episode_0/infos/names"] = np.array([b"a", b"b", b"c"])
        file["episode_0/infos/short"] = np.zeros(1)
        file["episode_0/infos/fit"] = np.zeros(2)
    dataset = read_minari("odd/data-v0")
    assert set(dataset.infos) == {"fit"}
    (note,) = dataset.notes
    assert "'names'" in note
    assert "'short'" in note


@pytest.mark.parametrize("key", ["rewards", "terminations", "truncations"])
@pytest.mark.parametrize("rows", [1, 3])
def test_columns_of_another_length_name_their_episode(key, rows):
    path = _written(_buffer(2), _buffer(2))
    with h5py.File(path, "r+") as file:
        del file[f"episode_1/{key}"]
        file[f"episode_1/{key}"] = np.zeros(rows)
    with pytest.raises(DatasetError, match=f"episode 1 has {rows} {key} for 2 actions"):
        read_minari("odd/data-v0")


def test_absent_and_taken_ids(dataset):
    with pytest.raises(DatasetError, match="minari download absent-v0"):
        read_minari("absent-v0")
    write_minari(dataset, "taken-v0")
    with pytest.raises(UsageError, match="already exists"):
        write_minari(dataset, "taken-v0")


@pytest.mark.parametrize("dataset_id", ["no version!", "no-version", "../../outside-v0", "/outside-v0", ""])
def test_malformed_ids_touch_nothing(dataset, tmp_path, dataset_id):
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UsageError, match="expected a form such as pendulum/medium-v0"):
        write_minari(dataset, dataset_id)
    with pytest.raises(UsageError, match="expected a form such as"):
        read_minari(dataset_id)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_dataset_that_wants_code_imported_is_refused(dataset, tmp_path):
    """Without stored spaces, Minari would make the environment that the file names, module and all."""
    write_minari(dataset, "bad-v0")
    path = tmp_path / "minari/bad-v0/data/metadata.json"
    stored = json.loads(path.read_text())
    del stored["observation_space"]
    path.write_text(json.dumps(stored))
    with pytest.raises(DatasetError, match="keeps no observation_space"):
        read_minari("bad-v0")


def _external_storage(file, secret):
    file.create_dataset("episode_0/infos/secret", (5,), "u1", external=[(str(secret), 0, 5)])


def _external_link(file, secret):
    file["episode_0/infos/secret"] = h5py.ExternalLink(str(secret), "/rewards")


def _virtual_array(file, secret):
    layout = h5py.VirtualLayout((5,), "<f4")
    layout[:] = h5py.VirtualSource(str(secret), "rewards", (5,))
    file.create_virtual_dataset("episode_0/infos/secret", layout)


def _soft_link(file, secret):
    file["episode_0/infos/secret"] = h5py.SoftLink("/episode_0/rewards")


@pytest.mark.parametrize("build", [_external_storage, _external_link, _virtual_array, _soft_link])
def test_data_that_lead_to_another_file_are_refused(dataset, tmp_path, build):
    """Minari would read whatever the user may read, and the data would hold it."""
    write_minari(dataset, "elsewhere-v0")
    read_minari("elsewhere-v0")
    with h5py.File(tmp_path / "secret.hdf5", "w") as file:
        file["rewards"] = np.arange(5, dtype=np.float32)
    with h5py.File(tmp_path / "minari/elsewhere-v0/data/main_data.hdf5", "a") as file:
        build(file, tmp_path / "secret.hdf5")
    with pytest.raises(DatasetError, match="'episode_0/infos/secret' leads elsewhere"):
        read_minari("elsewhere-v0")


NESTED = '{"type": "Tuple", "subspaces": [' * 400 + '{"type": "Discrete", "n": 2, "start": 0}' + "]}" * 400
ARRAY = {"dtype": "<f4", "shape": [7], "base64": ""}


@pytest.mark.parametrize(
    "changes",
    [
        "[" * 100_000, {"env_spec": "[" * 100_000}, {"env_spec": "1"}, {"observation_space": NESTED},
        {"data_format": "arrow"}, {"dataset_id": "../../elsewhere-v0"}, {"author": [1, "a"], "foretell": None},
        {"foretell": "x"}, {"foretell": {"a": 1}}, {"foretell": {"next_observations": "infos", "metadata": {}}},
        {"foretell": {"next_observations": "repeat", "metadata": {"a": ARRAY}}},
        {"foretell": {"next_observations": "repeat", "metadata": {"a": {**ARRAY, "dtype": "O", "shape": [0]}}}},
        {"foretell": {"next_observations": "repeat", "metadata": {}, "extras": [1]}},
    ],
    ids=lambda changes: f"{changes!s:.60}",
)  # fmt: skip
def test_metadata_that_nobody_could_read_are_refused_in_a_sentence(dataset, tmp_path, changes, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)  # as where it is not installed
    write_minari(dataset, "odd-v0")
    path = tmp_path / "minari/odd-v0/data/metadata.json"
    stored = json.loads(path.read_text())
    path.write_text(changes if isinstance(changes, str) else json.dumps(stored | changes))
    with pytest.raises(DatasetError, match=r"^minari:odd-v0: .*cannot be read"):
        read_minari("odd-v0")


def test_without_minari_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "minari", None)
    with pytest.raises(UsageError, match=r'pip install "minari>=0\.5\.4"'):
        read_minari("x-v0")


def test_our_part_of_the_metadata_is_plain_json(dataset, tmp_path):
    write_minari(dataset, "plain-v0")
    stored = json.loads((tmp_path / "minari/plain-v0/data/metadata.json").read_text())
    assert set(stored["foretell"]) == {"metadata", "extras", "next_observations"}


@pytest.mark.parametrize(
    ("made", "name"),
    [
        ({"g": 2.0}, "Pendulum-v1,g=2.0"),
        ({"max_episode_steps": 50}, "Pendulum-v1,max_episode_steps=50"),
        ({"max_episode_steps": -1}, "Pendulum-v1,max_episode_steps=-1"),
        ({}, "Pendulum-v1"),
        ({"render_mode": "rgb_array"}, "Pendulum-v1"),  # changes no number
    ],
)
def test_the_name_stands_for_what_was_recorded_in(made, name):
    env = gymnasium.make("Pendulum-v1", **made)
    minari.create_dataset_from_buffers(
        "own/made-v0", [_buffer(2, observations=np.zeros((3, 3), np.float32))], env=env
    )  # fmt: skip
    dataset = read_minari("own/made-v0")
    assert dataset.metadata.environment == name
    assert [note for note in dataset.notes if "recorded in" in note] == (
        [f"recorded in Pendulum-v1 with {name.partition(',')[2]}, which is called {name}."] if "," in name else []
    )


def test_an_environment_with_keywords_is_written_and_read(dataset):
    """With ours beside it, and by Minari's own description of it alone."""
    name = "Pendulum-v1,g=9.5,max_episode_steps=200"
    write_minari(replace(dataset, metadata=replace(dataset.metadata, environment=name)), "own/keywords-v0")
    assert read_minari("own/keywords-v0").metadata.environment == name
    env_spec = minari.load_dataset("own/keywords-v0").spec.env_spec
    assert (env_spec.id, env_spec.kwargs["g"]) == ("Pendulum-v1", 9.5)


class _OfClass(PendulumEnv):
    pass


def test_an_environment_that_is_registered_by_its_class_is_written(dataset):
    """Of which Minari can store nothing; its name is kept beside."""
    if "OfClass-v0" not in gymnasium.registry:
        gymnasium.register("OfClass-v0", entry_point=_OfClass, max_episode_steps=200)
    named = replace(dataset, metadata=replace(dataset.metadata, environment="OfClass-v0"))
    write_minari(named, "own/class-v0")
    assert read_minari("own/class-v0").metadata.environment == "OfClass-v0"


def test_what_could_not_be_written_leaves_no_folder(dataset, monkeypatch):
    def fails(*args, **kwargs):
        (minari.storage.datasets_root_dir.get_dataset_path("own/half-v0") / "data").mkdir(parents=True)
        raise ValueError("no")

    with monkeypatch.context() as patch:
        patch.setattr(minari, "create_dataset_from_buffers", fails)
        with pytest.raises(UsageError, match="cannot be written"):
            write_minari(dataset, "own/half-v0")
    write_minari(dataset, "own/half-v0")


@pytest.mark.parametrize("made", [{"g": 10.0}, {"g": 10}])
def test_a_keyword_of_its_usual_value_changes_nothing(made):
    env = gymnasium.make("Pendulum-v1", **made)
    minari.create_dataset_from_buffers("own/usual-v0", [_buffer(2, observations=np.zeros((3, 3), np.float32))], env=env)
    assert read_minari("own/usual-v0").metadata.environment == "Pendulum-v1"


class Monitor(gymnasium.Wrapper):
    """Somebody's, which may do anything."""


class _TheirMonitor(Monitor):
    """Stands for Stable-Baselines3's, which keeps what episodes earn."""


_TheirMonitor.__name__, _TheirMonitor.__module__ = "Monitor", "stable_baselines3.common.monitor"


@pytest.mark.parametrize(
    ("wrapper", "named"),
    [
        (gymnasium.wrappers.RecordEpisodeStatistics, True),
        (_TheirMonitor, True),
        (Monitor, False),
        (functools.partial(gymnasium.wrappers.TransformReward, func=abs), False),
    ],
)
def test_wrappers_that_change_numbers_are_another_environment(wrapper, named):
    changes = changes_of_environment(wrapper(gymnasium.make("Pendulum-v1")).spec)
    assert changes == (() if named else (f"the wrapper {getattr(wrapper, '__name__', 'TransformReward')}",))


def test_registered_keywords_are_compared_as_they_are_stored():
    """A tuple comes back as a list."""
    if "Tupled-v0" not in gymnasium.registry:
        gymnasium.register("Tupled-v0", entry_point=_OfClass, max_episode_steps=9, kwargs={"sizes": (3, 4)})
    spec = gymnasium.spec("Tupled-v0")
    assert changes_of_environment(replace(spec, kwargs={"sizes": [3, 4]})) == ()
    assert changes_of_environment(replace(spec, kwargs={"sizes": [3, 5]})) == ("sizes=[3, 5]",)
    assert changes_of_environment(replace(spec, id="Nowhere-v0")) == ()


def test_a_dataset_that_is_there_survives_another_of_its_name(dataset):
    write_minari(dataset, "own/taken-v0")
    with pytest.raises(UsageError, match="choose a free id"):
        write_minari(dataset, "own/taken-v0")
    assert read_minari("own/taken-v0").num_steps == dataset.num_steps


@pytest.mark.parametrize(
    "error", [ImportError, ModuleNotFoundError, TypeError, ValueError, gymnasium.error.NameNotFound]
)
def test_of_an_environment_that_cannot_be_made_here_the_data_are_written(dataset, error, monkeypatch):
    def make(name):
        raise error("moved to another package")

    monkeypatch.setattr(gymnasium, "make", make)
    write_minari(dataset, "elsewhere/test-v0")
    assert minari.load_dataset("elsewhere/test-v0").action_space.shape == (dataset.action_dim,)
