"""`ClippedAdamW` beside PyTorch's AdamW and clipping, bit for bit."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from conformance.checks import notices
from foretell.training import clipped_adamw
from foretell.training.checkpoints import load_optimizer_tensors, optimizer_tensors
from foretell.training.clipped_adamw import ClippedAdamW

DECAY, CLIP = 0.01, 0.25


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


def check_the_same_bits():
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
            assert torch.equal(our, their), update


def test_weights_are_those_of_pytorch_bit_for_bit():
    check_the_same_bits()


def test_coupled_decay_is_noticed(monkeypatch):
    right = clipped_adamw.adamw
    monkeypatch.setattr(clipped_adamw, "adamw", lambda *given, **more: right(*given, **{**more, "weight_decay": 0.0}))
    notices(check_the_same_bits)


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
