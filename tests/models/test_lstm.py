"""The LSTM against an LSTM written out gate by gate, and what is its own: previous actions, initial weights."""

from __future__ import annotations

import math
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from foretell.models.configs import LSTMConfig
from foretell.models.dropout import dropout
from foretell.models.registry import build_model
from reference.making import CHOICES, SHAPES, VECTOR, random_batch, small_model

kinds = pytest.mark.parametrize("kind", SHAPES)


def _sigmoid(values):
    return 1 / (1 + np.exp(-values))


def _linear(weights, name, values):
    return values @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def run_slowly(model, window, masks):
    """One unpadded window `(time, ...)`, gate by gate; `masks` scale the embedding and every layer's outputs."""
    weights = {name: value.double().numpy() for name, value in model.state_dict().items()}
    actions = np.eye(model.shape.action_dim)[window["actions"]] if model.shape.discrete else window["actions"]
    previous = np.concatenate([np.zeros_like(actions[:1]), actions[:-1]])
    inputs = (
        _linear(weights, "embed_return", window["returns_to_go"])
        + _linear(weights, "embed_observation", window["observations"])
        + _linear(weights, "embed_action", previous)
    ) * masks[0]
    width = inputs.shape[1]
    for layer in range(model.config.layers):
        hidden, cell, outputs = np.zeros(width), np.zeros(width), []
        for step in inputs:
            w = {
                name: weights[f"layers.{layer}.{name}_l0"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            }
            gates = w["weight_ih"] @ step + w["weight_hh"] @ hidden + w["bias_ih"] + w["bias_hh"]
            enter, forget, candidate, leave = gates.reshape(4, width)
            cell = _sigmoid(forget) * cell + _sigmoid(enter) * np.tanh(candidate)
            hidden = _sigmoid(leave) * np.tanh(cell)
            outputs.append(hidden)
        inputs = np.stack(outputs) * masks[layer + 1]
    predicted = _linear(weights, "action_head", inputs)
    return predicted if model.shape.discrete else np.tanh(predicted)


def _window(batch, row):
    real = batch.mask[row].numpy()
    return {name: values[row].numpy()[real] for name, values in vars(batch).items() if name != "goals"}


@kinds
@pytest.mark.parametrize("layers", [1, 2])
@torch.no_grad()
def test_outputs_are_those_of_the_slow_loop(kind, layers):
    model = small_model("lstm", SHAPES[kind], layers=layers)
    batch = random_batch(SHAPES[kind], real=(5, 3, 1), time=5, padding_seed=3)
    found = model(batch).numpy()
    for row, count in enumerate((5, 3, 1)):
        expected = run_slowly(model, _window(batch, row), [1.0] * (layers + 1))
        np.testing.assert_allclose(found[row, 5 - count :], expected, atol=1e-5)
        np.testing.assert_allclose(model(batch, last_only=True).numpy()[row], expected[-1:], atol=1e-5)


@torch.no_grad()
def test_dropout_falls_between_layers_and_never_on_what_is_carried_in_time():
    model = small_model("lstm", layers=2, dropout=0.4)
    batch = random_batch(real=(4, 4))
    generator, ones = torch.Generator().manual_seed(7), torch.ones(2, 4, 16)
    masks = [dropout(ones, 0.4, generator).numpy() for _ in range(3)]
    found = model(batch, torch.Generator().manual_seed(7)).numpy()
    for row in range(2):
        expected = run_slowly(model, _window(batch, row), [mask[row] for mask in masks])
        np.testing.assert_allclose(found[row], expected, atol=1e-5)
    assert np.abs(found - model(batch).numpy()).max() > 1e-2


@kinds
@torch.no_grad()
def test_it_remembers_the_windows_first_timestep_and_not_what_lies_before(kind):
    model = small_model("lstm", SHAPES[kind])
    batch = random_batch(SHAPES[kind], real=(4, 2))
    for name in ("observations", "actions", "returns_to_go"):
        values = getattr(batch, name).clone()
        values[0, 0], values[1, :2] = getattr(random_batch(SHAPES[kind], seed=1), name)[0, 0], values[0, :2]
        change = (model(replace(batch, **{name: values})) - model(batch)).abs()
        assert float(change[0, -1].max()) > 1e-3, name
        assert float(change[1].max()) == 0.0, name


@torch.no_grad()
def test_timesteps_are_counted_by_the_recurrence_alone():
    model, batch = small_model("lstm"), random_batch(real=(4, 3))
    later = replace(batch, timesteps=batch.timesteps + 10)
    assert torch.equal(model(later), model(batch))


def test_initial_weights_are_uniform_by_fan_in_and_forget_gates_start_open():
    config = asdict(LSTMConfig(width=96, layers=2))
    model = build_model("lstm", config, VECTOR, torch.Generator().manual_seed(0))
    for layer in model.layers:
        for weight in (layer.weight_ih_l0, layer.weight_hh_l0):
            found, bound = weight.detach(), 1 / math.sqrt(96)
            assert float(found.abs().max()) == pytest.approx(bound, rel=0.01)
            assert float(found.std()) == pytest.approx(bound / math.sqrt(3), rel=0.02)
        total = (layer.bias_ih_l0 + layer.bias_hh_l0).detach().reshape(4, 96)
        assert total.tolist() == [[0.0] * 96, [1.0] * 96, [0.0] * 96, [0.0] * 96]  # input, forget, cell, output


def test_its_size_is_that_of_its_parts():
    model = build_model("lstm", asdict(LSTMConfig(width=8, layers=3)), CHOICES, torch.Generator())
    embeddings = (1 + 1) * 8 + (3 + 1) * 8 + (4 + 1) * 8
    assert sum(p.numel() for p in model.parameters()) == embeddings + 3 * (4 * 8 * (8 + 8) + 2 * 4 * 8) + (8 + 1) * 4


def test_under_autocast_the_recurrent_layers_stay_in_the_numbers_of_their_weights():
    """On a GPU cuDNN's would be float16, whose small gradients vanish."""
    model, seen = small_model("lstm"), []
    for layer in model.layers:
        layer.register_forward_hook(lambda _, inputs, outputs: seen.append((inputs[0].dtype, outputs[0].dtype)))
    batch = random_batch(VECTOR)
    with torch.autocast("cpu", torch.bfloat16):
        loss = model.loss(batch, None)
    loss.backward()
    assert seen == [(torch.float32, torch.float32)] * len(model.layers)
    assert float(loss.detach()) == pytest.approx(float(model.loss(batch, None).detach()), rel=0.05)
