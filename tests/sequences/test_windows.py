from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell.core.errors import UsageError
from foretell.models.configs import SequenceShape
from foretell.sequences.windows import WindowSampler
from reference.making import CHOICES, IDENTITY, VECTOR, make_dataset, scaled
from reference.windows import as_rows, windows_slowly


@settings(deadline=None, max_examples=60)
@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=6), context_length=st.integers(1, 15),
    seed=st.integers(0, 99), shape=st.sampled_from([VECTOR, CHOICES]),
)  # fmt: skip
def test_equal_to_the_slow_reference(lengths, context_length, seed, shape):
    data = make_dataset(lengths, seed=seed, shape=shape)
    normalization = IDENTITY if shape.discrete else scaled()
    rows = np.arange(data.num_steps)
    found = as_rows(WindowSampler(data, normalization, context_length=context_length, seed=0).windows(rows))
    expected = windows_slowly(data, rows, context_length)
    for mine, theirs in zip(found, expected, strict=True):
        for ours, raw in zip(mine, theirs, strict=True):
            assert (ours is None) == (raw is None)
            if ours is None or raw is None:
                continue
            assert ours["timesteps"] == raw["timesteps"]
            if shape.discrete:
                assert ours["actions"] == raw["actions"]
                np.testing.assert_allclose(ours["observations"], raw["observations"])
                np.testing.assert_allclose(ours["returns_to_go"][0], raw["returns_to_go"], atol=1e-5)
            else:
                np.testing.assert_allclose(ours["actions"], raw["actions"] / 2, atol=1e-6)
                np.testing.assert_allclose(ours["observations"], (raw["observations"] - 1) / 2, atol=1e-6)
                np.testing.assert_allclose(ours["returns_to_go"][0], raw["returns_to_go"] / 10, atol=1e-6)


def test_padding_is_zero_and_types_are_fixed():
    for shape, kind in ((VECTOR, torch.float32), (CHOICES, torch.int64)):
        data = make_dataset([2, 3], shape=shape)
        batch = WindowSampler(data, IDENTITY if shape.discrete else scaled(), context_length=5, seed=0).windows(
            np.array([0, 3])
        )
        assert batch.mask.tolist() == [[False] * 4 + [True], [False] * 3 + [True, True]]
        assert (batch.actions.dtype, batch.observations.dtype, batch.timesteps.dtype) == (
            kind, torch.float32, torch.int64,
        )  # fmt: skip
        for name in ("observations", "actions", "returns_to_go", "timesteps"):
            assert not getattr(batch, name)[~batch.mask].any(), name
        assert batch.timesteps[1].tolist() == [0, 0, 0, 0, 1]


def test_a_batch_is_a_function_of_seed_and_update():
    data = make_dataset([7, 30, 2])
    sampler = WindowSampler(data, scaled(), context_length=4, seed=5)
    first = sampler.batch(3, 16)
    for update in (9, 0):
        sampler.batch(update, 16)
    again = WindowSampler(data, scaled(), context_length=4, seed=5).batch(3, 16)
    for name, value in vars(sampler.batch(3, 16)).items():
        assert torch.equal(value, getattr(first, name))
        assert torch.equal(value, getattr(again, name))
    others = (sampler.batch(4, 16), WindowSampler(data, scaled(), context_length=4, seed=6).batch(3, 16))
    for other in others:
        assert not torch.equal(other.observations, first.observations)


def test_mapped_columns_stay_where_they_lie(pendulum_random):
    assert isinstance(pendulum_random.observations, np.memmap)
    sampler = WindowSampler(pendulum_random, scaled(1), context_length=4, seed=0)
    for name in ("observations", "actions", "rewards"):
        assert np.shares_memory(getattr(sampler, f"_{name}"), getattr(pendulum_random, name))
    sampler.batch(0, 8)


def test_windows_do_not_write_into_the_data():
    data = make_dataset([5])
    before = data.observations.copy()
    batch = WindowSampler(data, IDENTITY_WITH_ACTIONS, context_length=3, seed=0).windows(np.array([4]))
    batch.observations.fill_(9.0)
    np.testing.assert_array_equal(data.observations, before)


IDENTITY_WITH_ACTIONS = scaled(return_scale=1.0)


def test_images_are_scaled_to_the_unit_interval():
    shape = SequenceShape(observation_shape=(2, 2, 3), action_dim=2, discrete=True, max_timesteps=3)
    images = np.random.default_rng(0).integers(0, 256, (3, 2, 2, 3), dtype=np.uint8)
    data = make_dataset([3], shape=shape, observations=images)
    normalization = type(IDENTITY).fit(data, None)
    batch = WindowSampler(data, normalization, context_length=3, seed=0).windows(np.array([2]))
    np.testing.assert_allclose(batch.observations[0], images / 255.0, atol=1e-6)


def test_context_length_below_one_is_refused():
    with pytest.raises(UsageError, match="at least 1"):
        WindowSampler(make_dataset([2]), scaled(), context_length=0, seed=0)
