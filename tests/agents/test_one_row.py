"""Acting on one observation: a call of C, the numbers of PyTorch's operators, and nothing shared or left behind."""

from __future__ import annotations

import copy
import pickle
import platform
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from foretell.agents.native.building import library
from foretell.agents.native.one_row import OneRow
from foretell.agents.networks import EnsembleMLP, GaussianPolicy
from foretell.agents.policy import SACPolicy
from foretell.sequences.scaling import ActionRange

CPUINFO = Path("/proc/cpuinfo")
PROCESSOR = CPUINFO.read_text().split() if platform.machine() == "x86_64" and CPUINFO.exists() else []
OWN_PRODUCTS = platform.machine() == "aarch64" or {"avx2", "fma"} <= set(PROCESSOR)
ROWS = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)


def _network(*sizes, members=1):
    return EnsembleMLP(members, sizes, torch.Generator().manual_seed(0)).requires_grad_(False)


def _policy(hidden=(64, 64)):
    network = GaussianPolicy(3, 1, hidden, torch.Generator().manual_seed(0))
    return SACPolicy(network, ActionRange(low=(-2.0,), high=(2.0,)))


def _act(policy, row):
    return policy.act(row, np.random.default_rng(1))[0]


@pytest.mark.parametrize("sizes", [(3, 8, 2), (3, 64, 64, 2), (3, 256, 256, 2), (17, 32, 12), (24, 16, 400)])
def test_its_numbers_are_those_of_the_network(sizes):
    assert library() is not None, "no C compiler on this machine"
    network, row = _network(*sizes), torch.randn(1, sizes[0], generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(OneRow()(network, row), network(row), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("inputs", "outputs"), [(12, 32), (13, 32), (3, 128), (64, 48)])
def test_a_bias_is_where_a_long_layers_sums_begin_and_what_a_short_ones_end_with(inputs, outputs):
    """As PyTorch's baddbmm has it, bit for bit where the products are C; 400 weights are a long layer."""
    network, row = _network(inputs, outputs), torch.randn(1, inputs, generator=torch.Generator().manual_seed(1))
    ((weight, bias),) = network.layers
    expected = bias[0, 0].clone() if inputs * outputs >= 400 else torch.zeros(outputs)
    for k in range(inputs):
        expected = expected + row[0, k] * weight[0, k]
    expected = expected if inputs * outputs >= 400 else expected + bias[0, 0]
    apart = 0.0 if OWN_PRODUCTS else 1e-6
    torch.testing.assert_close(OneRow()(network, row)[0, 0], expected, rtol=apart, atol=apart)


def test_what_it_does_not_take_is_left_to_the_operators():
    row = torch.zeros(1, 3)
    assert OneRow()(_network(3, 8, 2, members=2), row) is None
    assert OneRow()(_network(3, 8, 2).double(), row) is None
    assert OneRow()(_network(3, 8, 2), row.double()) is None
    assert OneRow()(_network(3, 8, 2), row.expand(2, 3)) is None
    assert OneRow()(_network(3, 8, 2), torch.zeros(3, 1).t()) is not None


@pytest.mark.parametrize("shape", [(1, 2), (1, 5), (1, 0)])
def test_observations_of_another_shape_are_refused_whoever_acted_before(shape):
    policy = _policy()
    _act(policy, ROWS[:1])
    with pytest.raises(RuntimeError):
        _act(policy, np.zeros(shape, np.float32))


def test_one_row_is_acted_upon_as_among_many():
    policy = _policy()
    actions, log_probs = policy.act(np.repeat(ROWS, 2, 0), np.random.default_rng(1))
    rng = np.random.default_rng(1)
    for row in range(5):
        alone, log_prob = policy.act(ROWS[row : row + 1], rng)
        np.testing.assert_allclose(alone[0], actions[2 * row], rtol=1e-5)
        np.testing.assert_allclose(log_prob[0], log_probs[2 * row], rtol=1e-4, atol=1e-5)
        rng.standard_normal(1, np.float32)


@pytest.mark.parametrize("part", ["weights", "biases"])
@pytest.mark.parametrize("layer", [0, 1, 2])
def test_weights_that_move_or_change_are_noticed(part, layer):
    policy = _policy()
    _act(policy, ROWS[:1])
    with torch.no_grad():
        one = getattr(policy.network.mlp, part)[layer]
        one.data = one.data * -3  # elsewhere
        again = _act(policy, ROWS[:1])
        np.testing.assert_allclose(again, _act(policy, np.repeat(ROWS[:1], 2, 0))[:1], rtol=1e-5)
        one.mul_(-1)  # in its place
        assert not np.allclose(_act(policy, ROWS[:1]), again)


def test_many_threads_may_ask_one_policy():
    policy = _policy((256, 256))
    expected = [_act(policy, row[None]) for row in ROWS]

    def ask(at):
        return all(np.array_equal(_act(policy, ROWS[at][None]), expected[at]) for _ in range(300))

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(ask, range(4)))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda policy: pickle.loads(pickle.dumps(policy))])
def test_a_policy_that_has_acted_can_be_copied(copied):
    policy = _policy()
    expected = _act(policy, ROWS[:1])
    other = copied(policy)
    with torch.no_grad():
        policy.network.mlp.weights[0].zero_()
    np.testing.assert_array_equal(_act(other, ROWS[:1]), expected)
