from __future__ import annotations

import inspect
import math
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional
from transformer_helpers import both_stacks, fresh_transformer, generator, small_transformer

from foretell.core.errors import UsageError
from foretell.models import transformer
from foretell.models.transformer import (
    AttentionMaps,
    StackConfig,
    Transformer,
    TransformerConfig,
    adam,
    averaged_weights,
    beam_search,
    greedy_search,
    label_smoothed_errors,
    sinusoidal_positions,
    transformer_learning_rate,
)

SOURCES = torch.tensor([[3, 4, 5, 3], [5, 3, 0, 0], [0, 0, 0, 0]])
TARGETS = torch.tensor([[1, 4, 5, 5, 2], [1, 3, 2, 0, 0], [1, 2, 0, 0, 0]])


@pytest.mark.parametrize("share", [True, False], ids=["shared", "apart"])
def test_logits_equal_torch_s_between_embeddings_and_softmax(share):
    ours, theirs = small_transformer(share_embeddings=share), both_stacks(torch.float64)[1]
    stacks = nn.ModuleDict({"encoder": ours.encoder, "decoder": ours.decoder})
    stacks.load_state_dict(both_stacks(torch.float64)[0].state_dict())
    source_table = ours.embed_source.weight
    target_table = source_table if share else ours.embed_target.weight
    last = source_table if share else ours.output.weight
    positions = sinusoidal_positions(9, 12).double()
    sources = source_table[SOURCES] * math.sqrt(12) + positions[:4]
    targets = target_table[TARGETS] * math.sqrt(12) + positions[:5]
    padded, causal = SOURCES == 0, torch.ones(5, 5, dtype=torch.bool).triu(1)
    hidden = theirs(sources[:2], targets[:2], tgt_mask=causal, src_key_padding_mask=padded[:2],
                    memory_key_padding_mask=padded[:2])  # fmt: skip
    found = ours(SOURCES, TARGETS)
    torch.testing.assert_close(found[:2], hidden @ last.T, atol=1e-10, rtol=0)
    assert torch.isfinite(found).all()  # the third source is all padding


def test_one_matrix_where_it_is_shared():
    shared, apart = small_transformer(), small_transformer(share_embeddings=False)
    count = [sum(parameter.numel() for parameter in model.parameters()) for model in (shared, apart)]
    assert count[1] - count[0] == 2 * 6 * 12
    assert len(shared.state_dict()) == len(list(shared.parameters()))  # no tensor twice: safetensors keeps it


def test_padding_at_the_end_is_invisible():
    model = small_transformer()
    whole = model(SOURCES[1:2, :2], TARGETS[1:2, :3])
    torch.testing.assert_close(model(SOURCES[1:2], TARGETS[1:2])[:, :3], whole, atol=1e-12, rtol=0)
    changed = TARGETS.clone()
    changed[1, 3:] = 5
    assert torch.equal(model(SOURCES, changed)[1, :3], model(SOURCES, TARGETS)[1, :3])


@torch.no_grad()
def test_the_loss_is_a_mean_over_real_symbols_after_the_start():
    model = small_transformer(label_smoothing=0.2)
    log = model(SOURCES, TARGETS[:, :-1]).log_softmax(-1)
    errors = [
        -0.8 * log[row, time, TARGETS[row, time + 1]] - 0.2 * log[row, time].mean()
        for row in range(3) for time in range(4) if TARGETS[row, time + 1] != 0
    ]  # fmt: skip
    assert len(errors) == 7
    assert float(model.loss(SOURCES, TARGETS)) == pytest.approx(float(sum(errors)) / 7, rel=1e-12)
    wider = functional.pad(TARGETS, (0, 2))
    assert float(model.loss(SOURCES, wider)) == pytest.approx(float(model.loss(SOURCES, TARGETS)), rel=1e-12)


def test_label_smoothing_by_hand():
    logits = torch.tensor([[[math.log(8), 0.0, 0.0]]], dtype=torch.float64)  # probabilities 0.8, 0.1, 0.1
    targets = torch.tensor([[0]])
    expected = -(0.9 + 0.1 / 3) * math.log(0.8) - 2 * 0.1 / 3 * math.log(0.1)
    assert float(label_smoothed_errors(logits, targets, 0.1)) == pytest.approx(expected)
    assert float(label_smoothed_errors(logits, targets, 0.0)) == pytest.approx(-math.log(0.8))


