"""`ClippedAdamW` beside PyTorch's AdamW and clipping, bit for bit."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from conformance.checks import notices
from foretell.agents.untraced import load_optimizer_tensors, optimizer_tensors
from foretell.training import clipped_adamw
from foretell.training.clipped_adamw import ClippedAdamW
from foretell.training.native import adamw as native_adamw
from foretell.training.native import gradients as native_gradients
from foretell.training.native import loading

DECAY, CLIP = 0.01, 0.25
AVX2 = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
"""The kernel of PyTorch that C gives the bits of."""


@pytest.fixture(autouse=True, params=["native", "torch"])
def operators(request, monkeypatch):
    if request.param == "native":
        assert loading.library(), "no C compiler on this machine"
    else:
        monkeypatch.setattr(native_gradients, "clip", lambda *_: False)
        monkeypatch.setattr(native_adamw, "step", lambda *_, **__: False)
        monkeypatch.setattr(native_adamw, "norm", lambda *_: None)
    return request.param


def _network():
    network = nn.Sequential(nn.Linear(5, 33), nn.Tanh(), nn.Linear(33, 2))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(generator=generator)
    return network


def _gradients(network, update, size=1.0):
    generator = torch.Generator().manual_seed(update)
    for parameter in network.parameters():
        parameter.grad = size * torch.randn(parameter.shape, generator=generator)


def _made(network):
    return ClippedAdamW(network.parameters(), learning_rate=1e-2, weight_decay=DECAY)


def _advance(network, optimizer, update, size=1.0):
    optimizer.let_go()
    assert all(parameter.grad is None for parameter in network.parameters())
    _gradients(network, update, size)
    optimizer.advance(optimizer.norm(), CLIP, 1e-2 / (1 + update))


def check_the_same_bits(rounding=0.0):
    ours, theirs = _network(), _network()
    optimizer = _made(ours)
    reference = torch.optim.AdamW(theirs.parameters(), lr=1e-2, weight_decay=DECAY, fused=True)
    for update in range(6):
        size = 1.0 if update % 2 else 1e-3  # clipped, and below what is clipped
        _advance(ours, optimizer, update, size)
        _gradients(theirs, update, size)
        nn.utils.clip_grad_norm_(theirs.parameters(), CLIP)
        reference.param_groups[0]["lr"] = 1e-2 / (1 + update)
        reference.step()
        for our, their in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(our, their, rtol=rounding, atol=rounding)


def test_weights_are_those_of_pytorch_bit_for_bit(operators):
    check_the_same_bits(0.0 if AVX2 or operators == "torch" else 1e-6)


def test_coupled_decay_is_noticed(monkeypatch, operators):
    where, name, decay = (
        (clipped_adamw, "adamw", "weight_decay") if operators == "torch" else (native_adamw, "step", "decay")
    )
    right = getattr(where, name)
    monkeypatch.setattr(where, name, lambda *given, **more: right(*given, **{**more, decay: 0.0}))
    notices(lambda: check_the_same_bits(1e-6))


@pytest.mark.parametrize("size", [1, 7, 8, 9, 65, 3001])
def test_moments_are_those_of_pytorch_bit_for_bit(size, operators):
    """Of every size: PyTorch's kernel rounds the last numbers of a tensor in another way."""
    generator = torch.Generator().manual_seed(size)
    ours, theirs = (nn.ParameterList([torch.linspace(-1, 1, size)]) for _ in range(2))
    optimizer = _made(ours)
    reference = torch.optim.AdamW(theirs.parameters(), lr=1e-2, weight_decay=DECAY, fused=True)
    for _ in range(20):
        ours[0].grad = theirs[0].grad = torch.randn(size, generator=generator)
        optimizer.advance(torch.tensor(0.0), CLIP, 1e-2)
        reference.step()
    for name, expected in reference.state[theirs[0]].items():
        rounding = 0.0 if AVX2 or operators == "torch" else 1e-6
        torch.testing.assert_close(optimizer.state[ours[0]][name], expected, rtol=rounding, atol=rounding)


