"""Windows gathered from columns on a device are those of the sampler, whatever it is asked for."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell.models.configs import SequenceShape
from foretell.sequences import resident
from foretell.sequences.normalization import Normalization
from foretell.sequences.resident import CopiedWindows, ResidentWindows, copied, resident_bytes
from foretell.sequences.windows import WindowSampler
from reference.making import CHOICES, IDENTITY, VECTOR, make_dataset, scaled
from reference.windows import assert_equal

CPU = torch.device("cpu")


@settings(deadline=None, max_examples=25)
@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=6), context_length=st.integers(1, 15),
    seed=st.integers(0, 99), shape=st.sampled_from([VECTOR, CHOICES]), told=st.booleans(), eligible=st.booleans(),
    emphasized=st.booleans(), goals=st.booleans(), copied_rows=st.integers(1, 9),
)  # fmt: skip
def test_batches_are_the_samplers(
    lengths, context_length, seed, shape, told, eligible, emphasized, goals, copied_rows
):  # fmt: skip
    data = make_dataset(lengths, seed=seed, shape=shape)
    falls = np.zeros(data.num_steps, bool)
    falls[data.episode_ends[::2] - 1] = True
    data = replace(data, terminations=falls, truncations=data.truncations & ~falls)
    rows = np.arange(data.num_steps)
    sampler = WindowSampler(
        data, IDENTITY if shape.discrete else scaled(), context_length=context_length, seed=seed,
        told=np.sqrt(1.0 + rows) if told else None, eligible=rows[::2] if eligible else None,
        emphasized=rows[-3:] if emphasized else None, goals=goals,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:  # a copy in pieces that cut through episodes
        patch.setattr(resident, "COPIED_ROWS", copied_rows)
        windows = ResidentWindows(sampler, CPU)
    for update in (0, resident.CHUNK - 1, resident.CHUNK, 3):
        assert_equal(windows.batch(update, 7), sampler.batch(update, 7), rtol=1e-6)
        assert_equal(CopiedWindows(sampler, CPU).batch(update, 7), sampler.batch(update, 7), rtol=1e-6)
    assert_equal(windows.batch(3, 5), sampler.batch(3, 5), rtol=1e-6)


def test_images_lie_as_bytes_and_come_scaled():
    shape = SequenceShape(observation_shape=(2, 2, 3), action_dim=2, discrete=True, max_timesteps=4)
    images = np.random.default_rng(0).integers(0, 256, (7, 2, 2, 3), dtype=np.uint8)
    data = make_dataset([4, 3], shape=shape, observations=images)
    sampler = WindowSampler(data, Normalization.fit(data, None), context_length=3, seed=0, goals=True)
    assert_equal(ResidentWindows(sampler, CPU).batch(0, 6), sampler.batch(0, 6), rtol=1e-6)
    # 12 bytes of image, a choice of 8, what is told and the reward of 4 each, a termination of 1; of goals 12 more
    without = WindowSampler(data, sampler.normalization, context_length=3, seed=0)
    assert resident_bytes(without) == 7 * (12 + 8 + 4 + 4 + 1)
    assert resident_bytes(sampler) == resident_bytes(without) + 7 * 12


def test_images_of_floats_are_copied_a_few_at_a_time(monkeypatch):
    shape = SequenceShape(observation_shape=(3, 40, 40), action_dim=2, discrete=True, max_timesteps=20)
    seen = np.random.default_rng(0).random((600, 3, 40, 40), np.float32)
    data = make_dataset([20] * 30, shape=shape, observations=seen)
    sampler = WindowSampler(data, Normalization.fit(data, None), context_length=3, seed=0)
    monkeypatch.setattr(resident, "COPIED_BYTES", 1 << 18)
    tracemalloc.start()
    windows = ResidentWindows(sampler, CPU)  # what PyTorch keeps itself is not counted
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < seen.nbytes / 8
    assert_equal(windows.batch(0, 6), sampler.batch(0, 6), rtol=1e-6)


def test_parts_of_a_batch_are_the_batch():
    sampler = WindowSampler(make_dataset([7, 30, 2]), scaled(), context_length=4, seed=5, goals=True)
    whole = sampler.batch(3, 11)
    for count, sizes in ((1, [11]), (2, [5, 6]), (3, [3, 4, 4])):
        parts = [sampler.part(number, count).batch(3, 11) for number in range(count)]
        assert [len(part.mask) for part in parts] == sizes
        for name, value in vars(whole).items():
            assert torch.equal(torch.cat([getattr(part, name) for part in parts]), value), name
    assert torch.equal(sampler.batch(3, 11).observations, whole.observations), "a part changed the whole"


def test_copies_go_to_the_device():
    assert copied(torch.arange(3), torch.device("meta")).device.type == "meta"
    assert copied(torch.arange(3), CPU).tolist() == [0, 1, 2]
