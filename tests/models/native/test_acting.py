"""The short way from windows to the next action beside `forward`, and where it is not to be taken."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from conformance.checks import notices
from foretell.evaluation.conditioned import ConditionedPolicy
from foretell.models import decision_transformer
from foretell.models.configs import DecisionTransformerConfig
from foretell.models.decision_transformer import DecisionTransformer
from reference.making import CHOICES, VECTOR, random_batch, scaled, small_model

CONFIG = DecisionTransformerConfig(context_length=4, width=24, layers=2, heads=2, dropout=0.2)
CASES = {
    "learned timesteps": CONFIG,
    "sinusoidal timesteps": replace(CONFIG, timestep_embedding="sinusoidal"),
    "unbounded actions": replace(CONFIG, action_head="linear"),
    "one timestep": replace(CONFIG, context_length=1),
    "a long window": replace(CONFIG, context_length=12),
}


def _model(config=CONFIG, shape=VECTOR):
    return DecisionTransformer(config, shape, torch.Generator().manual_seed(0))


def _taken(model):
    """Whether the short way is: nobody who stands at `forward` sees it."""
    assert isinstance(model, DecisionTransformer)
    return model.reader().__name__ == "newest"


@torch.inference_mode()
def check_the_numbers_of_forward(config, shape=VECTOR):
    model = _model(config, shape)
    read = model.reader()
    assert _taken(model)
    longest = config.context_length
    batches = [
        random_batch(shape, real=real, time=time, seed=time)
        for real, time in [((3, 2, 1, 3), 3), ((longest,), longest), ((2, 2, 2), 2), ((1,), 1)]
        if time <= longest
    ]
    for batch in [*batches, *batches]:
        assert torch.equal(read(batch), model(batch, last_only=True)[:, -1])


@pytest.mark.parametrize("config", CASES.values(), ids=CASES)
def test_actions_are_those_of_forward_bit_for_bit(config, threads):
    check_the_numbers_of_forward(config)


def test_so_are_the_logits_of_discrete_actions():
    check_the_numbers_of_forward(CONFIG, CHOICES)


def test_a_mask_that_is_passed_over_is_noticed(monkeypatch):
    monkeypatch.setattr(
        DecisionTransformer, "_allowed", lambda self, batch: decision_transformer.unpadded_mask(self._count(batch))
    )
    notices(check_the_numbers_of_forward, CONFIG)


@torch.no_grad()
def test_weights_that_go_on_learning_are_read():
    model, batch = _model(), random_batch(VECTOR)
    read = model.reader()
    before = read(batch)
    for parameter in model.parameters():
        parameter.add_(0.1)
    assert not torch.equal(read(batch), before)
    assert torch.equal(read(batch), model(batch, last_only=True)[:, -1])


@torch.no_grad()
def test_a_network_that_goes_elsewhere_meanwhile_is_still_the_one_that_acts():
    """Its memory is given back then: nothing reads what lay there."""
    model, batch = _model(), random_batch(VECTOR)
    read = model.reader()
    before = read(batch)
    model.share_memory()
    assert torch.equal(read(batch), before)
    model.double()
    with pytest.raises(RuntimeError, match="same dtype"):
        read(batch)
    model.float()
    assert torch.equal(read(batch), before)


def test_gradients_of_what_was_read_are_there_where_they_are_wanted():
    model, batch = _model(), random_batch(VECTOR)
    model.reader()(batch).sum().backward()
    assert model.embed_return.weight.grad is not None


def test_threads_and_environments_may_change_between_calls(threads):
    model, batch, fewer = _model(), random_batch(VECTOR), random_batch(VECTOR, real=(4, 3))
    with torch.no_grad():
        read = model.reader()
        expected = read(batch)
        torch.set_num_threads(2)
        torch.testing.assert_close(read(batch), expected)
        assert torch.equal(read(fewer), model(fewer, last_only=True)[:, -1])
        torch.testing.assert_close(read(batch), expected)


@torch.no_grad()
def test_a_timestep_without_an_embedding_is_refused():
    batch = random_batch(VECTOR)
    batch.timesteps[1, 0] = VECTOR.max_timesteps
    with pytest.raises(IndexError, match=f"to {VECTOR.max_timesteps}; the table has embeddings for 0 to "):
        _model().reader()(batch)


@pytest.mark.parametrize("part", ["", "embed_action", "transformer.blocks.1", "transformer.blocks.0.norm_attention"])
def test_who_looks_on_at_a_module_is_called(part):
    model, seen = _model(), []
    model.get_submodule(part).register_forward_hook(lambda *_: seen.append(part))
    assert not _taken(model)
    model.reader()(random_batch(VECTOR))
    assert seen == [part]


def test_a_forward_of_ones_own_is_what_acts():
    class Still(DecisionTransformer):
        def forward(self, batch, generator=None, *, last_only=False):
            return torch.zeros(len(batch.mask), 1, self.shape.action_dim)

    model = Still(CONFIG, VECTOR, torch.Generator().manual_seed(0))
    assert not _taken(model)
    assert not model.reader()(random_batch(VECTOR)).any()


@torch.no_grad()
def test_other_numbers_and_images_go_the_long_way():
    assert not _taken(_model().double())
    assert not _taken(_model(shape=replace(VECTOR, observation_shape=(3, 64, 64))))
    model, batch = _model(), random_batch(VECTOR)
    doubled = replace(batch, observations=batch.observations.double())
    with pytest.raises(RuntimeError, match="same dtype"):  # as forward says it
        model.reader()(doubled)


@pytest.mark.parametrize("name", ["decision-transformer", "mlp", "lstm", "encoder-decoder"])
@torch.inference_mode()
def test_every_model_reads_what_it_predicts(name):
    model = small_model(name)
    batch = random_batch(model.shape, time=model.config.context_length)
    assert torch.equal(model.reader()(batch), model(batch, last_only=True)[:, -1])


def test_a_policy_asks_again_at_each_episode():
    policy = ConditionedPolicy(_model(), scaled(VECTOR.action_dim), 0.0)
    seen = []
    policy.reset(2)
    start = np.zeros((2, *VECTOR.observation_shape))
    before = policy.act(start)
    policy.model = _model(replace(CONFIG, layers=1))
    policy.model.register_forward_hook(lambda *_: seen.append(1))
    policy.reset(2)
    assert not np.array_equal(policy.act(start), before)
    assert seen == [1]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda policy: pickle.loads(pickle.dumps(policy))])
def test_a_copy_of_a_policy_acts_with_its_own_network(copied):
    policy, start = (
        ConditionedPolicy(_model(), scaled(VECTOR.action_dim), 0.0),
        np.zeros((2, *VECTOR.observation_shape)),
    )
    policy.reset(2)
    policy.act(start)
    policy.observe(np.zeros(2))
    other = copied(policy)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.add_(1.0)
    fresh = ConditionedPolicy(_model(), scaled(VECTOR.action_dim), 0.0)
    fresh.reset(2)
    fresh.act(start)
    fresh.observe(np.zeros(2))
    assert np.array_equal(other.act(start), fresh.act(start))
