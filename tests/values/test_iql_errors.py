"""What is done between the passes of implicit Q-learning in C gives the numbers of PyTorch's operators, bit for bit."""

from __future__ import annotations

import pytest
import torch

from foretell.agents.sac import Transitions
from foretell.values.iql_errors import TorchErrors, errors
from foretell.values.native.iql_errors import NativeErrors


def _batch(rows, generator):
    nothing = torch.zeros(rows, 1)
    return Transitions(
        observations=nothing, actions=nothing, rewards=torch.randn(rows, generator=generator),
        next_observations=nothing, terminations=torch.arange(rows) % 3 == 0,
    )  # fmt: skip


@pytest.mark.parametrize("rows", [1, 31, 512])
@pytest.mark.parametrize("members", [1, 2, 3])
def test_errors_gradients_and_targets(members, rows):
    generator = torch.Generator().manual_seed(rows)
    of_data, values = (
        torch.randn(members, rows, 1, generator=generator),
        torch.randn(1, 2 * rows, 1, generator=generator),
    )
    of_data[:, rows // 2] = values[0, rows // 2]  # no advantage
    of_data[-1, rows // 3] = torch.nan
    values[0, rows] = torch.inf  # behind a termination: PyTorch's 0 * inf
    batch = _batch(rows, generator)
    native, plain = errors(of_data, values, batch.rewards), TorchErrors()
    assert isinstance(native, NativeErrors), "no C compiler on this machine"
    found, expected = (one.of_values(of_data, values, batch, 0.7, 0.97) for one in (native, plain))
    for one, other in zip(found[1:], expected[1:], strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(found[0], expected[0], equal_nan=True)
    targets = torch.randn(rows, generator=generator)
    found, expected = (one.of_q(of_data, targets) for one in (native, plain))
    torch.testing.assert_close(found[1], expected[1], rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(found[0], expected[0], equal_nan=True)


def test_losses_of_worked_numbers():
    batch = Transitions(
        observations=torch.zeros(2, 1), actions=torch.zeros(2, 1), rewards=torch.tensor([1.0, 1.0]),
        next_observations=torch.zeros(2, 1), terminations=torch.tensor([False, True]),
    )  # fmt: skip
    of_data = torch.tensor([[[3.0], [1.0]], [[4.0], [0.0]]])  # the lowest are 3 and 0
    values = torch.tensor([[[1.0], [1.0], [10.0], [10.0]]])
    loss, gradient, targets, advantages = errors(of_data).of_values(of_data, values, batch, 0.75, 0.5)
    assert advantages.tolist() == [2.0, -1.0]
    assert float(loss) == (0.75 * 4 + 0.25 * 1) / 2
    assert gradient.flatten().tolist() == [-0.75 * 2, 0.25 * 1]
    assert targets.tolist() == [6.0, 1.0]
    loss, gradient = errors(of_data).of_q(of_data, targets)
    assert float(loss) == (9 + 0) / 2 + (4 + 1) / 2
    assert gradient[..., 0].tolist() == [[-3.0, 0.0], [-2.0, -1.0]]


def test_other_types_of_number_are_pytorchs():
    assert isinstance(errors(torch.ones(1, dtype=torch.float64)), TorchErrors)
