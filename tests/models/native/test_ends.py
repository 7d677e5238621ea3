"""The ends of a Decision Transformer in C beside PyTorch's operators, and where the C is not to be used."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from conformance.checks import notices
from foretell.models import decision_transformer
from foretell.models.decision_transformer import DecisionTransformer
from foretell.models.native import ends, whole
from reference.making import VECTOR, padded_batch, small_config

CONFIG = small_config("decision-transformer", width=24, layers=1, heads=1)
CASES = {
    "learned timesteps": CONFIG,
    "sinusoidal timesteps": replace(CONFIG, timestep_embedding="sinusoidal"),
    "unbounded actions": replace(CONFIG, action_head="linear"),
    "absolute errors": replace(CONFIG, action_loss="absolute"),
    "one timestep": replace(CONFIG, context_length=1),
}


def _model(config):
    model = DecisionTransformer(config, VECTOR, torch.Generator().manual_seed(0))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return model


def _measured(model, batch, factor=1.0):
    model.zero_grad()
    loss = model.loss(batch)
    (factor * loss).backward()
    with torch.no_grad():
        acting = [model(batch), model(batch, last_only=True)]
    return [loss.detach(), *acting, *(parameter.grad for parameter in model.parameters())]


def _in_operators(monkeypatch):
    for question in ("fits", "readable"):
        monkeypatch.setattr(decision_transformer, question, lambda *_: False)


def check_equal_to_operators(config, monkeypatch):
    model, batch = _model(config), padded_batch(config.context_length)
    ours = _measured(model, batch)
    _in_operators(monkeypatch)
    theirs = _measured(model, batch)
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our, their, rtol=1e-5, atol=1e-5 * float(their.abs().max()))


@pytest.mark.parametrize("config", CASES.values(), ids=CASES)
def test_loss_and_gradients_are_those_of_pytorch(config, threads, monkeypatch):
    check_equal_to_operators(config, monkeypatch)


@pytest.mark.parametrize("part", ["embedded", "imitation_loss_of"])
def test_another_function_is_noticed(part, monkeypatch):
    right = getattr(decision_transformer, part)
    monkeypatch.setattr(decision_transformer, part, lambda *given, **more: 1.001 * right(*given, **more))
    notices(check_equal_to_operators, CONFIG, monkeypatch)


def test_gradients_grow_with_what_is_made_of_the_loss():
    model, batch = _model(CONFIG), padded_batch(CONFIG.context_length)
    once, twice = _measured(model, batch), _measured(model, batch, 2.0)
    for one, two in zip(once[3:], twice[3:], strict=True):
        torch.testing.assert_close(2 * one, two)


def test_what_padding_holds_is_never_read():
    model, batch = _model(CONFIG), padded_batch(CONFIG.context_length)
    filled = replace(batch, actions=torch.where(batch.mask[..., None], batch.actions, 50.0))
    assert not torch.equal(batch.actions, filled.actions)
    for one, other in zip(_measured(model, batch)[3:], _measured(model, filled)[3:], strict=True):
        torch.testing.assert_close(one, other)


def test_a_batch_without_timesteps_has_no_mean():
    model, batch = _model(CONFIG), padded_batch(CONFIG.context_length)
    assert model.loss(replace(batch, mask=torch.zeros_like(batch.mask))).isnan()


def test_not_a_number_stays_one():
    model, batch = _model(CONFIG), padded_batch(CONFIG.context_length)
    with torch.no_grad():
        model.embed_observation.weight[3, 1] = float("nan")
    loss, *_, gradient = _measured(model, batch)
    assert loss.isnan()
    assert gradient.isnan().all()


@pytest.mark.parametrize("timestep", [-1, VECTOR.max_timesteps])
def test_timesteps_without_an_embedding_are_refused(timestep):
    model, batch = _model(CONFIG), padded_batch(CONFIG.context_length)
    batch.timesteps[0, -1] = timestep
    with pytest.raises(IndexError):
        model.loss(batch)


@pytest.mark.parametrize("part", ["embed_action", "embed_timestep", "embed_norm", "transformer", "action_head"])
def test_whoever_looks_on_sees_the_module_called(part):
    model, batch, seen = _model(CONFIG), padded_batch(CONFIG.context_length), []
    expected = model.loss(batch)
    with getattr(model, part).register_forward_hook(lambda *_: seen.append(part)):
        torch.testing.assert_close(model.loss(batch), expected)
    assert seen == [part]


def test_double_precision_autocast_and_discrete_actions_take_pytorchs_operators():
    batch = padded_batch(CONFIG.context_length)
    assert ends.usable(batch.actions)
    assert not ends.usable(batch.actions.double())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not ends.usable(batch.actions)
    shape = replace(VECTOR, discrete=True)
    discrete = DecisionTransformer(CONFIG, shape, torch.Generator().manual_seed(0))
    chosen = replace(batch, actions=(batch.actions[..., 0] > 0).long())
    assert discrete.loss(chosen).isfinite()


def _written(model, batch, seed=None):
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    model.zero_grad()
    loss = model.write_gradients(batch, generator)
    assert loss is not None
    return [loss, *(parameter.grad.clone() for parameter in model.parameters())]


def _of_the_graph(model, batch, seed=None):
    model.zero_grad()
    loss = model.loss(batch, None if seed is None else torch.Generator().manual_seed(seed))
    loss.backward()
    return [loss.detach(), *(parameter.grad.clone() for parameter in model.parameters())]


def check_the_numbers_of_the_graph(config):
    model, batch = _model(config), padded_batch(config.context_length)
    for seed in (None, 5):
        for one, other in zip(_written(model, batch, seed), _of_the_graph(model, batch, seed), strict=True):
            assert torch.equal(one, other), seed


@pytest.mark.parametrize("config", [*CASES.values(), replace(CONFIG, dropout=0.3)], ids=[*CASES, "dropout"])
def test_gradients_without_a_graph_are_those_of_the_graph_bit_for_bit(config, threads):
    check_the_numbers_of_the_graph(config)


def test_gradients_of_other_units_than_were_dropped_are_noticed(monkeypatch):
    monkeypatch.setattr(whole, "kept_units", lambda inputs, *_: torch.ones_like(inputs))
    notices(check_the_numbers_of_the_graph, replace(CONFIG, dropout=0.3))


def test_gradients_replace_those_that_lay_there():
    model, first, second = _model(CONFIG), padded_batch(4), padded_batch(4, windows=3)
    expected = _written(_model(CONFIG), second)
    _written(model, first)
    for one, other in zip(_written(model, second), expected, strict=True):
        assert torch.equal(one, other)


def test_a_network_that_needs_a_graph_says_so():
    batch = padded_batch(CONFIG.context_length)
    assert _model(CONFIG).double().write_gradients(batch) is None
    frozen = _model(CONFIG)
    frozen.embed_norm.weight.requires_grad_(False)
    assert frozen.write_gradients(batch) is None
    assert all(parameter.grad is None for parameter in frozen.parameters())
