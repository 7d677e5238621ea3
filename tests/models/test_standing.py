"""`Standing` notices whatever may change of a network but the numbers of its parameters."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from conformance.checks import notices
from foretell.models import standing
from foretell.models.standing import Standing


class _Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(2, 3)
        self.rest = nn.ModuleList([nn.LayerNorm(3), nn.Linear(3, 1, bias=False)])
        self.register_buffer("table", torch.zeros(4))


class _Other(nn.Linear): ...


def _put(owner, name, value):
    setattr(owner, name, value)


CHANGES = {
    "a module in the place of another": lambda n: _put(n, "first", nn.Linear(2, 3)),
    "a part of a part": lambda n: n.rest.__setitem__(1, nn.Linear(3, 1, bias=False)),
    "a module more": lambda n: n.add_module("more", nn.Identity()),
    "a module less": lambda n: _put(n, "first", None),
    "another type": lambda n: _put(n.first, "__class__", _Other),
    "a parameter in the place of another": lambda n: _put(n.first, "bias", nn.Parameter(torch.zeros(3))),
    "a parameter more": lambda n: n.rest[1].register_parameter("bias", nn.Parameter(torch.zeros(1))),
    "numbers that lie elsewhere": lambda n: _put(n.first.weight, "data", n.first.weight.data.clone()),
    "other numbers of another type": lambda n: n.double(),
    "a buffer that lies elsewhere": lambda n: _put(n, "table", torch.zeros(4)),
    "what learns no longer": lambda n: n.first.weight.requires_grad_(False),
    "who looks on at a call": lambda n: n.rest[0].register_forward_hook(lambda *_: None),
    "who looks on before one": lambda n: n.register_forward_pre_hook(lambda *_: None),
    "who looks on at going back": lambda n: n.first.register_full_backward_hook(lambda *_: None),
    "who looks on before that": lambda n: n.first.register_full_backward_pre_hook(lambda *_: None),
    "who looks on at a gradient": lambda n: n.first.bias.register_hook(lambda *_: None),
    "who waits for a gradient": lambda n: n.first.bias.register_post_accumulate_grad_hook(lambda *_: None),
}


def check_change(change):
    network = _Network()
    found = Standing(network)
    assert found.stands()
    change(network)
    assert not found.stands()


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_changes_are_noticed(change):
    check_change(change)


def test_learning_is_no_change():
    network = _Network()
    found = Standing(network)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1.0)
            parameter.grad = torch.ones_like(parameter)
    network.load_state_dict({name: torch.zeros_like(one) for name, one in network.state_dict().items()})
    assert found.stands()


@pytest.mark.parametrize(
    ("change", "blind"), [("numbers that lie elsewhere", "_places"), ("what learns no longer", "_learning")]
)
def test_what_is_not_looked_at_is_not_noticed(change, blind, monkeypatch):
    monkeypatch.setattr(Standing, blind, lambda self: [])
    notices(check_change, CHANGES[change])


def test_hooks_of_parameters_alone_need_the_look_at_them(monkeypatch):
    monkeypatch.setattr(standing, "watched", lambda parameter: False)
    notices(check_change, CHANGES["who looks on at a gradient"])
