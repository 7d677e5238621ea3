"""What the C of a Decision Transformer leaves to PyTorch: what somebody looks on at, and what it does not know."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

from foretell.models.decision_transformer import DecisionTransformer
from foretell.models.layers import Block, masked_mean
from foretell.models.native import ends
from reference.making import VECTOR, padded_batch, small_config

CONFIG = small_config("decision-transformer", width=24, layers=1, heads=1)
PARTS = (
    "embed_action", "embed_norm", "embed_timestep", "transformer.norm", "action_head",
    "transformer.blocks.0.feedforward_in",
)  # fmt: skip


def _model(config=CONFIG):
    return DecisionTransformer(config, VECTOR, torch.Generator().manual_seed(0))


def _written(model, batch):
    loss = model.write_gradients(batch)
    assert loss is not None
    return [loss, *(parameter.grad.clone() for parameter in model.parameters())]


@pytest.mark.parametrize("part", ["", "embed_norm", "transformer.blocks.0", "action_head"])
@pytest.mark.parametrize("kind", ["forward", "forward_pre", "full_backward", "full_backward_pre"])
def test_who_looks_on_at_a_module_is_called(part, kind):
    model, seen = _model(CONFIG), []
    assert model.write_gradients(padded_batch(4)) is not None
    getattr(model.get_submodule(part), f"register_{kind}_hook")(lambda *_: seen.append(kind))
    assert model.write_gradients(padded_batch(4)) is None
    model.loss(padded_batch(4)).backward()
    assert seen


@pytest.mark.parametrize("kind", ["hook", "post_accumulate_grad_hook"])
def test_who_looks_on_at_a_gradient_is_called(kind):
    model, seen = _model(CONFIG), []
    getattr(model.embed_norm.bias, f"register_{kind}")(lambda *_: seen.append(kind))
    assert model.write_gradients(padded_batch(4)) is None
    model.loss(padded_batch(4)).backward()
    assert seen


class _Doubled(DecisionTransformer):
    def loss(self, batch, generator=None):
        return 2 * super().loss(batch, generator)


class _Still(DecisionTransformer):
    def forward(self, batch, generator=None, *, last_only=False):
        return 0 * super().forward(batch, generator, last_only=last_only)


@pytest.mark.parametrize("kind", [_Doubled, _Still])
def test_a_loss_or_forward_of_ones_own_is_the_one_that_is_descended(kind):
    batch, models = (
        padded_batch(4),
        [one(CONFIG, VECTOR, torch.Generator().manual_seed(0)) for one in (kind, DecisionTransformer)],
    )
    own, plain = (one.loss(batch) for one in models)
    expected = 2 * plain if kind is _Doubled else masked_mean(batch.actions.square().mean(-1), batch.mask)
    torch.testing.assert_close(own, expected)
    assert models[0].write_gradients(batch) is None


@pytest.mark.parametrize("part", PARTS)
def test_parts_of_another_kind_are_called(part):
    """A layer of an adapter, say, that knows more than a weight and a bias."""
    model, batch, called = _model(CONFIG), padded_batch(4), []
    found = model.get_submodule(part)

    class Adapted(type(found)):
        def forward(self, input):
            called.append(part)
            return super().forward(input)

    found.__class__ = Adapted
    if part.startswith("transformer.blocks"):
        found.more = torch.nn.Parameter(torch.zeros(1))
    assert model.write_gradients(batch) is None
    model.loss(batch).backward()
    assert called


@pytest.mark.parametrize("name", ["observations", "actions", "returns_to_go"])
def test_gradients_of_a_window_are_there_where_they_are_wanted(name):
    model, batch = _model(CONFIG), padded_batch(4)
    part = getattr(batch, name).requires_grad_()
    assert model.write_gradients(batch) is None
    model.loss(batch).backward()
    assert part.grad is not None
    assert part.grad.abs().sum() > 0


WRONG = {
    "a component too many": {"actions": torch.zeros(7, 4, 3)},
    "an observation too wide": {"observations": torch.zeros(7, 4, 4)},
    "a window too few": {"observations": torch.zeros(6, 4, 3)},
    "a timestep too few": {"returns_to_go": torch.zeros(7, 3, 1)},
    "a mask of another size": {"mask": torch.ones(7, 3, dtype=torch.bool)},
}


def _with(batch, **change):
    """As `replace`, past the checks of shapes that the tests are run with."""
    changed = copy.copy(batch)
    for name, value in change.items():
        object.__setattr__(changed, name, value)
    return changed


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_windows_that_do_not_fit_are_refused_as_by_pytorch(change):
    """By a sentence of PyTorch's, not by memory that is read or written past its end."""
    front, batch = _model()._front_parameters(), _with(padded_batch(4), **change)
    inputs = batch.returns_to_go, batch.observations, batch.actions
    assert not ends.fits(inputs, batch.timesteps, batch.mask, front)
    assert _model().write_gradients(batch) is None


@pytest.mark.parametrize("change", [lambda timesteps: timesteps.int(), lambda timesteps: timesteps[:1]])
def test_whole_numbers_of_other_sizes_and_shared_timesteps_are_read_by_pytorch(change):
    model, batch = _model(), padded_batch(4)
    front, inputs = model._front_parameters(), (batch.returns_to_go, batch.observations, batch.actions)
    assert ends.fits(inputs, batch.timesteps, batch.mask, front)
    assert not ends.fits(inputs, change(batch.timesteps), batch.mask, front)
    assert not ends.fits(inputs, batch.timesteps, batch.mask.int(), front)