def test_moments_that_were_loaded_are_those_that_are_used():
    network = _network()
    optimizer = _made(network)
    for update in range(3):
        _advance(network, optimizer, update)
    kept = copy.deepcopy(network), {name: value.clone() for name, value in optimizer_tensors("o", optimizer).items()}
    _advance(network, optimizer, 3)
    other = kept[0]
    restored = _made(other)
    load_optimizer_tensors("o", restored, kept[1])
    _advance(other, restored, 3)
    for one, two in zip(network.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("update", [0, 1, 4])
def test_a_parameter_without_a_gradient_stays(update):
    network = _network()
    optimizer = _made(network)
    for earlier in range(update):
        _advance(network, optimizer, earlier)
    before = [parameter.clone() for parameter in network.parameters()]
    _gradients(network, update)
    network[0].weight.grad = None
    optimizer.advance(optimizer.norm(), CLIP, 1e-2)
    changed = [not torch.equal(old, new) for old, new in zip(before, network.parameters(), strict=True)]
    assert changed == [False, True, True, True]


def test_a_copy_goes_on_with_its_own_weights():
    network = _network()
    optimizer = _made(network)
    for update in range(3):
        _advance(network, optimizer, update)
    other, follower = copy.deepcopy((network, optimizer))
    _advance(network, optimizer, 3)
    _advance(other, follower, 3)
    for one, same in zip(network.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, same)


def test_who_looks_on_at_a_step_is_called():
    network, seen = _network(), []
    optimizer = _made(network)
    _advance(network, optimizer, 0)
    optimizer.register_step_post_hook(lambda *_: seen.append(1))
    _advance(network, optimizer, 1)
    assert seen == [1]


def test_no_gradients_have_no_norm():
    assert float(_made(_network()).norm()) == 0.0


@pytest.mark.parametrize("sizes", [range(1, 8), range(8, 40), [*range(1021, 1030)] * 4, [4096, 12_345, 70_001]])
def test_norms_are_the_operators(sizes):
    """To the last bit, of tensors of every size and of any number of them.

    Elsewhere the operators may sum in float32: there it is held against theirs of float64.
    """
    generator = torch.Generator().manual_seed(3)
    parameters = [nn.Parameter(torch.zeros(size)) for size in sizes]
    optimizer = ClippedAdamW(parameters, learning_rate=1e-2, weight_decay=DECAY)
    for _ in range(20):
        for parameter in parameters:
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        gradients = [parameter.grad if AVX2 else parameter.grad.double() for parameter in parameters]
        expected = nn.utils.get_total_norm(gradients).float()
        torch.testing.assert_close(optimizer.norm(), expected, rtol=0.0 if AVX2 else 1e-6, atol=0.0)


def test_a_norm_of_what_is_not_finite_is_not_finite():
    parameters = [nn.Parameter(torch.zeros(size)) for size in (3, 9, 20)]
    optimizer = ClippedAdamW(parameters, learning_rate=1e-2, weight_decay=DECAY)
    for at, value in ((2, torch.nan), (8, torch.inf), (19, torch.nan), (0, 1e30)):
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter)
        next(one for one in parameters if len(one) > at).grad[at] = value
        assert not torch.isfinite(optimizer.norm())


@pytest.mark.parametrize("most", [0.25, 0.3, 1.0])
def test_what_gradients_are_scaled_by_is_what_the_operators_say(operators, most):
    """To the last bit, over many norms: the factor is rounded three times."""
    optimizer = _made(network := _network())
    for norm in torch.linspace(1e-3, 9.0, 500):
        _gradients(network, 0)
        expected = [one.grad * (most / (norm + 1e-6)).clamp(max=1.0) for one in network.parameters()]
        for found, gradient in zip(optimizer.clip(norm, most), expected, strict=True):
            assert torch.equal(found, gradient)
