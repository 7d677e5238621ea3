"""Datasets of some episodes, and of several datasets."""

from __future__ import annotations

import inspect
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import foretell
from foretell.core.errors import DatasetError, UsageError
from foretell.datasets.doctor import diagnose
from reference.making import CHOICES, make_dataset


def _assert_same(episode, other):
    for name in ("observations", "actions", "rewards", "terminations", "truncations"):
        assert np.array_equal(getattr(episode, name), getattr(other, name)), name
    assert episode.infos.keys() == other.infos.keys()


@settings(deadline=None, max_examples=40)
@given(
    lengths=st.lists(st.integers(1, 7), min_size=1, max_size=6), data=st.data(),
    shape=st.sampled_from([None, CHOICES]),
)  # fmt: skip
def test_chosen_episodes_are_those_of_the_whole_in_the_order_that_was_asked(lengths, data, shape):
    whole = make_dataset(lengths, **({} if shape is None else {"shape": shape}))
    chosen = data.draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=8))
    found = foretell.select_episodes(whole, chosen)
    assert found.num_episodes == len(chosen)
    for episode, number in zip(found.episodes(), chosen, strict=True):
        _assert_same(episode, whole.episode(number))
    assert found.metadata.hyperparameters["parts"] == [
        {"name": whole.name, "fingerprint": whole.fingerprint(), "episodes": len(chosen)}
    ]


@settings(deadline=None, max_examples=20)
@given(several=st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=3), min_size=1, max_size=4))
def test_several_datasets_lie_one_behind_the_other(several):
    parts = [make_dataset(lengths, seed=seed) for seed, lengths in enumerate(several)]
    found = foretell.concatenate(parts, name="all")
    expected = [episode for part in parts for episode in part.episodes()]
    assert found.num_episodes == len(expected)
    for episode, other in zip(found.episodes(), expected, strict=True):
        _assert_same(episode, other)
    assert found.name == "all"
    assert [part["episodes"] for part in found.metadata.hyperparameters["parts"]] == [len(one) for one in several]


def test_what_was_composed_is_written_read_and_trained_on(pendulum_random, tmp_path):
    data = pendulum_random
    best = foretell.select_episodes(data, data.episode_returns().argsort()[-3:], name="best")
    assert np.array_equal(np.sort(data.episode_returns())[-3:], best.episode_returns())
    mixed = foretell.concatenate([best, foretell.select_episodes(data, [0, 1])])
    assert mixed.name == f"best+{data.name}"
    assert (mixed.metadata.environment, mixed.metadata.algorithm) == ("Pendulum-v1", "random")
    assert not [one for one in diagnose(best) if one.severity == "error"]
    foretell.write_dataset(tmp_path / "mixed.hdf5", mixed)
    back = foretell.open_dataset(tmp_path / "mixed.hdf5")
    assert back.fingerprint() == mixed.fingerprint()
    assert back.metadata.hyperparameters == mixed.metadata.hyperparameters
    run = foretell.train(back, tmp_path / "run", training=foretell.TrainingConfig(updates=1, batch_size=4))
    assert foretell.evaluate(run, episodes=1)


def test_what_not_all_have_is_left_out():
    whole = make_dataset([4, 3])
    told = replace(whole, infos={"speed": np.ones(7, np.float32)})
    known = replace(whole, next_observations=whole.observations)
    found = foretell.concatenate([told, known])
    assert not found.infos
    assert found.next_observations is None
    assert foretell.select_episodes(told, [1]).infos["speed"].shape == (3,)
    assert len(foretell.concatenate([known, known]).next_observations) == 14


def test_what_cannot_be_composed_is_refused(tmp_path):
    whole = make_dataset([4, 3])
    for wrong in ([], [2], [-1], [0.5], [[0]], [[0], [0, 1]], np.zeros(2, bool), None):
        with pytest.raises(UsageError, match="episodes"):
            inspect.unwrap(foretell.select_episodes)(whole, wrong)
    with pytest.raises(UsageError, match=r"dataset is 'data.hdf5'; expected a foretell.Dataset, .*open_dataset"):
        inspect.unwrap(foretell.select_episodes)("data.hdf5", [0])
    for wrong in ("x" * 256, 5):
        with pytest.raises(UsageError, match="name"):
            inspect.unwrap(foretell.select_episodes)(whole, [0], name=wrong)
    for wrong in ([], None, whole, [whole, 3]):
        with pytest.raises(UsageError, match=r"expected several of foretell.Dataset"):
            inspect.unwrap(foretell.concatenate)(wrong)
    with pytest.raises(UsageError, match=r"datasets are \['a.hdf5'\].*such as foretell.open_dataset\(path\) gives"):
        inspect.unwrap(foretell.concatenate)(["a.hdf5"])
    with pytest.raises(DatasetError, match=r"actions are int64 of shape .* expected the same in all"):
        foretell.concatenate([whole, make_dataset([4], shape=CHOICES)])
    named = [replace(whole, metadata=foretell.DatasetMetadata(environment=name)) for name in ("A-v0", "B-v0")]
    with pytest.raises(DatasetError, match="name the environments A-v0, B-v0; expected one"):
        foretell.concatenate(named)
    foretell.write_dataset(tmp_path / "a.hdf5", whole)
    damaged = foretell.open_dataset(tmp_path / "a.hdf5")
    damaged = replace(damaged, rewards=damaged.rewards + 1)
    for composed in (lambda: foretell.select_episodes(damaged, [0]), lambda: foretell.concatenate([damaged])):
        with pytest.raises(DatasetError, match="stored_fingerprint=None"):
            composed()


def test_many_parts_have_a_short_name():
    parts = [make_dataset([2], name=f"a-name-of-some-length-{number}") for number in range(20)]
    assert foretell.concatenate(parts).name == "a-name-of-some-length-0+18 more+a-name-of-some-length-19"
    assert foretell.concatenate(parts[:2]).name == "a-name-of-some-length-0+a-name-of-some-length-1"


def test_choices_are_the_same_in_any_integer():
    parts = [make_dataset([4], shape=CHOICES, seed=seed) for seed in (0, 1)]
    parts[0] = replace(parts[0], actions=parts[0].actions.astype(np.int32))
    assert np.array_equal(foretell.concatenate(parts).actions, np.concatenate([part.actions for part in parts]))


def test_what_all_parts_say_is_said_of_the_whole():
    first, second = (
        replace(make_dataset([3], seed=seed), metadata=foretell.DatasetMetadata(
            environment="A-v0", algorithm="imagined", seed=seed, description="mine",
            hyperparameters={"imagined_from": "abc", "seed": seed}, versions={"numpy": "2", "foretell": str(seed)},
        )) for seed in (0, 1)
    )  # fmt: skip
    found = foretell.concatenate([first, second]).metadata
    assert (found.environment, found.algorithm, found.seed, found.description) == ("A-v0", "imagined", None, "mine")
    assert {key: value for key, value in found.hyperparameters.items() if key != "parts"} == {"imagined_from": "abc"}
    assert found.versions == {"numpy": "2"}
