"""Networks that PyTorch records, to run elsewhere: what was traced or exported acts as the network does."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch
from torch import nn

from foretell.sequences.batch import SequenceBatch
from reference.making import CHOICES, VECTOR, random_batch, small_model

ACTING = ("decision-transformer", "lstm", "mlp")
"""Networks whose forward pass is the action."""


class _Flat(nn.Module):
    """A network as others call it: tensors in, tensor out."""

    def __init__(self, model, names):
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *tensors):
        return self.model(SequenceBatch(**dict(zip(self.names, tensors, strict=True))))


def _flat(name, shape=VECTOR):
    model = small_model(name, shape).eval()
    batch = random_batch(shape, real=(4, 4, 4, 4))
    names = [field.name for field in fields(SequenceBatch) if getattr(batch, field.name) is not None]
    return _Flat(model, names)


def _inputs(flat, real, seed, shape=VECTOR):
    batch = random_batch(shape, real=real, seed=seed)
    return tuple(getattr(batch, name) for name in flat.names)


def _check(recorded, flat, shape=VECTOR):
    for real, seed in (((4, 4, 4, 4), 1), ((4, 3, 2, 1), 2), ((1, 1, 1, 1), 3)):
        given = _inputs(flat, real, seed, shape)
        with torch.no_grad():
            found, expected = recorded(*given), flat(*given)
        assert (found - expected).abs().max() < 1e-5


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("shape", [VECTOR, CHOICES])
@pytest.mark.parametrize("name", ACTING)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_what_was_traced_acts_on_other_windows_as_the_network_does(name, shape, grad):
    flat = _flat(name, shape)
    with torch.set_grad_enabled(grad):
        traced = torch.jit.trace(flat, _inputs(flat, (4, 4, 4, 4), 0, shape), check_trace=False)
    _check(traced, flat, shape)


@pytest.mark.parametrize("name", ACTING)
def test_what_was_exported_acts_as_the_network_does(name):
    flat = _flat(name)
    exported = torch.export.export(flat, _inputs(flat, (4, 4, 4, 4), 0))
    _check(exported.module(), flat)
