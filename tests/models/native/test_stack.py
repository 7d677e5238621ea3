"""Blocks in C beside blocks in PyTorch, and what happens where the C cannot be had."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest
import torch

from conformance.checks import notices
from foretell.models import layers
from foretell.models.initialization import initialize
from foretell.models.layers import CausalTransformer
from foretell.models.native import building
from foretell.models.native import stack as native_stack


def _case(windows, tokens, width, heads, layers, activation, step):
    return {
        "windows": windows, "tokens": tokens, "width": width, "heads": heads, "layers": layers,
        "activation": activation, "step": step,
    }  # fmt: skip


CASES = {
    "padded, some outputs": _case(5, 6, 16, 2, 2, "gelu", 3),
    "all outputs": _case(7, 12, 32, 1, 3, "relu", 1),
    "few tokens in heads of sixteen": _case(9, 5, 64, 4, 2, "gelu", 3),
    "one window": _case(1, 15, 64, 4, 1, "gelu", 3),
    "one window for several threads": _case(1, 59, 32, 2, 3, "relu", 3),
    "one window for several threads, all outputs": _case(1, 37, 16, 1, 2, "gelu", 1),
    "longer than a piece": _case(3, 400, 16, 2, 2, "gelu", 1),
    "many pieces": _case(64, 60, 32, 1, 2, "relu", 3),
}


def _made(case, probability=0.0):
    generator = torch.Generator().manual_seed(1)
    stack = CausalTransformer(
        width=case["width"], layers=case["layers"], heads=case["heads"], probability=probability,
        activation=case["activation"],
    )  # fmt: skip
    initialize(stack, generator)
    with torch.no_grad():
        for parameter in stack.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    tokens = torch.randn(case["windows"], case["tokens"], case["width"], generator=generator)
    mask = torch.arange(case["tokens"]) >= torch.arange(case["windows"])[:, None] % case["tokens"]
    outputs = slice(None) if case["step"] == 1 else slice(1, None, case["step"])
    return stack, tokens, mask, outputs


def _measured(stack, tokens, mask, outputs, generator=None):
    stack.zero_grad()
    tokens = tokens.clone().requires_grad_()
    hidden = stack(tokens, mask, generator, outputs)
    upstream = torch.randn(hidden.shape, generator=torch.Generator().manual_seed(3))
    (hidden * upstream).sum().backward()
    with torch.no_grad():
        acting = stack(tokens, mask, None, outputs)
    return [hidden.detach(), acting, tokens.grad, *(parameter.grad for parameter in stack.parameters())]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_values_and_gradients_are_those_of_pytorch(case, threads, monkeypatch):
    made = _made(case)
    ours = _measured(*made)
    monkeypatch.setattr(layers, "usable", lambda *_: False)
    theirs = _measured(*made)
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our, their, rtol=1e-5, atol=1e-5 * float(their.abs().max()))


def test_acting_and_training_compute_the_same():
    stack, tokens, mask, outputs = _made(CASES["padded, some outputs"])
    hidden, acting, *_ = _measured(stack, tokens, mask, outputs)
    assert torch.equal(hidden, acting)


def check_nothing_is_subnormal(stack):
    """A softmax that is sure of itself has weights below the smallest normal number; products of those are slow."""
    tokens, mask = 20 * torch.randn(4, 12, 16, generator=torch.Generator().manual_seed(2)), torch.ones(4, 12).bool()
    with torch.no_grad():
        stack.blocks[0].query_key_value.weight.mul_(30.0)
        stack.blocks[0].norm_feedforward.weight.fill_(1e-38)
        stack.blocks[0].norm_feedforward.bias.zero_()
        stack.blocks[0].feedforward_in.bias.zero_()
    measured = _measured(stack, tokens, mask, slice(None))
    smallest = torch.finfo(torch.float32).tiny
    for numbers in measured[:2] + measured[3:]:
        assert not ((numbers != 0) & (numbers.abs() < smallest)).any()
    assert torch.tensor(1e-39).mul(1.0) != 0  # the caller's own arithmetic is what it was


def test_subnormal_numbers_are_taken_for_nothing(threads):
    stack = _made(CASES["padded, some outputs"])[0]
    if building.native():
        check_nothing_is_subnormal(stack)
    else:  # PyTorch's operators keep them
        notices(check_nothing_is_subnormal, stack)


def test_plain_arithmetic_is_noticed(monkeypatch):
    monkeypatch.setattr(layers, "usable", lambda *_: False)
    notices(check_nothing_is_subnormal, _made(CASES["padded, some outputs"])[0])


def test_products_take_one_thread_and_the_blas_gets_its_own_back(monkeypatch):
    """Threads of a product that lies outside of ours are made anew at every call: 6 ms a call of `act`, not 0.3."""
    library, limits = building.native(), [7]
    assert library is not None, "no C compiler on this machine"

    def limit(count):
        limits.append(count)
        return limits[-2]

    monkeypatch.setattr(library, "_limit", limit)
    stack, tokens, mask, _ = _made(CASES["one window"])
    stack(tokens, mask).sum().backward()
    assert limits == [7, 1, 7, 1, 7], "once forward, once backward"


def check_graphs_do_not_share_memory():
    """Gradients of two windows whose graphs are alive together, of one twice, and of a graph that outlives others."""
    stack, tokens, mask, outputs = _made(CASES["padded, some outputs"])

    def gradient(upstream, graph):
        return torch.autograd.grad(graph[1], graph[0], upstream, retain_graph=True)[0]

    def graph(numbers):
        numbers = numbers.clone().requires_grad_()
        return numbers, stack(numbers, mask, None, outputs)

    other = tokens.flip(0)
    upstream = torch.randn(stack(tokens, mask, None, outputs).shape, generator=torch.Generator().manual_seed(3))
    alone = [gradient(upstream, graph(numbers)) for numbers in (tokens, other)]
    assert not torch.equal(*alone)
    first, second = graph(tokens), graph(other)
    for made, expected in ((first, alone[0]), (second, alone[1]), (first, alone[0])):
        assert torch.equal(gradient(upstream, made), expected)
    del second
    graph(other)
    assert torch.equal(gradient(upstream, first), alone[0])


def test_graphs_that_are_alive_together_do_not_share_memory():
    check_graphs_do_not_share_memory()


def test_shared_memory_is_noticed(monkeypatch):
    memory = torch.empty(1 << 20)
    monkeypatch.setattr(native_stack._workspace, "lend", lambda floats: memory[:floats])
    notices(check_graphs_do_not_share_memory)


def test_updates_take_the_memory_of_the_one_before():
    """The next graph's memory begins where the last one's did, once that is gone; two threads have their own."""
    stack, tokens, mask, outputs = _made(CASES["all outputs"])
    places = []

    def update():
        hidden = stack(tokens, mask, None, outputs)
        places.append(native_stack._workspace._lent().data_ptr())
        hidden.sum().backward()

    update()
    update()
    other = threading.Thread(target=update)
    other.start()
    other.join()
    assert places[0] == places[1] != places[2]


def test_the_same_generator_drops_the_same_units_and_another_others():
    stack, tokens, mask, outputs = _made(CASES["many pieces"], probability=0.3)
    first, again, other = (
        _measured(stack, tokens, mask, outputs, torch.Generator().manual_seed(seed)) for seed in (5, 5, 6)
    )
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.allclose(first[0], other[0])


@pytest.mark.parametrize("case", ["padded, some outputs", "longer than a piece"])
def test_gradients_belong_to_the_units_that_were_dropped(case):
    """Along a random direction, the loss of the very same masks changes as the gradients say."""
    stack, tokens, mask, outputs = _made(CASES[case], probability=0.2)
    gradients = _measured(stack, tokens, mask, outputs, torch.Generator().manual_seed(5))[2:]
    generator = torch.Generator().manual_seed(9)
    moved = [tokens, *stack.parameters()]
    direction = [torch.randn(one.shape, generator=generator) for one in moved]
    predicted = sum(float((a * b).sum()) for a, b in zip(gradients, direction, strict=True))

    def loss(step):
        with torch.no_grad():
            for one, way in zip(moved, direction, strict=True):
                one.add_(step * way)
            hidden = stack(tokens, mask, torch.Generator().manual_seed(5), outputs)
            upstream = torch.randn(hidden.shape, generator=torch.Generator().manual_seed(3))
            found = float((hidden.double() * upstream).sum())
            for one, way in zip(moved, direction, strict=True):
                one.sub_(step * way)
        return found

    step = 1e-3
    assert (loss(step) - loss(-step)) / (2 * step) == pytest.approx(predicted, rel=0.02)


def test_units_are_dropped_with_the_probability_and_scaled_up():
    """Blocks that add a constant: what comes out minus what went in is 0 or the constant scaled up."""
    stack = CausalTransformer(width=64, layers=1, heads=1, probability=0.25, activation="relu")
    with torch.no_grad():
        for parameter in stack.parameters():
            parameter.zero_()
        block = stack.blocks[0]
        block.attention_output.bias.fill_(1.0)
    tokens, mask = torch.zeros(64, 30, 64), torch.ones(64, 30, dtype=torch.bool)
    generator = torch.Generator().manual_seed(0)
    hidden = layers.through_blocks(stack.blocks, tokens, layers.causal_mask(mask[:1]), generator)
    kept = hidden != 0
    torch.testing.assert_close(hidden[kept], torch.full_like(hidden[kept], 1 / 0.75))
    assert float(kept.float().mean()) == pytest.approx(0.75, abs=5 * (0.75 * 0.25 / hidden.numel()) ** 0.5)
    for axis in ((0, 1), (0, 2), (1, 2)):  # no unit, token or window is dropped more often than others
        share = kept.float().mean(axis)
        assert float((share - 0.75).abs().max()) < 6 * (0.75 * 0.25 * len(share) / hidden.numel()) ** 0.5


@pytest.mark.parametrize("where", ["tokens", "weight"])
def test_not_a_number_stays_one(where):
    stack, tokens, mask, outputs = _made(CASES["all outputs"])
    with torch.no_grad():
        (tokens if where == "tokens" else stack.blocks[0].feedforward_in.weight)[..., 3] = float("nan")
    hidden, _, gradient, *_ = _measured(stack, tokens, mask, outputs)
    assert hidden.isnan().any()
    assert gradient.isnan().any()


def test_autocast_and_double_precision_take_pytorchs_operators():
    stack, tokens, mask, outputs = _made(CASES["padded, some outputs"])
    assert stack.double()(tokens.double(), mask, None, outputs).dtype == torch.float64
    parameters = list(stack.float().parameters())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not layers.usable(tokens, parameters)


def _kernels(**environment):
    program = "from foretell.models.native.building import kernels; print(kernels())"
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120,
        env={**os.environ, **{name: str(value) for name, value in environment.items()}},
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    return found.stdout.strip()


def test_without_switch_compiler_or_a_safe_folder_pytorchs_operators_do_it(tmp_path):
    assert _kernels(FORETELL_NATIVE=0) == "torch"
    broken = tmp_path / "cc"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    assert _kernels(PATH=tmp_path, XDG_CACHE_HOME=tmp_path / "empty") == "torch"
    everybodys = tmp_path / "everybodys" / "foretell"
    everybodys.mkdir(parents=True)
    everybodys.chmod(0o777)
    assert _kernels(XDG_CACHE_HOME=everybodys.parent) == "torch"


def test_the_libraries_are_built_once_and_whole(tmp_path):
    found = [_kernels(XDG_CACHE_HOME=tmp_path) for _ in range(2)]
    assert found == [building.kernels()] * 2
    suffixes = [path.suffix for path in (tmp_path / "foretell").glob("*")]
    assert suffixes == [".so", ".so"] * (found[0] == "native"), "the blocks, and the ends"
