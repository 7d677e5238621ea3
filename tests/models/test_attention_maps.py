"""The weights are those of the network's own pass: with them in the place of its attention, it says the same."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from foretell.core.errors import UsageError
from foretell.models import layers
from foretell.models.attention_maps import attention_maps
from foretell.models.transformer import attention
from reference.making import CHOICES, VECTOR, random_batch, small_model

TIME = 4
CASES = {
    "decision-transformer": ("decision-transformer", VECTOR, {}),
    "discrete decision-transformer": ("decision-transformer", CHOICES, {}),
    "trajectory-transformer": ("trajectory-transformer", VECTOR, {}),
    "discrete trajectory-transformer": ("trajectory-transformer", CHOICES, {}),
    "trajectory-transformer that is told": ("trajectory-transformer", VECTOR, {"told": True}),
    "trajectory-transformer with goals": ("trajectory-transformer", VECTOR, {"goals": True}),
    "encoder-decoder": ("encoder-decoder", VECTOR, {"horizon": 3}),
    "discrete encoder-decoder": ("encoder-decoder", CHOICES, {"horizon": 3}),
}


def make(case, time=TIME):
    name, shape, changes = CASES[case]
    batch = random_batch(shape, real=(time,), time=time)
    if changes.get("goals"):
        batch = replace(batch, goals=batch.observations[:, 0] + 0.5)
    return small_model(name, shape, **changes), batch


def said(model, batch):
    """What the network says of the window: of all of it, or of the actions that it writes."""
    with torch.inference_mode():
        if hasattr(model, "write"):
            return model.write(batch)
        if hasattr(model, "discretizer"):
            return model.logits(model.symbols(batch), batch.mask, front=model.front(batch))
        return model(batch)


def put_in_place(monkeypatch, maps):
    """Let the networks take their weights from `maps`, in the order in which they ask."""
    if len(maps) == 1:
        waiting = iter(maps[0].weights[:, None])

        def attend(queries, keys, values, *_):
            rows = slice(None) if queries.shape[2] == keys.shape[2] else slice(1, None, 3)  # observation tokens
            return next(waiting)[:, :, rows] @ values

        monkeypatch.setattr(layers, "attend", attend)
        monkeypatch.setattr(layers, "usable", lambda *_: False)  # the blocks in C ask nobody
        return
    encoder, own, memory = (found.weights[:, None] for found in maps)
    count, steps = len(encoder), own.shape[3]
    asked = [encoder[layer] for layer in range(count)]
    for step in range(steps):
        for layer in range(count):
            asked += [own[layer, :, :, step : step + 1, : step + 1], memory[layer, :, :, step : step + 1]]
    waiting = iter(asked)

    def scaled(queries, keys, values, *_):
        return next(waiting) @ values

    monkeypatch.setattr(attention, "scaled_dot_product_attention", scaled)


@pytest.mark.parametrize("case", CASES)
def test_with_the_weights_in_place_the_network_says_the_same(case, monkeypatch):
    model, batch = make(case)
    expected, maps = said(model, batch), attention_maps(model, batch)
    with monkeypatch.context() as patched:
        put_in_place(patched, maps)
        assert torch.allclose(said(model, batch), expected, atol=1e-5, rtol=1e-5)
    wrong = [replace(found, weights=found.weights.flip(1)) for found in maps]  # heads in the wrong order
    put_in_place(monkeypatch, wrong)
    assert not torch.allclose(said(model, batch), expected, atol=1e-2)


@pytest.mark.parametrize("case", CASES)
def test_rows_add_up_to_one_and_nothing_stays_behind(case):
    model, batch = make(case)
    for found in attention_maps(model, batch):
        assert found.weights.shape == (2, 2, len(found.queries), len(found.keys))
        assert bool((found.weights >= 0).all())
        assert torch.allclose(found.weights.sum(-1), torch.ones(()), atol=1e-6)
    assert not any(part._forward_pre_hooks for part in model.modules())


def test_a_token_of_a_decision_transformer_sees_itself_and_earlier_ones():
    (found,) = attention_maps(*make("decision-transformer"))
    assert torch.equal(found.weights > 0, torch.ones(11, 11).tril().bool().expand(2, 2, -1, -1))
    assert found.queries == found.keys
    assert found.keys[:4] == (("R", 0), ("s", 0), ("a", 0), ("R", 1))
    assert found.keys[-1] == ("s", 3), "nobody may see the last action"


def test_returns_to_go_of_a_trajectory_transformer_are_seen_by_themselves_alone():
    (found,) = attention_maps(*make("trajectory-transformer"))
    assert found.keys[:8] == (*((name, 0) for name in ("s1", "s2", "s3", "a1", "a2", "r", "R")), ("s1", 1))
    expected = torch.ones(28, 28).tril().bool()
    for column in range(6, 28, 7):
        expected[column + 1 :, column] = False
    assert torch.equal(found.weights > 0, expected.expand(2, 2, -1, -1))


def test_goals_stand_in_front_and_are_seen_by_all():
    (found,) = attention_maps(*make("trajectory-transformer with goals"))
    assert found.keys[:4] == (("goal s1", None), ("goal s2", None), ("goal s3", None), ("s1", 0))
    assert bool((found.weights[:, :, 3:, :3] > 0).all())


def test_what_is_told_stands_in_front_and_is_seen_by_all():
    (found,) = attention_maps(*make("trajectory-transformer that is told"))
    assert found.keys[:2] == (("R asked", None), ("s1", 0))
    assert bool((found.weights[:, :, 1:, :1] > 0).all())


@pytest.mark.parametrize("time", [TIME, 2])
def test_the_encoder_sees_all_that_is_real_and_the_decoder_what_is_written(time):
    """Of a history that is shorter than the encoder's window, what fills it up is neither seen nor shown."""
    encoder, own, memory = attention_maps(*make("encoder-decoder", time))
    past = 3 * time - 1
    assert encoder.weights.shape[2:] == (past, past)
    assert memory.weights.shape[2:] == (3, past)
    assert bool((encoder.weights > 0).all())
    assert bool((memory.weights > 0).all())
    assert torch.equal(own.weights > 0, torch.ones(3, 3).tril().bool().expand(2, 2, -1, -1))
    assert encoder.keys[-2:] == (("R", time - 1), ("s", time - 1))
    assert own.queries == (("start", None), ("a", time - 1), ("a", time))


def test_a_network_without_attention_is_refused():
    with pytest.raises(UsageError, match="LSTM has no attention"):
        attention_maps(small_model("lstm"), random_batch(real=(4,)))


@pytest.mark.parametrize("real", [(4, 4), (2,)])
def test_one_window_without_padding_is_expected(real):
    with pytest.raises(UsageError, match="expected 1 and 0"):
        attention_maps(small_model("decision-transformer"), random_batch(real=real))