def test_the_library_writes_its_own_kind_of_numbers():
    """Whatever somebody has told PyTorch to make tensors of."""
    model, batch = _model(CONFIG), padded_batch(4)
    expected = _written(model, batch)
    torch.set_default_dtype(torch.float64)
    try:
        found = [*_written(_copied(model), batch), model.loss(batch), model(batch)]
    finally:
        torch.set_default_dtype(torch.float32)
    for one, other in zip(found, [*expected, model.loss(batch), model(batch)], strict=True):
        assert torch.equal(one, other)


def test_the_last_blocks_learn_where_what_is_before_them_does_not():
    model, batch = _model(replace(CONFIG, layers=2)), padded_batch(4)
    front = [model.embed_return, model.embed_observation, model.embed_action, model.embed_timestep, model.embed_norm]
    for part in (*front, model.transformer.blocks[0]):
        part.requires_grad_(False)
    model.loss(batch).backward()
    assert all(one.grad is not None for one in model.transformer.blocks[1].parameters())


def _copied(model):
    found = copy.deepcopy(model)
    assert found._whole is not model._whole
    return found


def _pruned(model, block):
    prune.l1_unstructured(block.feedforward_in, "weight", amount=0.0)
    prune.remove(block.feedforward_in, "weight")


def _normed(model, block):
    parametrizations.weight_norm(block.feedforward_in)
    parametrize.remove_parametrizations(block.feedforward_in, "weight")


def _by_columns(model, block):
    state = {name: one.T.contiguous().T if one.ndim == 2 else one for name, one in model.state_dict().items()}
    model.load_state_dict(state, assign=True)


def _unbiased(model, block):
    block.feedforward_in = nn.Linear(block.feedforward_in.in_features, block.feedforward_in.out_features, bias=False)


def _narrower(model, block):
    width = block.feedforward_in.in_features
    block.feedforward_in, block.feedforward_out = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)


def _another_activation(model, block):
    block.activation = nn.functional.silu


def _without_a_norm(model, block):
    block.norm_attention = nn.Identity()


def _more_heads(model, block):
    block.heads = 4


def _a_head_by_columns(model, block):
    weight = model.action_head.weight
    model.action_head.weight = nn.Parameter(torch.empty(weight.shape[::-1]).T.copy_(weight.detach()))


CHANGES = (
    _pruned,
    _normed,
    _by_columns,
    _unbiased,
    _narrower,
    _another_activation,
    _without_a_norm,
    _more_heads,
    _a_head_by_columns,
)


@pytest.mark.parametrize("change", CHANGES)
def test_a_network_that_was_changed_is_computed_as_it_is(change):
    """C reads parameters of one order, size and layout; others were read past their end, or as if they were those."""
    model, batch = _model(replace(CONFIG, layers=2)), padded_batch(4)
    before = _written(model, batch)  # so that what is remembered of the network is from before
    torch.manual_seed(0)
    change(model, model.transformer.blocks[0])
    expected = copy.deepcopy(model)
    for module in expected.modules():
        module.register_forward_hook(lambda *_: None)  # PyTorch computes it
    _close(model.reader()(batch), expected(batch, last_only=True)[:, 0])
    model.zero_grad(set_to_none=True)
    loss = model.write_gradients(batch)
    if loss is None:
        loss = model.loss(batch)
        loss.backward()
    other = expected.loss(batch)
    other.backward()
    _close([loss, *(one.grad for one in model.parameters())], [other, *(one.grad for one in expected.parameters())])
    assert len(before) > 1


@pytest.mark.parametrize("part", ["feedforward_in", "norm_feedforward"])
def test_parts_in_another_precision_are_refused_by_pytorch(part):
    model = _model(replace(CONFIG, layers=2))
    getattr(model.transformer.blocks[1], part).double()
    with pytest.raises(RuntimeError, match=r"dtype|Double"):
        model(padded_batch(4))


@pytest.mark.parametrize("which", [0, 1])
def test_a_block_of_another_width_is_refused_by_pytorch(which):
    """Each part of it fits the others of that block, and no token fits any."""
    model, batch = _model(replace(CONFIG, layers=2)), padded_batch(4)
    _written(model, batch)
    model.transformer.blocks[which] = Block(16, 1, 0.0, "relu")
    assert model.write_gradients(batch) is None
    for call in (model, model.loss, model.reader()):
        with pytest.raises(RuntimeError, match="shape"):
            call(batch)


@pytest.mark.parametrize("part", ["embed_norm", "transformer.norm"])
def test_a_norm_of_another_width_is_refused_by_pytorch(part):
    model, batch = _model(CONFIG), padded_batch(4)
    parent, _, name = part.rpartition(".")
    setattr(model.get_submodule(parent), name, nn.LayerNorm(16))
    assert model.write_gradients(batch) is None
    for call in (model, model.loss, model.reader()):
        with pytest.raises(RuntimeError, match="shape"):
            call(batch)


def test_who_keeps_aliases_of_what_is_saved_gets_the_right_gradients():
    """Memory of a backward pass is lent again when nobody holds it: of an alias that cannot be told."""
    first, second = padded_batch(4), replace(padded_batch(4), returns_to_go=padded_batch(4).returns_to_go + 1)
    plain, watched = _model(CONFIG), _model(CONFIG)
    (plain.loss(first) + plain.loss(second)).backward()
    with torch.autograd.graph.saved_tensors_hooks(lambda one: one.detach(), lambda one: one):
        (watched.loss(first) + watched.loss(second)).backward()
    _close([one.grad for one in watched.parameters()], [one.grad for one in plain.parameters()])


def _close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
