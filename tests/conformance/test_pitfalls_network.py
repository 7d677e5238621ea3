"""Rows of the table of pitfalls that concern the network; each twice: the rule, and that its breach is noticed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from conformance import checks
from conformance.checks import notices
from foretell.models import decision_transformer, layers, losses, trajectory_transformer
from foretell.models.interface import SequenceModel
from foretell.models.registry import MODELS
from reference.making import SHAPES, each, random_batch, small_config, small_model


@pytest.fixture(params=[(name, kind) for name in MODELS for kind in SHAPES], ids="-".join)
def case(request):
    return request.param


def attends(model):
    return any(isinstance(module, layers.Block) for module in model.modules())


@pytest.fixture
def model(case):
    return small_model(case[0], SHAPES[case[1]])


@pytest.fixture(params=[(name, kind) for name in MODELS for kind in SHAPES if attends(small_model(name))], ids="-".join)
def attending(request):
    """The networks with attention, for faults that only attention can have."""
    return small_model(request.param[0], SHAPES[request.param[1]], dropout=0.1)


def check_one_timestep_embedding(model):
    """With one block and equal rows in the timestep embedding, the order of the past is invisible to the last token."""
    tables = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    assert [table.num_embeddings for table in tables] == [model.shape.max_timesteps]
    batch = random_batch(model.shape, real=(4,))
    swapped = replace(each(batch, lambda values: values[:, [2, 0, 1, 3]]), timesteps=batch.timesteps)
    assert np.abs(checks.outputs(model, swapped)[:, -1] - checks.outputs(model, batch)[:, -1]).max() > 1e-3
    with torch.no_grad():
        tables[0].weight[:] = tables[0].weight[:1]
    np.testing.assert_allclose(checks.outputs(model, swapped)[:, -1], checks.outputs(model, batch)[:, -1], atol=1e-5)


def test_row_04_one_embedding_per_timestep():
    check_one_timestep_embedding(small_model("decision-transformer", layers=1))


def test_row_04_notices_the_fault(monkeypatch):
    plain = layers.CausalTransformer.forward

    def with_positions(self, tokens, *arguments, **options):
        places = torch.linspace(-1, 1, tokens.shape[1])[:, None] * torch.ones(tokens.shape[2]).cumsum(0).sin()
        return plain(self, tokens + places, *arguments, **options)

    monkeypatch.setattr(layers.CausalTransformer, "forward", with_positions)
    notices(check_one_timestep_embedding, small_model("decision-transformer", layers=1))


def spoil(monkeypatch, model, fault):
    """Put a fault into a network, whatever it is made of: `fault(predictions, batch)` becomes its output."""
    plain = type(model).forward

    def spoiled(self, batch, generator=None, *, last_only=False):
        predicted = plain(self, batch, generator, last_only=last_only)
        return fault(predicted, batch)[:, -predicted.shape[1] :]

    monkeypatch.setattr(type(model), "forward", spoiled)


def mask_attention(monkeypatch, fault):
    """Put another causal mask into every network with attention: `fault(mask)` in its place."""
    monkeypatch.setattr(layers, "unpadded_mask", layers.unpadded_mask.__wrapped__)  # not the one that was kept
    for module in (layers, trajectory_transformer):
        monkeypatch.setattr(module, "causal_mask", fault)


def test_row_05_padding_is_invisible(model):
    checks.check_padding_invisible(model)


def test_row_05_notices_the_fault(model, monkeypatch):
    spoil(monkeypatch, model, lambda predicted, batch: predicted + 0.1 * batch.returns_to_go.mean(1, keepdim=True))
    notices(checks.check_padding_invisible, model)


def test_row_05_notices_padded_keys(attending, monkeypatch):
    plain = layers.causal_mask
    mask_attention(monkeypatch, lambda mask: plain(torch.ones_like(mask)))
    notices(checks.check_padding_invisible, attending)


@pytest.mark.parametrize("name", [name for name in MODELS if small_config(name).context_length > 1])
def test_row_05_notices_padding_taken_for_real(name, monkeypatch):
    model = small_model(name)
    plain = type(model).forward

    def all_real(self, batch, generator=None, **options):
        return plain(self, replace(batch, mask=torch.ones_like(batch.mask)), generator, **options)

    monkeypatch.setattr(type(model), "forward", all_real)
    notices(checks.check_padding_invisible, model)


@pytest.fixture
def model_with_dropout(case):
    return small_model(case[0], SHAPES[case[1]], dropout=0.1)


def test_row_07_padded_rows_are_finite(model_with_dropout):
    checks.check_padding_finite(model_with_dropout)


def test_row_07_notices_the_fault(model_with_dropout, monkeypatch):
    spoil(
        monkeypatch, model_with_dropout,
        lambda predicted, batch: predicted.masked_fill(~batch.mask[..., None], float("nan")),
    )  # fmt: skip
    notices(checks.check_padding_finite, model_with_dropout)


def test_row_07_notices_queries_without_keys(attending, monkeypatch):
    def without_itself(mask):
        tokens = mask.shape[1]
        return (torch.ones(tokens, tokens, dtype=torch.bool).tril() & mask[:, None, :])[:, None]

    mask_attention(monkeypatch, without_itself)
    notices(checks.check_padding_finite, attending)


def test_row_08_loss_is_a_mean_over_real_timesteps(model):
    checks.check_loss_ignores_padding(model)


def test_row_08_notices_the_fault(model, monkeypatch):
    if type(model).loss is SequenceModel.loss:
        monkeypatch.setattr(losses, "masked_mean", lambda values, mask: (values * mask).mean())
    else:
        plain = type(model).loss
        monkeypatch.setattr(type(model), "loss", lambda self, batch: plain(self, batch) * batch.mask.float().mean())
    notices(checks.check_loss_ignores_padding, model)


def test_row_08_notices_padding_taken_for_real(model, monkeypatch):
    plain = type(model).loss

    def all_real(self, batch):
        newest = each(batch, lambda values: values[:, -4:])
        return plain(self, replace(newest, mask=torch.ones_like(newest.mask)))

    monkeypatch.setattr(type(model), "loss", all_real)
    notices(checks.check_loss_ignores_padding, model)


def test_row_14_the_placeholder_does_not_leak(model):
    checks.check_own_action_hidden(model)


def test_row_14_notices_the_fault(model, monkeypatch):
    def leaking(predicted, batch):
        actions = batch.actions.float().reshape(*batch.mask.shape, -1)
        return predicted + 0.1 * actions.sum(-1, keepdim=True)

    spoil(monkeypatch, model, leaking)
    notices(checks.check_own_action_hidden, model)


def test_row_14_notices_the_prediction_read_off_the_action(attending, monkeypatch):
    def from_actions(self, batch, generator, last_only=False):
        count = 3 * batch.mask.shape[1]  # the last action would be a token, too
        mask = batch.mask.repeat_interleave(3, dim=1)
        return self._tokens(batch, count), mask, slice(count - 1 if last_only else 2, None, 3)

    predict = trajectory_transformer.TrajectoryTransformer.logits

    def next_symbol(self, symbols, mask, generator=None, *, front=None, only=None):
        return predict(self, symbols, mask, generator, front=front, only=only + 1)

    monkeypatch.setattr(decision_transformer.DecisionTransformer, "_read", from_actions)
    monkeypatch.setattr(trajectory_transformer.TrajectoryTransformer, "logits", next_symbol)
    notices(checks.check_own_action_hidden, attending)


def test_the_future_is_invisible(model):
    checks.check_causal(model)


def test_the_future_is_invisible_notices_the_fault(model, monkeypatch):
    spoil(
        monkeypatch, model,
        lambda predicted, batch: predicted + 0.1 * batch.observations.sum(-1, keepdim=True).roll(-1, dims=1),
    )  # fmt: skip
    notices(checks.check_causal, model)


def test_the_future_is_invisible_notices_attention_ahead(attending, monkeypatch):
    mask_attention(monkeypatch, lambda mask: mask[:, None, None].expand(-1, 1, mask.shape[1], -1))
    notices(checks.check_causal, attending)
