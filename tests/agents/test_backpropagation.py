from __future__ import annotations

import pytest
import torch

from foretell.agents import backpropagation
from foretell.agents.backpropagation import Passes, TorchPass, make_pass
from foretell.agents.native.building import library
from foretell.agents.native.perceptrons import NativePass
from foretell.agents.networks import EnsembleMLP


@pytest.fixture(params=["torch", "native", "native, few terms at a time"])
def network_and_pass(request, monkeypatch):
    """Two perceptrons 4-32-9-2 with passes for 7 rows, in every implementation."""
    if request.param == "torch":
        monkeypatch.setattr(backpropagation, "usable", lambda *_: None)
    else:
        assert library() is not None, "no C compiler on this machine"
    network = EnsembleMLP(2, (4, 32, 9, 2), torch.Generator().manual_seed(0))
    for parameter in network.parameters():
        parameter.grad = torch.full_like(parameter, 9.0)
    found = make_pass(network, 7, **({"deep": 3} if request.param == "native, few terms at a time" else {}))
    assert isinstance(found, TorchPass if request.param == "torch" else NativePass)
    return network, found


@pytest.fixture(params=[1, 2, 3, 16])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def _drawn(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("rows", [7, 3])
def test_passes_are_those_of_autograd(network_and_pass, rows, threads):
    """Also of more threads than there are members, columns or rows to share out."""
    network, passes = network_and_pass
    for seed in (1, 2):  # a second pass leaves nothing of the first
        inputs = _drawn(7, 4, seed=seed).requires_grad_()
        gradient = _drawn(2, rows, 2, seed=seed + 2)
        outputs = network(inputs)
        expected = torch.autograd.grad(
            (outputs[:, :rows] * gradient).sum(), [inputs, *network.parameters()]
        )  # fmt: skip
        with torch.no_grad():
            torch.testing.assert_close(passes.forward(inputs.detach()), outputs, rtol=1e-5, atol=1e-6)
            passes.backward(gradient)
            found = passes.gradient_of_inputs(gradient, 3)
        torch.testing.assert_close(found, expected[0][:rows, 3:], rtol=1e-5, atol=1e-6)
        for parameter, wanted in zip(network.parameters(), expected[1:]):
            torch.testing.assert_close(parameter.grad, wanted, rtol=1e-5, atol=1e-6)


def test_the_gradient_of_inputs_leaves_the_weights_gradients_alone(network_and_pass):
    network, passes = network_and_pass
    with torch.no_grad():
        passes.forward(_drawn(7, 4))
        assert passes.gradient_of_inputs(_drawn(2, 7, 2), 1).shape == (7, 3)
    assert all(bool((parameter.grad == 9.0).all()) for parameter in network.parameters())


def test_the_gradient_of_inputs_where_one_member_of_each_row_counts(network_and_pass, threads):
    """Rows without a gradient may be left out; NaN is one."""
    network, passes = network_and_pass
    inputs = _drawn(7, 4).requires_grad_()
    for chosen in ([0, 1, 1, 0, 1, 1, 1], [1] * 7, [0] * 7):
        gradient = torch.zeros(2, 7, 2)
        gradient[torch.tensor(chosen), torch.arange(7)] = _drawn(7, 2, seed=3)
        gradient[:, 5] = 0.0
        (expected,) = torch.autograd.grad((network(inputs) * gradient).sum(), [inputs])
        with torch.no_grad():
            passes.forward(inputs.detach())
            torch.testing.assert_close(passes.gradient_of_inputs(gradient, 0), expected, rtol=1e-5, atol=1e-6)
            gradient[0, 3, 1] = torch.nan
            assert passes.gradient_of_inputs(gradient, 2).isnan().all(1).tolist() == [n == 3 for n in range(7)]


@pytest.mark.parametrize("few", [1, 5, 6, 39])
def test_the_gradient_of_inputs_where_few_rows_of_a_member_count(few, threads):
    """Products of few rows are the BLAS's, of more our own; those of one thread have at least so many."""
    network, inputs = EnsembleMLP(2, (4, 32, 32, 1), torch.Generator().manual_seed(0)), _drawn(40, 4)
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    passes, gradient = make_pass(network, 40), torch.zeros(2, 40, 1)
    gradient[0, :few], gradient[1, few:] = _drawn(few, 1), _drawn(40 - few, 1)
    inputs.requires_grad_()
    (expected,) = torch.autograd.grad((network(inputs) * gradient).sum(), [inputs])
    with torch.no_grad():
        passes.forward(inputs.detach())
        torch.testing.assert_close(passes.gradient_of_inputs(gradient, 3), expected[:, 3:], rtol=1e-5, atol=1e-6)


def test_nan_is_passed_on(network_and_pass):
    network, passes = network_and_pass
    with torch.no_grad():
        inputs = _drawn(7, 4)
        inputs[2, 1] = torch.nan
        outputs = passes.forward(inputs)
        assert outputs[:, 2].isnan().all()
        assert outputs[:, [0, 1, 3, 4, 5, 6]].isfinite().all()
        passes.backward(torch.ones(2, 7, 2))
    assert bool(network.weights[0].grad[:, 1].isnan().any())


def test_numbers_of_another_type_go_through_pytorch():
    network = EnsembleMLP(1, (2, 3, 1), torch.Generator().manual_seed(0)).double()
    assert isinstance(make_pass(network, 2), TorchPass)


@pytest.mark.parametrize("hidden", [(16, 16, 16), (16, 9)])
def test_a_network_without_gradients_may_share_memory_with_one_that_has_them(hidden, threads):
    """Its pass between another's forward and backward changes neither."""
    assert library() is not None, "no C compiler on this machine"
    learned, target = (EnsembleMLP(2, (4, *hidden, 1), torch.Generator().manual_seed(seed)) for seed in (0, 1))
    for parameter in learned.parameters():
        parameter.grad = torch.zeros_like(parameter)
    target.requires_grad_(False)
    shared, inputs, gradient = Passes(), _drawn(7, 4), _drawn(2, 7, 1)
    outputs = learned(inputs)
    expected = torch.autograd.grad((outputs * gradient).sum(), list(learned.parameters()))
    with torch.no_grad():
        found = shared.of(learned, 7).forward(inputs)
        torch.testing.assert_close(shared.of(target, 7).forward(inputs), target(inputs), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(found, outputs, rtol=1e-5, atol=1e-6)
        shared.of(learned, 7).backward(gradient)
    for parameter, wanted in zip(learned.parameters(), expected):
        torch.testing.assert_close(parameter.grad, wanted, rtol=1e-5, atol=1e-6)
