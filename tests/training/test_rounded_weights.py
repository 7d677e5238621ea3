"""Weights rounded all at once: the numbers of autocast, which rounds each where it is read."""

from __future__ import annotations

import pytest
import torch

from foretell.sequences.windows import WindowSampler
from foretell.training.configs import TrainingConfig
from foretell.training.placing import PLACEABLE
from foretell.training.sequence import SequenceTraining
from reference.making import IDENTITY, SHAPES, make_dataset, scaled, small_model


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("name", PLACEABLE)
def test_loss_and_gradients_are_autocasts(name, shape):
    data = make_dataset([9, 5, 14], shape=shape)
    sampler = WindowSampler(data, IDENTITY if shape.discrete else scaled(), context_length=4, seed=0)
    batch, model = sampler.batch(0, 6), small_model(name, shape)
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        expected = model.loss(batch)
    expected.backward()
    gradients = {key: one.grad.clone() for key, one in model.named_parameters() if one.grad is not None}

    training = SequenceTraining(model, sampler, TrainingConfig(batch_size=6, updates=1), 0, "bfloat16")
    before = dict(model.named_parameters())
    assert torch.equal(training._gradients(batch), expected)
    assert {key for key, one in model.named_parameters() if one.grad is not None} == {*gradients}
    for key, one in model.named_parameters():
        assert one is before[key]
        assert one.grad is None or torch.equal(one.grad, gradients[key]), key
        assert one.grad is None or one.grad.dtype is torch.float32


def test_what_does_not_learn_is_left_alone():
    sampler = WindowSampler(make_dataset([9, 5, 14]), scaled(), context_length=4, seed=0)
    model = small_model("decision-transformer")
    model.embed_return.weight.requires_grad_(False)
    training = SequenceTraining(model, sampler, TrainingConfig(batch_size=6, updates=2), 0, "bfloat16")
    before = model.embed_return.weight.clone()
    training.update(0)
    assert model.embed_return.weight.grad is None
    assert torch.equal(model.embed_return.weight, before)
    assert not torch.equal(model.embed_return.bias, torch.zeros_like(model.embed_return.bias))
