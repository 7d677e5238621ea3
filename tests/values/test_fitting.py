from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from foretell.agents.networks import EnsembleMLP
from foretell.values import fitting
from foretell.values.fitting import TOGETHER, batches, fit

UPDATES, RATE = 40, 1e-2


def _network():
    return EnsembleMLP(1, (3, 8, 8, 2), torch.Generator().manual_seed(0))


def _drawn():
    generator = torch.Generator().manual_seed(1)
    for _ in range(UPDATES):
        inputs = torch.randn(16, 3, generator=generator)
        yield inputs, inputs[:, :2] * inputs[:, 1:]


def _loss(outputs, told):
    return (outputs[0] - told).square().mean()


def _slopes(outputs, told):
    return 2 * (outputs - told[None]) / told.numel()


def _by_autograd():
    """The same with autograd and PyTorch's Adam."""
    network = _network()
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
    for update, (inputs, told) in enumerate(_drawn()):
        optimizer.zero_grad()
        _loss(network(inputs), told).backward()
        optimizer.param_groups[0]["lr"] = RATE * 0.5 * (1 + math.cos(math.pi * update / UPDATES))
        optimizer.step()
    return network


def test_it_takes_the_steps_of_autograd_and_adam():
    network = _network()
    fit(network, _drawn(), _slopes, updates=UPDATES, learning_rate=RATE)
    for name, value in _by_autograd().state_dict().items():
        np.testing.assert_allclose(network.state_dict()[name], value.detach(), rtol=1e-4, atol=1e-6, err_msg=name)
        assert not torch.equal(value, _network().state_dict()[name]), name


def test_the_network_is_frozen_and_nothing_is_kept():
    network = _network()
    fit(network, _drawn(), _slopes, updates=UPDATES, learning_rate=RATE)
    assert [(one.requires_grad, one.grad) for one in network.parameters()] == 6 * [(False, None)]


@pytest.mark.parametrize("updates", [1, TOGETHER, TOGETHER + 1])
def test_batches_read_together_are_those_drawn(updates):
    numbers = torch.arange(1_000)
    found = list(batches(lambda update: np.arange(update, update + 3), lambda rows: (numbers[rows],), updates))
    assert [batch.tolist() for (batch,) in found] == [[n, n + 1, n + 2] for n in range(updates)]


@pytest.mark.parametrize(("most", "read_at_once"), [(1, 1), (5 * 3 * 40, 5), (1 << 20, TOGETHER)])
def test_of_wide_rows_fewer_are_read_at_once(monkeypatch, most, read_at_once):
    monkeypatch.setattr(fitting, "TOGETHER_BYTES", most)  # a batch is three rows of ten floats
    numbers, sizes = torch.arange(10_000, dtype=torch.float32).reshape(-1, 10), []

    def read(rows):
        sizes.append(len(rows) // 3)
        return (numbers[rows],)

    found = list(batches(lambda update: np.arange(update, update + 3), read, 200))
    assert max(sizes) == read_at_once
    for update, (batch,) in enumerate(found):
        assert torch.equal(batch, numbers[update : update + 3])
