"""The update that a GPU takes as one graph, computed here on the CPU: equal to the plain one, and as safe."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
from dataclasses import replace
from importlib import import_module

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from foretell.core.errors import DivergedError
from foretell.models.registry import MODELS
from foretell.sequences.resident import ResidentWindows
from foretell.sequences.windows import WindowSampler
from foretell.training import placing
from foretell.training.captured import CapturedTraining
from foretell.training.configs import TrainingConfig, learning_rate_at
from foretell.training.native import muon as native_muon
from foretell.training.placing import CAPTURABLE, PLACEABLE
from foretell.training.sequence import SequenceTraining
from foretell.training.together import Meeting
from reference.making import IDENTITY, SHAPES, VECTOR, make_dataset, scaled, small_model

CONFIG = TrainingConfig(updates=40, batch_size=6, warmup_updates=3, log_every=4, learning_rate=1e-3)


def _sampler(**columns):
    return WindowSampler(make_dataset([9, 5, 14], **columns), scaled(), context_length=4, seed=0)


def _captured(sampler, name="decision-transformer", config=CONFIG, **changes):
    model = small_model(name, **changes)
    return CapturedTraining(model, ResidentWindows(sampler, torch.device("cpu")), config, seed=3)


@pytest.mark.parametrize("name", PLACEABLE)
@pytest.mark.parametrize(("optimizer", "dropout"), [("adamw", 0.0), ("adamw", 0.25), ("muon", 0.25)])
def test_twenty_updates_leave_the_plain_weights(name, optimizer, dropout, monkeypatch):
    # A graph holds PyTorch's operators. Muon steps as far where the gradients of six windows are nothing but rounding,
    # so that other operators lead elsewhere; one step of both is compared in test_clipped_muon.py.
    monkeypatch.setattr(native_muon, "step", lambda *_, **__: False)
    sampler, config = _sampler(), replace(CONFIG, optimizer=optimizer)
    plain = SequenceTraining(small_model(name, dropout=dropout), sampler, config, seed=3)
    captured = _captured(sampler, name, config, dropout=dropout)
    first = {key: value.clone() for key, value in plain.model.state_dict().items()}
    for update in range(20):
        expected, found = plain.update(update), captured.update(update)
        assert float(found["loss"]) == pytest.approx(float(expected["loss"]), rel=1e-5)
        assert found["learning_rate"] == expected["learning_rate"] == learning_rate_at(CONFIG, update)
    for key, value in plain.state().items():
        torch.testing.assert_close(captured.state()[key], value, rtol=0.0, atol=1e-6, msg=key)
    assert any((value - first[key]).abs().max() > 1e-3 for key, value in plain.model.state_dict().items())


def test_a_later_start_takes_the_same_updates():
    straight, sampler = _captured(_sampler(), dropout=0.25), _sampler()
    for update in range(7):
        straight.update(update)
    kept = {name: value.clone() for name, value in straight.state().items()}
    again = _captured(sampler, dropout=0.25)
    again.load_state(kept)
    for update in range(7, 12):
        straight.update(update)
        again.update(update)
    for name, value in straight.state().items():
        assert torch.equal(again.state()[name], value), name


def _poison(training, at):
    """Let the observations of update `at` be NaN, as they come from the device."""
    gather = training.windows.gather

    def poisoned(rows):
        batch = gather(rows)
        if torch.equal(rows, training.windows.rows(at, CONFIG.batch_size)):
            batch.observations[2, -1, 1] = torch.nan
        return batch

    training.windows.gather = poisoned


def test_an_update_that_is_not_finite_changes_nothing_nor_does_a_later_one():
    training, straight = _captured(_sampler()), _captured(_sampler())
    _poison(training, at=5)
    for update in range(5):
        training.update(update)
        straight.update(update)
    before = {name: value.clone() for name, value in straight.state().items()}
    training.update(5)  # nobody reads it
    training.update(6)
    with pytest.raises(DivergedError, match=r"update 5: observations of the batch hold nan at window 2, timestep 3"):
        training.update(7)  # the loss of the eighth is logged
    with pytest.raises(DivergedError, match="update 5"):
        training.state()
    for name, value in SequenceTraining.state(training).items():
        assert torch.equal(value, before[name]), name


def test_what_was_not_finite_is_forgotten_with_the_state_that_it_froze():
    training, straight = _captured(_sampler()), _captured(_sampler())
    start = {name: value.clone() for name, value in straight.state().items()}
    gather = training.windows.gather
    _poison(training, at=0)
    for update in range(3):
        training.update(update)
    with pytest.raises(DivergedError, match="update 0"):
        training.update(3)
    training.windows.gather = gather
    training.load_state(start)
    for update in range(4):
        training.update(update)
        straight.update(update)
    for name, value in straight.state().items():
        torch.testing.assert_close(training.state()[name], value, rtol=0.0, atol=1e-6, msg=name)


def test_bfloat16_rounds_the_passes_and_not_the_weights():
    sampler = _sampler()
    plain, rounded = (
        SequenceTraining(small_model("decision-transformer", spread=0.0), sampler, CONFIG, 3, precision)
        for precision in ("float32", "bfloat16")
    )
    for update in range(10):
        exact, near = (float(training.update(update)["loss"]) for training in (plain, rounded))
        assert near == pytest.approx(exact, rel=0.05)
    assert near != exact
    assert {value.dtype for value in rounded.state().values()} == {torch.float32}
    assert rounded.update(10)["loss"].dtype == torch.float32


def _without_numbers(name, shape):
    """Take forward and backward pass on torch's device of shapes without numbers. There, a tensor of another device
    among the others and a number that is asked for are errors: what a graph cannot hold either."""
    nowhere = torch.device("meta")
    data = make_dataset([9, 5, 14], shape=shape)
    sampler = WindowSampler(data, IDENTITY if shape.discrete else scaled(), context_length=4, seed=0)
    windows, model = ResidentWindows(sampler, nowhere), small_model(name, shape, dropout=0.1).to(nowhere)
    loss = model.loss(windows.gather(windows.rows(0, 6)), torch.Generator())
    loss.backward()
    assert {one.grad.device if one.grad is not None else None for one in model.parameters()} == {nowhere}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("name", CAPTURABLE)
def test_capturable_networks_read_nothing_back(name, shape):
    _without_numbers(name, shape)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("name", PLACEABLE)
def test_placeable_networks_compute_where_their_batch_lies(name, shape, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "__bool__", lambda tensor: False)
    _without_numbers(name, shape)


@pytest.mark.parametrize("name", sorted({*MODELS} - {*CAPTURABLE}))
def test_the_others_do(name):
    with pytest.raises((RuntimeError, NotImplementedError), match=r"item\(\)|expected device|nonzero|cannot be called"):
        _without_numbers(name, VECTOR)


@pytest.fixture
def nowhere(monkeypatch):
    """Torch's device of shapes without numbers, made to take whole updates: it knows neither generators nor PyTorch's
    fused AdamW, nor autocast, which is left out."""
    generator, library = torch.Generator, torch.library.Library("aten", "IMPL", "Meta")
    library.impl("_fused_adamw_.tensor_lr", lambda *_, **__: None)
    monkeypatch.setattr(torch, "Generator", lambda *_: generator())
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    monkeypatch.setattr(import_module("torch.optim.adam"), "_device_dtype_check_for_fused", lambda parameter: None)
    yield torch.device("meta")
    library._destroy()


class _Watch(TorchDispatchMode):
    """Notes what is called with a tensor that lies on the CPU, and what asks for a number or a count of them."""

    def __init__(self):
        super().__init__()
        self.refused, self.count = set(), Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        tensors = [one for one in tree_leaves((args, kwargs, found)) if isinstance(one, torch.Tensor)]
        self.count[str(func)] += 1
        if any(one.is_cpu for one in tensors) or "local_scalar" in str(func) or "nonzero" in str(func):
            self.refused.add(str(func))
        return found


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize(("name", "optimizer"), [(CAPTURABLE[0], "muon"), *((name, "adamw") for name in CAPTURABLE)])
def test_a_whole_update_stays_where_it_lies(name, optimizer, shape, nowhere):
    """Batch, passes, norm, clipping and optimiser: nothing that a graph could not hold."""
    data = make_dataset([9, 5, 14], shape=shape)
    sampler = WindowSampler(data, IDENTITY if shape.discrete else scaled(), context_length=4, seed=0)
    config = replace(CONFIG, optimizer=optimizer)
    model = small_model(name, shape, dropout=0.1).to(nowhere)
    training = CapturedTraining(model, ResidentWindows(sampler, nowhere), config, 3)
    for _ in range(2):  # the first makes the moments
        with _Watch() as watch:
            training.compute()
        assert not watch.refused
    assert "aten._fused_adamw_.tensor_lr" in watch.count
    assert {one.device for state in training.optimizer.state.values() for one in state.values()} == {nowhere}


@pytest.mark.parametrize("name", CAPTURABLE)
def test_the_units_that_dropout_keeps_are_drawn_by_one_kernel(name, nowhere):
    """Each kernel of a graph takes its microseconds, however little it does: a dozen draws would be a tenth of them."""
    model = small_model(name, dropout=0.1).to(nowhere)
    training = CapturedTraining(model, ResidentWindows(_sampler(), nowhere), CONFIG, 3)
    with _Watch() as watch:
        training.compute()
    assert watch.count["aten.random_.from"] == 1


def test_bfloat16_rounds_all_weights_by_one_kernel():
    model = small_model("decision-transformer", dropout=0.1)
    training = CapturedTraining(
        model, ResidentWindows(_sampler(), torch.device("cpu")), CONFIG, 3, precision="bfloat16"
    )  # fmt: skip
    learned = [one for one in model.parameters() if one.requires_grad]
    with _Watch() as watch:
        training.compute()
    assert watch.count["aten._foreach_copy_.default"] == 2  # there and back
    assert watch.count["aten._to_copy.default"] < len(learned)


def test_what_is_placed_on_a_device_meets_where_it_is_told_to(nowhere, monkeypatch):
    monkeypatch.setattr(placing, "_fits", lambda sampler, place: True)
    meeting = Meeting(1)
    place = placing.Place(device=nowhere, meeting=meeting)
    training = placing.placed(place, CAPTURABLE[0], small_model(CAPTURABLE[0]), _sampler(), CONFIG, 3)
    assert isinstance(training, CapturedTraining)
    assert training.meeting is meeting
