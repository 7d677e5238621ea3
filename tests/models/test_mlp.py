"""The network of one timestep: worked by hand, against a slow loop, and what the return does in it."""

from __future__ import annotations

import math
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from foretell.models.configs import MLPConfig, SequenceShape
from foretell.models.dropout import dropout
from foretell.models.registry import build_model
from foretell.sequences.batch import SequenceBatch
from reference.making import CHOICES, SHAPES, VECTOR, each, random_batch, small_config, small_model

kinds = pytest.mark.parametrize("kind", SHAPES)


def _batch(observations, returns_to_go, timesteps, actions):
    return SequenceBatch(
        observations=torch.tensor(observations), returns_to_go=torch.tensor(returns_to_go)[..., None],
        timesteps=torch.tensor(timesteps), actions=torch.tensor(actions)[..., None],
        rewards=torch.zeros(len(timesteps), len(timesteps[0])),
        terminations=torch.zeros(len(timesteps), len(timesteps[0]), dtype=torch.bool),
        mask=torch.ones(len(timesteps), len(timesteps[0]), dtype=torch.bool),
    )  # fmt: skip


@torch.no_grad()
def test_worked_by_hand():
    """Units max(0, 2 o + R + 1) and max(0, -o + 4 t / 8); their difference, and the tanh of it."""
    shape = SequenceShape(observation_shape=(1,), action_dim=1, discrete=False, max_timesteps=8)
    batch = _batch([[[1.0], [-3.0]]], [[0.5, 2.0]], [[6, 7]], [[0.0, 1.0]])
    for head, last in (("linear", lambda value: value), ("tanh", math.tanh)):
        model = build_model("mlp", asdict(MLPConfig(width=2, layers=1, action_head=head)), shape, torch.Generator())
        model.embed_observation.weight[:] = torch.tensor([[2.0], [-1.0]])
        model.embed_observation.bias[:] = torch.tensor([1.0, 0.0])
        model.embed_return_and_time.weight[:] = torch.tensor([[1.0, 0.0], [0.0, 4.0]])
        model.action_head.weight[:] = torch.tensor([[1.0, -1.0]])
        expected = [3.5 - 2.0, 0.0 - 6.5]  # 2 + 0.5 + 1 and -1 + 3; -6 + 2 + 1 and 3 + 3.5
        found = model(batch)[0, :, 0].tolist()
        assert found == pytest.approx([last(value) for value in expected], rel=1e-6)
        loss = float(model.loss(batch))
        assert loss == pytest.approx((found[0] ** 2 + (found[1] - 1) ** 2) / 2, rel=1e-6)


def _relu(values):
    return np.maximum(values, 0)


def _gelu(values):
    return 0.5 * values * (1 + np.tanh(math.sqrt(2 / math.pi) * (values + 0.044715 * values**3)))


def run_slowly(model, activation, batch, masks):
    """All timesteps in one product after another, as a network of the features side by side."""
    weights = {name: value.double().numpy() for name, value in model.state_dict().items()}
    time = batch.timesteps.numpy()[..., None] / model.shape.max_timesteps
    features = np.concatenate([batch.observations.numpy(), batch.returns_to_go.numpy(), time], axis=-1)
    first = np.hstack([weights["embed_observation.weight"], weights["embed_return_and_time.weight"]])
    hidden = activation(features @ first.T + weights["embed_observation.bias"]) * masks[0]
    for layer in range(model.config.layers - 1):
        weight, bias = weights[f"hidden.{layer}.weight"], weights[f"hidden.{layer}.bias"]
        hidden = activation(hidden @ weight.T + bias) * masks[layer + 1]
    predicted = hidden @ weights["action_head.weight"].T + weights["action_head.bias"]
    return predicted if model.shape.discrete else np.tanh(predicted)


