"""What is done between passes in C gives the numbers of PyTorch's operators, bit for bit, for NaN and ties too."""

from __future__ import annotations

import pytest
import torch

from foretell.agents.native.soft_values import NativeSoftValues
from foretell.agents.native.squashing import NativeSquashing
from foretell.agents.soft_values import TorchSoftValues, soft_values
from foretell.agents.squashing import TorchSquashing, squashing

ROWS = [1, 31, 256]


@pytest.fixture(autouse=True)
def one_thread():
    """More threads may share out a tanh, of which the ends are computed in another way."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _drawn(*shape, scale=1.0, seed=0):
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _assert_same_bits(found, expected):
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


def _squashings(outputs, noise):
    found = squashing(outputs, noise)
    assert isinstance(found, NativeSquashing), "no C compiler on this machine"
    return found, TorchSquashing()


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("action_dim", [1, 3, 8])
def test_squashing_and_its_gradient(rows, action_dim):
    outputs, noise = _drawn(1, rows, 2 * action_dim, scale=3.0), _drawn(rows, action_dim, seed=1)
    outputs[0, 0, action_dim], outputs[0, -1, -1] = 2.5, -21.0  # out of the range of log standard deviations
    outputs[0, rows // 2, 0] = torch.nan
    native, plain = _squashings(outputs, noise)
    found, expected = native.sample(outputs, noise), plain.sample(outputs, noise)
    _assert_same_bits(vars(found).values(), vars(expected).values())
    some, temperature = max(1, rows // 2), torch.tensor(0.3)
    of_actions = _drawn(some, action_dim, seed=2)
    gradients = [one.gradient(outputs, found, of_actions, temperature) for one in (native, plain)]
    _assert_same_bits(gradients[:1], gradients[1:])
    assert gradients[0].shape == (1, some, 2 * action_dim)
    assert float(gradients[0][0, 0, action_dim]) == 0.0


def _values(members, rows):
    values = _drawn(members, rows, 1, scale=100.0)
    values[:, rows // 2] = 7.0  # equal: the first is taken
    values[-1, rows // 3] = torch.nan
    return values


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("members", [1, 2, 3])
def test_targets_errors_and_soft_values(members, rows):
    values, log_probs, rewards = _values(members, rows), _drawn(rows, seed=1), _drawn(rows, seed=2)
    terminations, temperature = torch.arange(rows) % 3 == 0, torch.tensor(0.17)
    native, plain = soft_values(rewards), TorchSoftValues()
    assert isinstance(native, NativeSoftValues), "no C compiler on this machine"
    for given in (log_probs, None):
        options = rewards, terminations, values, given, temperature, 0.97
        _assert_same_bits([native.targets(*options)], [plain.targets(*options)])
    (loss, gradient), (expected_loss, expected) = (one.squared_error(values, rewards) for one in (native, plain))
    _assert_same_bits([gradient], [expected])
    torch.testing.assert_close(loss, expected_loss, equal_nan=True)
    found = [one.lowest(values, log_probs, temperature) for one in (native, plain)]
    _assert_same_bits(found[0][::2], found[1][::2])
    torch.testing.assert_close(found[0][1], found[1][1], equal_nan=True)


def test_losses_of_worked_numbers():
    compute = soft_values(torch.zeros(2))
    loss, gradient = compute.squared_error(torch.tensor([[[1.0], [3.0]], [[0.0], [2.0]]]), torch.tensor([0.0, 1.0]))
    assert float(loss) == 0.5 * (1 + 4) / 2 + 0.5 * (0 + 1) / 2
    assert gradient[:, :, 0].tolist() == [[0.5, 1.0], [0.0, 0.5]]
    values = torch.tensor([[[1.0], [4.0]], [[2.0], [3.0]]])
    soft, loss, _ = compute.lowest(values, torch.tensor([2.0, -2.0]), torch.tensor(0.5))
    assert soft.tolist() == [0.0, 4.0]
    assert float(loss) == -2.0


def test_a_row_that_is_nan_in_the_first_member_stays_with_it():
    values = torch.tensor([[[torch.nan], [3.0]], [[1.0], [2.0]]])
    found, _, gradient = soft_values(values).lowest(values, torch.zeros(2), torch.tensor(1.0))
    assert found.isnan().tolist() == [True, False]
    assert gradient[:, :, 0].tolist() == [[-0.5, 0.0], [0.0, -0.5]]


def test_other_types_of_number_are_pytorchs():
    one = torch.ones(1, dtype=torch.float64)
    assert isinstance(soft_values(one), TorchSoftValues)
    assert isinstance(squashing(one, one), TorchSquashing)
