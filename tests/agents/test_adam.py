from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from foretell.agents import adam
from foretell.agents.adam import FLUSH_EVERY, Following, SmallAdam
from foretell.agents.native.building import library


@pytest.fixture(params=["torch", "native"])
def exact(request, monkeypatch):
    """Run with either implementation; say whether it has to be PyTorch's to the last bit."""
    if request.param == "torch":
        monkeypatch.setattr(adam, "usable", lambda *_: None)
    else:
        assert library() is not None, "no C compiler on this machine"
    return request.param == "torch"


def _assert_same(one, other, exact):
    torch.testing.assert_close(one, other, rtol=0 if exact else 1e-5, atol=0 if exact else 1e-7)


def _twins():
    generator = torch.Generator().manual_seed(0)
    parameters = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((5, 3), (4,), ())]
    return parameters, copy.deepcopy(parameters), generator


def test_steps_are_those_of_torch_and_moments_come_back_from_a_state(exact):
    ours, theirs, generator = _twins()
    small, plain = SmallAdam(ours, 1e-2), torch.optim.Adam(theirs, lr=1e-2, fused=True)
    for step in range(2 * FLUSH_EVERY + 3):
        for one, other in zip(ours, theirs):
            one.grad = torch.randn(one.shape, generator=generator)
            other.grad = one.grad.clone()
        small.advance()
        plain.step()
        if step == FLUSH_EVERY:
            state = copy.deepcopy(small.state_dict())
            small = SmallAdam(ours, 1e-2)
            small.load_state_dict(state)
    for one, other in zip(ours, theirs):
        _assert_same(one, other, exact)
        for name in ("exp_avg", "exp_avg_sq", "step"):
            _assert_same(small.state[one][name], plain.state[other][name], exact)


@pytest.mark.parametrize("count", [20_000, 16_385])
def test_threads_share_a_large_tensor_and_change_no_number(count):
    assert library() is not None, "no C compiler on this machine"
    before, found = torch.get_num_threads(), []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        generator = torch.Generator().manual_seed(1)
        weight = nn.Parameter(torch.randn(count, generator=generator))
        small, slow = SmallAdam([weight], 1e-2), torch.zeros(count)
        for _ in range(3):
            weight.grad = torch.randn(count, generator=generator)
            small.advance()
            Following([slow], [weight.detach()]).move(0.1)
        found.append(torch.cat([weight.detach(), slow, small.state[weight]["exp_avg_sq"]]))
    torch.set_num_threads(before)
    torch.testing.assert_close(found[1], found[0], rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(found[2], found[0], rtol=1e-6, atol=1e-7)


def test_moments_of_silent_weights_end_at_zero_and_never_become_subnormal(exact):
    ours, theirs, _ = _twins()
    small, plain = SmallAdam(ours, 1e-2), torch.optim.Adam(theirs, lr=1e-2, fused=True)
    for step in range(1200):
        for one, other in zip(ours, theirs):
            one.grad, other.grad = (torch.full_like(one, 0.1 if step < 3 else 0.0) for _ in range(2))
        small.advance()
        plain.step()
        moments = small.state[ours[0]]["exp_avg"]
        assert bool(((moments == 0) | (moments.abs() >= torch.finfo(torch.float32).tiny)).all())
    assert float(moments.abs().max()) == 0.0
    assert 0 < float(plain.state[theirs[0]]["exp_avg"].max()) < torch.finfo(torch.float32).tiny  # what would have been
    for one, other in zip(ours, theirs):
        _assert_same(one, other, exact)


def test_the_squared_norm_is_that_of_all_gradients_and_tells_what_is_not_finite(exact):
    parameters, _, _ = _twins()
    small = SmallAdam(parameters, 1e-2)
    for number, parameter in enumerate(parameters):
        parameter.grad = torch.full_like(parameter, number + 1.0)
    assert small.squared_norm() == 15 * 1 + 4 * 4 + 9
    for wrong in (float("nan"), float("inf"), 3e25):
        parameters[0].grad[4, 2] = wrong
        assert not torch.isfinite(torch.tensor(small.squared_norm()))


def test_a_step_is_taken_only_where_loss_and_gradients_are_finite(exact):
    parameters, _, _ = _twins()
    small = SmallAdam(parameters, 1e-2)
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    assert small.advance_if_finite(1.0)
    for step in (1, 2):  # the first step makes the moments, the later ones may be C's
        before = [parameter.detach().clone() for parameter in parameters]
        assert not small.advance_if_finite(float("nan"))
        parameters[0].grad[4, 2] = 3e25
        assert not small.advance_if_finite(1.0)
        parameters[0].grad[4, 2] = 1.0
        assert all(torch.equal(one, other) for one, other in zip(parameters, before))
        assert float(small.state[parameters[1]]["step"]) == step
        assert small.advance_if_finite(-1.0)
        assert not any(torch.equal(one, other) for one, other in zip(parameters, before))


def test_no_step_makes_no_moments():
    parameters, _, _ = _twins()
    small = SmallAdam(parameters, 1e-2)
    for parameter in parameters:
        parameter.grad = torch.full_like(parameter, torch.inf)
    assert not small.advance_if_finite(1.0)
    assert not small.state


def test_a_gradient_that_was_replaced_is_stepped_along(exact):
    (parameter,), (twin,) = (group[:1] for group in _twins()[:2])
    small, plain = SmallAdam([parameter], 1e-2), torch.optim.Adam([twin], lr=1e-2, fused=True)
    kept = []  # so that no new gradient lies where an old one lay
    for sign in (1.0, -1.0, 1.0):
        kept.append(torch.full_like(parameter, sign))
        parameter.grad, twin.grad = kept[-1], kept[-1].clone()
        small.advance()
        plain.step()
    _assert_same(parameter, twin, exact)


def test_following_moves_by_a_share_of_the_way(exact):
    old, new = [torch.zeros(2, 3), torch.ones(4)], [torch.ones(2, 3), torch.full((4,), 3.0)]
    Following(old, new).move(0.25)
    assert old[0].tolist() == [[0.25] * 3] * 2
    assert old[1].tolist() == [1.5] * 4


def test_what_is_followed_may_move_to_other_memory(exact):
    old, new = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.ones(3))
    following = Following([old], [new])
    following.move(0.5)
    new.data = torch.full((3,), 2.5)
    following.move(0.5)
    assert old.tolist() == [1.5] * 3


def test_a_step_of_pytorchs_own_between_others_is_noticed(exact):
    ours, theirs, generator = _twins()
    small, plain = SmallAdam(ours, 1e-2), torch.optim.Adam(theirs, lr=1e-2, fused=True)
    for step in range(3):
        for one, other in zip(ours, theirs):
            one.grad = torch.randn(one.shape, generator=generator)
            other.grad = one.grad.clone()
        assert small.squared_norm() > 0  # looks up where everything lies
        small.step() if step == 0 else small.advance()
        plain.step()
    for one, other in zip(ours, theirs):
        _assert_same(one, other, exact)
