from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from foretell.models.dropout import dropout
from foretell.models.initialization import initialize
from foretell.models.layers import Block, CausalTransformer, attend, causal_mask, masked_mean
from reference.attention import attend_slowly


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_masked_mean_counts_real_timesteps_alone():
    values = torch.tensor([[100.0, 1.0, 2.0], [torch.nan, torch.inf, 6.0]])
    mask = torch.tensor([[False, True, True], [False, False, True]])
    assert float(masked_mean(values, mask)) == 3.0
    values = torch.ones(1, 2, requires_grad=True)
    masked_mean(values, torch.tensor([[False, True]])).backward()
    assert values.grad.tolist() == [[0.0, 1.0]]


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
def test_dropout_keeps_the_mean_at_the_asked_rate(probability):
    ones = torch.ones(1000, 1001)  # not a multiple of four: the last word is cut
    dropped = dropout(ones, probability, _generator())
    deviation = math.sqrt(probability * (1 - probability) / ones.numel())
    assert float((dropped == 0).double().mean()) == pytest.approx(probability, abs=4 * deviation + 1 / 65536)
    assert float(dropped.double().mean()) == pytest.approx(1.0, abs=5 * deviation / (1 - probability))
    assert dropped.unique().tolist() == pytest.approx([0.0, 1 / (1 - probability)], rel=1e-4)
    rows = (dropped == 0).double()
    assert abs(np.corrcoef(rows[:-1].flatten(), rows[1:].flatten())[0, 1]) < 0.01
    assert abs(np.corrcoef(rows[:, :-1].flatten(), rows[:, 1:].flatten())[0, 1]) < 0.01


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_dropout_of_other_numbers_has_the_same_units_and_no_bias(dtype):
    values = torch.rand(4000, generator=_generator(3)) + 1.0
    exact, found = dropout(values, 0.1, _generator()), dropout(values.to(dtype), 0.1, _generator())
    assert found.dtype is dtype
    assert torch.equal(found == 0, exact == 0)
    rounded = torch.where(exact == 0, 0.0, values.to(dtype).double() * 65536 / (65536 - round(0.1 * 65536)))
    assert float(found.double().mean() / rounded.mean()) == pytest.approx(1.0, abs=2e-4)  # a rounded scale: -1.5e-3


def test_dropout_follows_its_generator_alone():
    values = torch.randn(50, 50, generator=_generator(3))
    torch.testing.assert_close(dropout(values, 0.3, _generator(1)), dropout(values, 0.3, _generator(1)), rtol=0, atol=0)
    assert not torch.equal(dropout(values, 0.3, _generator(1)), dropout(values, 0.3, _generator(2)))
    assert dropout(values, 0.3, None) is values
    assert dropout(values, 0.0, _generator()) is values


def test_attend_equals_the_slow_loop():
    shape = (3, 2, 7, 5)
    queries, keys, values = (torch.randn(shape, generator=_generator(seed)) * 2 for seed in range(3))
    mask = torch.arange(7) >= torch.tensor([[0], [3], [6]])
    allowed = causal_mask(mask)
    found = attend(queries, keys, values, allowed)
    expected = attend_slowly(queries.numpy(), keys.numpy(), values.numpy(), allowed[:, 0].numpy())
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)
    vanishing = attend(queries, keys, values, allowed, 1e-9, _generator())  # the path that dropout takes
    np.testing.assert_allclose(vanishing.numpy(), expected, atol=1e-5)


def test_dropout_in_attention_falls_on_the_weights():
    keys = torch.zeros(1, 1, 1000, 2)
    values = torch.ones(1, 1, 1000, 2)
    allowed = torch.ones(1, 1, 1, 1000, dtype=torch.bool)
    found = attend(torch.zeros(1, 1, 1, 2), keys, values, allowed, 0.5, _generator())
    assert float(found[0, 0, 0, 0]) == float(found[0, 0, 0, 1]) == pytest.approx(1.0, abs=0.1)
    assert float(found[0, 0, 0, 0]) != 1.0


def test_causal_mask_by_hand():
    mask = torch.tensor([[False, True, True], [False, False, False]])
    expected = [
        [[True, False, False], [False, True, False], [False, True, True]],
        [[True, False, False], [False, True, False], [False, False, True]],
    ]
    assert causal_mask(mask)[:, 0].tolist() == expected
    queries = torch.randn(2, 1, 3, 4, generator=_generator())
    assert torch.isfinite(attend(queries, queries, queries, causal_mask(mask))).all()
    assert torch.isfinite(attend(queries, queries, queries, causal_mask(mask), 0.5, _generator())).all()


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("outputs", [slice(1, None, 3), slice(7, None, 3), slice(0, 4), slice(None)], ids=str)
def test_pruned_last_block_equals_the_whole(activation, outputs):
    stack = CausalTransformer(width=12, layers=2, heads=3, probability=0.0, activation=activation)
    initialize(stack, _generator())
    with torch.no_grad():
        for parameter in stack.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=_generator(2)))
    tokens = torch.randn(4, 9, 12, generator=_generator(1))
    mask = torch.arange(9) >= torch.tensor([[0], [3], [6], [8]])
    whole = stack(tokens, mask)[:, outputs]
    torch.testing.assert_close(stack(tokens, mask, outputs=outputs), whole, atol=1e-5, rtol=1e-5)


def test_block_is_pre_norm_with_residuals():
    block = Block(4, 2, 0.0, "relu")
    with torch.no_grad():
        for linear in (block.attention_output, block.feedforward_out):
            linear.weight.zero_()
            linear.bias.zero_()
    tokens = torch.randn(2, 3, 4, generator=_generator())
    torch.testing.assert_close(block(tokens, causal_mask(torch.ones(2, 3, dtype=torch.bool))), tokens)


def test_initial_weights_are_uniform_by_fan_in_and_smaller_on_the_residual_stream():
    stack = CausalTransformer(width=128, layers=8, heads=1, probability=0.0, activation="relu")
    initialize(stack, _generator())
    block = stack.blocks[3]
    for linear, inputs in ((block.query_key_value, 128), (block.feedforward_in, 128),
                           (block.attention_output, 128 * 2 * 8), (block.feedforward_out, 512 * 2 * 8)):  # fmt: skip
        weight, bound = linear.weight.detach(), 1 / math.sqrt(inputs)
        assert float(weight.abs().max()) == pytest.approx(bound, rel=0.01)
        assert float(weight.std()) == pytest.approx(bound / math.sqrt(3), rel=0.02)
        assert float(linear.bias.detach().abs().max()) == 0.0
    assert block.norm_attention.weight.tolist() == [1.0] * 128