@kinds
@pytest.mark.parametrize(("name", "activation"), [("relu", _relu), ("gelu", _gelu)])
@pytest.mark.parametrize("layers", [1, 3])
@torch.no_grad()
def test_outputs_are_those_of_the_slow_network(kind, name, activation, layers):
    config = replace(small_config("mlp", layers=layers, dropout=0.4), activation=name)
    model = build_model("mlp", asdict(config), SHAPES[kind], torch.Generator().manual_seed(0))
    batch = random_batch(SHAPES[kind], real=(6, 6), time=6)
    ones, generator = torch.ones(2, 6, 16), torch.Generator().manual_seed(7)
    masks = [dropout(ones, 0.4, generator).numpy() for _ in range(layers)]
    expected = run_slowly(model, activation, batch, masks)
    np.testing.assert_allclose(model(batch, torch.Generator().manual_seed(7)).numpy(), expected, atol=1e-5)
    expected = run_slowly(model, activation, batch, [1.0] * layers)
    np.testing.assert_allclose(model(batch).numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(model(batch, last_only=True).numpy(), expected[:, -1:], atol=1e-5)


@torch.no_grad()
def test_timesteps_know_nothing_of_each_other():
    model, batch = small_model("mlp"), random_batch(real=(5,), time=5)
    order = torch.tensor([3, 0, 4, 1, 2])
    shuffled = each(batch, lambda values: values[:, order])
    torch.testing.assert_close(model(shuffled), model(batch)[:, order])
    other = replace(batch, actions=random_batch(real=(5,), time=5, seed=1).actions)
    assert torch.equal(model(other), model(batch))


@torch.no_grad()
def test_time_is_a_share_of_the_longest_episode():
    half = small_model("mlp", replace(VECTOR, max_timesteps=15))
    whole = small_model("mlp", VECTOR)
    batch = random_batch(real=(4, 4))
    twice = replace(batch, timesteps=2 * batch.timesteps)
    torch.testing.assert_close(whole(twice), half(batch))
    assert float((whole(batch) - half(batch)).abs().max()) > 1e-3


def _predictions(held):
    """Learn, from 256 timesteps whose action is half their return, with or without telling the return."""
    returns = np.random.default_rng(0).uniform(-1, 1, (256, 1)).astype(np.float32)
    shape = SequenceShape(observation_shape=(1,), action_dim=1, discrete=False, max_timesteps=1)
    batch = _batch(np.zeros((256, 1, 1), np.float32), returns, [[0]] * 256, returns / 2)
    told = replace(batch, returns_to_go=torch.zeros_like(batch.returns_to_go)) if held else batch
    model = build_model("mlp", asdict(MLPConfig(width=32)), shape, torch.Generator().manual_seed(0))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(200):
        optimizer.zero_grad()
        loss = model.loss(told)
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        asked = _batch(np.zeros((3, 1, 1), np.float32), [[-0.8], [0.0], [0.8]], [[0]] * 3, [[0.0]] * 3)
        asked = replace(asked, returns_to_go=torch.zeros_like(asked.returns_to_go)) if held else asked
        return model(asked)[:, 0, 0].tolist(), float(batch.actions.mean()), float(loss.detach()), batch.actions.var()


def test_with_the_return_it_does_what_earned_it_and_without_it_the_average():
    conditioned, _, loss, _ = _predictions(held=False)
    assert conditioned == pytest.approx([-0.4, 0.0, 0.4], abs=0.05)
    assert loss < 1e-3
    cloned, mean, loss, variance = _predictions(held=True)
    assert cloned == pytest.approx([mean] * 3, abs=0.02)
    assert loss == pytest.approx(float(variance), rel=0.05)


def test_it_sees_one_timestep_and_cannot_be_told_otherwise():
    assert MLPConfig.context_length == 1 == MLPConfig().context_length
    assert "context_length" not in asdict(MLPConfig())
    with pytest.raises(TypeError, match="context_length"):
        MLPConfig(context_length=3)


def test_its_size_is_that_of_its_layers():
    for layers in (1, 2, 4):
        model = build_model("mlp", asdict(MLPConfig(width=8, layers=layers)), CHOICES, torch.Generator())
        expected = (3 + 2 + 1) * 8 + (layers - 1) * (8 + 1) * 8 + (8 + 1) * 4
        assert sum(parameter.numel() for parameter in model.parameters()) == expected