def test_dropout_and_weights_follow_their_generators_alone():
    config = TransformerConfig(vocabulary_size=6, max_length=9, width=12, layers=1, heads=3, feedforward_width=20)
    before = torch.get_rng_state()
    one, same, other = (Transformer(config, generator(seed)) for seed in (0, 0, 1))
    torch.testing.assert_close(one.state_dict(), same.state_dict(), atol=0, rtol=0)
    assert not torch.equal(one.embed_source.weight, other.embed_source.weight)
    assert torch.equal(one.loss(SOURCES, TARGETS, generator(2)), same.loss(SOURCES, TARGETS, generator(2)))
    assert not torch.equal(one.loss(SOURCES, TARGETS, generator(2)), one.loss(SOURCES, TARGETS, generator(3)))
    assert not torch.equal(one.loss(SOURCES, TARGETS, generator(2)), one.loss(SOURCES, TARGETS))
    assert torch.equal(torch.get_rng_state(), before)


def test_dropout_falls_on_the_sum_of_embedding_and_position(monkeypatch):
    model = small_transformer(dropout=0.25)
    monkeypatch.setattr("foretell.models.transformer.network.dropout", lambda inputs, *_: inputs * 0)
    monkeypatch.setattr(model.encoder, "forward", lambda tokens, *_: tokens)
    assert model.encode(SOURCES, generator()).abs().max() == 0.0


def test_the_gradients_of_a_batch_with_an_empty_source_are_finite():
    model = small_transformer(dropout=0.1)
    model.loss(SOURCES, TARGETS, generator()).backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


def test_maps_of_all_three_attentions():
    maps = AttentionMaps()
    small_transformer()(SOURCES, TARGETS, maps=maps)
    shapes = [[tuple(weights.shape) for weights in kind] for kind in (maps.encoder, maps.decoder, maps.memory)]
    assert shapes == [[(3, 3, 4, 4)] * 2, [(3, 3, 5, 5)] * 2, [(3, 3, 5, 4)] * 2]


def test_the_learning_rate_peaks_at_the_end_of_the_warm_up():
    rates = [transformer_learning_rate(update, 512, 4_000) for update in range(40_000)]
    assert rates[0] == pytest.approx(512**-0.5 * 4000**-1.5)
    assert max(rates) == rates[3_999] == pytest.approx(6.987712e-4)  # 1 / sqrt(512 * 4000)
    assert rates[1_999] == pytest.approx(rates[3_999] / 2)
    assert rates[15_999] == pytest.approx(rates[3_999] / 2)
    assert rates[35_999] == pytest.approx(rates[3_999] / 3)
    assert transformer_learning_rate(3_999, 128, 4_000) == pytest.approx(2 * rates[3_999])


def test_averaged_weights_are_the_mean_of_each():
    states = [small_transformer().state_dict(), fresh_transformer(1).state_dict(), fresh_transformer(2).state_dict()]
    found = averaged_weights(states)
    assert list(found) == list(states[0])
    for name, value in found.items():
        torch.testing.assert_close(value, (states[0][name] + states[1][name] + states[2][name]) / 3)


def test_adam_is_that_of_section_5_3():
    group = adam([nn.Parameter(torch.zeros(1))]).param_groups[0]
    assert (group["betas"], group["eps"], group["weight_decay"]) == ((0.9, 0.98), 1e-9, 0)


def test_too_long_sequences_are_refused():
    model = small_transformer()
    symbols = torch.full((1, 10), 3)
    for sources, targets in ((symbols, TARGETS[:1]), (SOURCES[:1], symbols)):
        with pytest.raises(UsageError, match="a sequence of 10 symbols; expected at most max_length, 9"):
            model(sources, targets)


