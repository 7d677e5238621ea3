"""`ClippedMuon` beside a slow reference in float64, and beside PyTorch's own Muon."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from conformance.checks import notices
from foretell.agents.untraced import load_optimizer_tensors, optimizer_tensors
from foretell.models.native import building
from foretell.training import clipped_muon
from foretell.training.clipped_adamw import ClippedAdamW
from foretell.training.clipped_muon import ClippedMuon, orthogonalized, steps_along
from foretell.training.native import adamw as native_adamw
from foretell.training.native import gradients as native_gradients
from foretell.training.native import loading
from foretell.training.native import muon as native_muon
from foretell.training.native.tables import Table

DECAY, CLIP, RATE, MATRIX_RATE = 0.1, 0.25, 1e-2, 3e-2


in_c = native_muon.step


@pytest.fixture(autouse=True, params=["native", "torch"])
def operators(request, monkeypatch):
    if request.param == "native":
        assert all([building.native(), loading.library()]), "no C compiler on this machine"
    else:
        monkeypatch.setattr(native_muon, "step", lambda *_, **__: False)
        monkeypatch.setattr(native_gradients, "norm", lambda *_: None)
        monkeypatch.setattr(native_gradients, "clip", lambda *_: False)
        monkeypatch.setattr(native_adamw, "step", lambda *_, **__: False)
    return request.param


class _Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(5, 8)
        self.stacked, self.wide, self.tall = nn.Linear(8, 24), nn.Linear(24, 8), nn.Linear(8, 24)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.normal_(generator=generator)

    @property
    def matrices(self):
        return [(self.stacked.weight, 3), (self.wide.weight, 1), (self.tall.weight, 1)]


def _gradients(network, update, size=1.0):
    generator = torch.Generator().manual_seed(update)
    for parameter in network.parameters():
        parameter.grad = size * torch.randn(parameter.shape, generator=generator)


def _made(network):
    return ClippedMuon(
        network.parameters(), network.matrices, learning_rate=RATE, matrix_learning_rate=MATRIX_RATE,
        weight_decay=DECAY,
    )  # fmt: skip


def _advance(network, optimizer, update, size=1.0):
    optimizer.let_go()
    _gradients(network, update, size)
    optimizer.advance(optimizer.norm(), CLIP, RATE / (1 + update))


class _Slow:
    """One matrix after the other, in float64, as the source writes it."""

    def __init__(self, weight):
        self.weight, self.momentum = weight.double().numpy().copy(), np.zeros(weight.shape)

    def step(self, gradient, learning_rate):
        self.momentum = 0.95 * self.momentum + 0.05 * gradient
        found = 0.05 * gradient + 0.95 * self.momentum
        rows, columns = found.shape
        found = found.T if rows > columns else found
        found = found / np.linalg.norm(found)
        for _ in range(5):
            square = found @ found.T
            found = 3.4445 * found + (-4.7750 * square + 2.0315 * square @ square) @ found
        found = found.T if rows > columns else found
        self.weight *= 1 - learning_rate * DECAY
        self.weight -= learning_rate * max(1, rows / columns) ** 0.5 * found


def check_the_reference():
    network = _Network()
    optimizer = _made(network)
    slow = [[_Slow(part) for part in one.detach().chunk(count)] for one, count in network.matrices]
    for update in range(6):
        size = 1.0 if update % 2 else 1e-3  # clipped, and below what is clipped
        _gradients(network, update, size)
        norm = np.sqrt(sum(float(one.grad.double().square().sum()) for one in network.parameters()))
        scale = min(1.0, CLIP / norm)
        for (one, count), parts in zip(network.matrices, slow, strict=True):
            for gradient, part in zip(one.grad.double().chunk(count), parts, strict=True):
                part.step(scale * gradient.numpy(), MATRIX_RATE / (1 + update))
        _advance(network, optimizer, update, size)
        for (one, _), parts in zip(network.matrices, slow, strict=True):
            expected = np.concatenate([part.weight for part in parts])
            np.testing.assert_allclose(one.detach().numpy(), expected, rtol=0.0, atol=1e-5)


def test_matrices_are_those_of_the_reference():
    check_the_reference()


@pytest.mark.parametrize(("name", "wrong"), [("MOMENTUM", 0.9), ("ITERATIONS", 4), ("COEFFICIENTS", (2.0, -1.5, 0.5))])
def test_another_muon_is_noticed(name, wrong, monkeypatch):
    monkeypatch.setattr(clipped_muon, name, wrong)
    notices(check_the_reference)


def test_three_matrices_taken_for_one_are_noticed(operators, monkeypatch):
    right, here = steps_along, native_muon.step

    def wrong(weights, gradients, momenta, stored, **settings):
        return here(weights, gradients, momenta, [1 for _ in stored], **settings)

    monkeypatch.setattr(clipped_muon, "steps_along", lambda found, stored: right(found, [1 for _ in stored]))
    monkeypatch.setattr(native_muon, "step", wrong)
    notices(check_the_reference)


def test_it_is_the_library_that_steps_where_there_is_one(operators, monkeypatch):
    seen = []
    monkeypatch.setattr(clipped_muon, "steps_along", lambda *given: seen.append(1) or steps_along(*given))
    _advance(network := _Network(), _made(network), 0)
    assert bool(seen) == (operators == "torch")


@pytest.mark.parametrize("shape", [(64, 64), (64, 256), (256, 64), (1, 5), (5, 1), (3, 3)])
def test_library_and_operators_agree(shape):
    def moved(native):
        generator = torch.Generator().manual_seed(1)
        tensors = [torch.randn(2 * shape[0], shape[1], generator=generator) for _ in range(3)]
        weight, gradient, momentum = tensors
        if native:
            in_c(*[Table([one]) for one in tensors], [2], momentum=0.95, rate=0.1, decay=0.5,
                 coefficients=clipped_muon.COEFFICIENTS, iterations=5)  # fmt: skip
            return weight, momentum
        momentum.lerp_(gradient, 0.05)
        (step,) = steps_along([gradient.lerp(momentum, 0.95)], [2])
        return weight.mul_(0.95).sub_(0.1 * step), momentum

    for one, other in zip(moved(native=True), moved(native=False), strict=True):
        torch.testing.assert_close(one, other, rtol=0.0, atol=1e-5)


def test_the_step_is_the_same_on_any_number_of_threads():
    network, before = _Network(), torch.get_num_threads()
    matrices = [one for one, _ in network.matrices]
    found = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            weights, gradients, momenta = ([one.detach().clone() for one in matrices] for _ in range(3))
            in_c(*map(Table, (weights, gradients, momenta)), [3, 1, 1], momentum=0.95, rate=0.1, decay=0.5,
                 coefficients=clipped_muon.COEFFICIENTS, iterations=5)  # fmt: skip
            found.append(torch.cat([one.flatten() for one in weights]))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_steps_are_those_of_pytorch_up_to_its_bfloat16():
    network = _Network()
    ours = [network.wide.weight, network.tall.weight]
    theirs = [nn.Parameter(one.detach().clone()) for one in ours]
    optimizer = _made(network)
    reference = torch.optim.Muon(theirs, lr=MATRIX_RATE, weight_decay=DECAY, momentum=0.95, adjust_lr_fn="original")
    before = [one.detach().clone() for one in ours]
    for update in range(3):
        _gradients(network, update)
        for one, other in zip(ours, theirs, strict=True):
            other.grad = one.grad.clone()
        optimizer.step()
        reference.step()
    for old, one, other in zip(before, ours, theirs, strict=True):
        step, expected = (one - old).flatten(), (other - old).flatten()
        assert (step - expected).norm() < 0.02 * expected.norm()


def test_all_else_moves_as_by_adamw_bit_for_bit():
    network, other = _Network(), _Network()
    optimizer = _made(network)
    reference = ClippedAdamW(other.parameters(), learning_rate=RATE, weight_decay=DECAY)
    for update in range(4):
        _gradients(network, update)
        _gradients(other, update)
        norm = reference.norm()  # its last bit depends on the order of the parameters
        for one in (optimizer, reference):
            one.advance(norm, CLIP, RATE / (1 + update))
    moved = {id(one) for one, _ in network.matrices}
    for one, two in zip(network.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two) == (id(one) not in moved)


@pytest.mark.parametrize("broken", [None, torch.inf, torch.nan])
def test_the_norm_is_that_of_all_gradients_together(broken):
    network = _Network()
    _gradients(network, 0)
    if broken is not None:
        network.tall.weight.grad[3, 4] = broken
    found = _made(network).norm()
    expected = torch.cat([one.grad.flatten() for one in network.parameters()]).norm()
    torch.testing.assert_close(found, expected, equal_nan=True)
    assert found.dtype == torch.float32
    for one in network.parameters():
        one.grad = None
    assert float(_made(network).norm()) == 0.0


def test_singular_values_come_near_1():
    matrices = torch.randn(4, 16, 64, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalized(matrices))
    assert values.min() > 0.6
    assert values.max() < 1.3
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    cosine = (orthogonalized(matrices) * (u @ v)).sum((1, 2)) / orthogonalized(matrices).norm(dim=(1, 2)) / 4
    assert cosine.min() > 0.98


def test_no_gradient_is_no_step():
    assert torch.equal(steps_along([torch.zeros(6, 3)], [2])[0], torch.zeros(6, 3))


def test_what_was_loaded_is_what_is_used():
    network = _Network()
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


def test_numbers_of_steps_are_loaded_to_where_the_weights_lie():
    """The kernels of a GPU read them there."""
    network = _Network()
    optimizer = _made(network)
    _advance(network, optimizer, 0)
    elsewhere = _Network().to("meta")
    restored = _made(elsewhere)
    load_optimizer_tensors("o", restored, optimizer_tensors("o", optimizer))
    states = [restored.state[one] for one in elsewhere.parameters()]
    assert {value.device.type for state in states for value in state.values()} == {"meta"}
    assert sum("step" in state for state in states) > 0
    assert {state["step"].dtype for state in states if "step" in state} == {torch.float32}


def test_a_copy_goes_on_with_its_own_weights():
    network = _Network()
    optimizer = _made(network)
    for update in range(3):
        _advance(network, optimizer, update)
    other, follower = copy.deepcopy((network, optimizer))
    _advance(network, optimizer, 3)
    _advance(other, follower, 3)
    for one, same in zip(network.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, same)


@pytest.mark.parametrize("update", [0, 1, 4])
def test_a_parameter_without_a_gradient_stays(update):
    network = _Network()
    optimizer = _made(network)
    for earlier in range(update):
        _advance(network, optimizer, earlier)
    before = {name: parameter.clone() for name, parameter in network.named_parameters()}
    _gradients(network, update)
    network.embed.weight.grad = network.wide.weight.grad = None
    optimizer.advance(optimizer.norm(), CLIP, RATE)
    changed = {name for name, new in network.named_parameters() if not torch.equal(before[name], new)}
    assert changed == set(before) - {"embed.weight", "wide.weight"}


def test_who_looks_on_at_a_step_is_called():
    network, seen = _Network(), []
    optimizer = _made(network)
    optimizer.register_step_post_hook(lambda *_: seen.append(1))
    _advance(network, optimizer, 0)
    assert seen == [1]


def test_what_is_frozen_stays_where_a_gradient_is_not_finite():
    network = _Network()
    optimizer = _made(network)
    _advance(network, optimizer, 0)
    before = copy.deepcopy(network.state_dict()), copy.deepcopy(optimizer_tensors("o", optimizer))
    optimizer.found_inf = torch.ones(())
    _gradients(network, 1)
    network.wide.weight.grad[2, 3] = torch.nan
    optimizer.step()
    for old, new in zip(before, (network.state_dict(), optimizer_tensors("o", optimizer)), strict=True):
        for name, value in old.items():
            assert torch.equal(new[name], value), name