@pytest.mark.parametrize("targets", [torch.zeros(3, 5, dtype=torch.int64), TARGETS[:, :1]], ids=["padding", "start"])
def test_targets_without_a_symbol_to_predict_have_no_loss(targets):
    with pytest.raises(UsageError, match=r"targets hold no symbol after the first of a row; expected start, .*, end"):
        small_transformer().loss(SOURCES, targets)


@pytest.mark.parametrize("share", [True, False], ids=["shared", "apart"])
@pytest.mark.parametrize("symbol", [6, -1, -100])
def test_symbols_beyond_the_vocabulary_are_refused(symbol, share):
    model, strange = small_transformer(share_embeddings=share), TARGETS.clone()
    strange[0, 4] = symbol
    message = f"a symbol {symbol}; expected 0 to 5, for vocabulary_size is 6"
    for search in (greedy_search, beam_search):
        with pytest.raises(UsageError, match=message):
            search(model, strange, max_length=3)
    with pytest.raises(UsageError, match=message):
        model(strange, TARGETS)
    with pytest.raises(UsageError, match=message):
        model(SOURCES, strange)
    with pytest.raises(UsageError, match=message):  # the last column is predicted and never read
        model.loss(SOURCES, strange)


@pytest.mark.parametrize(("arguments", "message"), [
    ((0, 32, 0), "warmup_updates is 0; expected a whole number of 1 or more"),
    ((0, 0), "width is 0; expected a whole number of 1 or more"),
    ((-1, 32), "update is -1; expected a whole number of 0 or more"),
    (("x", 32), "update is 'x'; expected a whole number"),
])  # fmt: skip
def test_a_learning_rate_is_of_whole_numbers(arguments, message):
    with pytest.raises(UsageError, match=message):
        transformer_learning_rate(*arguments)


def test_averaged_weights_are_of_several_states_of_one_network():
    states = [{"bias": torch.tensor([1.0, 5.0])}, {"bias": torch.tensor([3.0, 5.0])}]
    averaged = inspect.unwrap(averaged_weights)
    for several in (states, tuple(states), (state for state in states)):
        assert averaged(several)["bias"].tolist() == [2.0, 5.0]
    for wrong in ([], iter([])):
        with pytest.raises(UsageError, match="no states to average; expected state dictionaries"):
            averaged(wrong)
    for wrong in (states[0], [torch.zeros(2)], None):
        with pytest.raises(UsageError, match="expected several state dictionaries"):
            averaged(wrong)
    for other in ({"weight": torch.zeros(2)}, {}, {"bias": torch.zeros(3)}):
        with pytest.raises(UsageError, match=r"state 1 has other tensors than state 0; expected .* one network"):
            averaged([states[0], other])


@pytest.mark.parametrize(("settings", "message"), [
    ({"width": 10, "heads": 4}, "width 10 is not divisible by 4 heads"),
    ({"width": 0}, "width is 0"), ({"layers": 0}, "layers is 0"), ({"heads": 0}, "heads is 0"),
    ({"feedforward_width": 0}, "feedforward_width is 0"), ({"dropout": 1.0}, "dropout is 1.0"),
    ({"max_length": 0}, "max_length is 0"), ({"label_smoothing": -0.1}, "label_smoothing is -0.1"),
    ({"vocabulary_size": 2}, "symbols from 0 to 1"), ({"start": 0}, "padding, start and end are 0, 0 and 2"),
    ({"end": 6}, "padding, start and end are 0, 1 and 6"), ({"padding": -1}, "three different"),
])  # fmt: skip
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        TransformerConfig(**{"vocabulary_size": 6, "max_length": 9, **settings})


def test_defaults_are_the_base_model_s():
    assert StackConfig() == StackConfig(width=512, layers=6, heads=8, feedforward_width=2048, dropout=0.1)
    config = TransformerConfig(vocabulary_size=37_000, max_length=100)
    assert (config.label_smoothing, config.share_embeddings) == (0.1, True)


def test_settings_come_without_torch_and_names_are_all_there():
    program = "import sys, foretell.models.transformer.configs; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    for name in transformer.__all__:
        assert getattr(transformer, name).__name__ == name
    with pytest.raises(AttributeError, match="nothing_like_it"):
        _ = transformer.nothing_like_it
