from __future__ import annotations

import copy
import re
from unittest import mock

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from faults.divergence import KINDS, cases, injected, problems, start, weights_of
from foretell.agents.configs import SACConfig
from foretell.agents.sac import SoftActorCritic, Transitions
from foretell.core.errors import DivergedError
from foretell.models.finite import all_finite, where_not_finite
from foretell.sequences.windows import WindowSampler
from foretell.training.checked_sac import CheckedActorCritic, NotFiniteError
from foretell.training.configs import TrainingConfig, learning_rate_at
from foretell.training.sac import KEPT_EVERY, SACTraining
from foretell.training.sequence import SequenceTraining
from reference.making import make_dataset, scaled, small_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("divergence")


@pytest.mark.parametrize(
    ("name", "what", "part", "at"), [(name, *case) for name in KINDS for case in cases(name, full=False)]
)
def test_what_is_not_finite_stops_training_and_is_named(name, what, part, at, folder, tmp_path):
    assert problems(name, what, part, at, folder, tmp_path / "run") == []


def test_a_weight_that_no_loss_has_seen_is_caught_before_it_is_saved(folder, tmp_path):
    """The embedding of a timestep that is in none of the batches: losses and gradients stay finite."""
    kind, plain = KINDS["decision-transformer"], WindowSampler.batch

    def early(self, update, batch_size):
        batch = plain(self, update, batch_size)
        batch.timesteps.clamp_(max=150)
        return batch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WindowSampler, "batch", early)
        for name, at in (("checkpoint", 4), ("last", 9)):
            out = tmp_path / name
            with _damaged(kind, at):
                code, err = start(kind, folder, out)
            assert code == 5, err
            assert "embed_timestep.weight is not finite; nothing was saved" in err
            kept = sorted(out.glob("checkpoints/update-*"))
            assert int(kept[-1].name.removeprefix("update-")) == at - at % 3
            for path in kept:
                assert all(bool(torch.isfinite(one).all()) for one in load_file(path / "state.safetensors").values())
            assert not (out / "model.safetensors").exists()
            assert start(kind, folder, out) == (0, "")
        assert weights_of(tmp_path / "last/model.safetensors") == weights_of(tmp_path / "checkpoint/model.safetensors")


def _damaged(kind, at):
    plain = kind.training.update

    def update(self, number):
        if number == at:
            self.model.state_dict()["embed_timestep.weight"][170, 3] = torch.nan
        return plain(self, number)

    return mock.patch.object(kind.training, "update", update)


def _batch(rows=2):
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(rows, *shape, generator=generator)

    return Transitions(
        observations=draw(3), actions=draw(1).tanh(), rewards=draw(), next_observations=draw(3),
        terminations=torch.zeros(rows, dtype=torch.bool),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"weight": torch.tensor([[0.0, -torch.inf]])}, r"the weight w holds -inf at \[0, 1\]. Run the same command"),
        ({"row": (1, 2)}, "observations of the batch hold nan at row 1, component 2. Run `foretell inspect`"),
        ({"loss": torch.tensor(torch.inf)}, "the loss is inf, though batch and weights are finite"),
        ({"gradient": torch.tensor([1.0, torch.nan])}, r"the gradient of w holds nan at \[1\], though the loss is"),
        ({"gradient": torch.tensor([1.0, 3e25])}, "the gradient of w reaches 3e[+]25, whose square outgrows float32"),
        ({}, "all are when they are computed again"),
    ],
)
def test_causes_are_named_before_their_effects(change, expected):
    batch = _batch()
    if "row" in change:
        batch.observations[change["row"]] = torch.nan
    said = where_not_finite(
        batch, ("row",), {"w": change.get("weight", torch.zeros(2))}, {"loss": change.get("loss", torch.tensor(1.0))},
        {"w": change.get("gradient", torch.ones(2))},
    )  # fmt: skip
    assert re.search(expected, said), said


@pytest.mark.parametrize("form", ["twin-q", "value"])
def test_a_checked_agent_takes_the_same_steps_bit_for_bit(form):
    config = SACConfig(form=form, hidden_sizes=(8,))
    agents = [kind(config, 3, 1, torch.Generator().manual_seed(1)) for kind in (SoftActorCritic, CheckedActorCritic)]
    noise = torch.randn(8, 1, generator=torch.Generator().manual_seed(2))
    for _ in range(5):
        found = [agent.update(_batch(4), noise) for agent in agents]
        assert {k: v.item() for k, v in found[0].items()} == {k: v.item() for k, v in found[1].items()}
    for name, weight in agents[0].state_dict().items():
        assert torch.equal(weight, agents[1].state_dict()[name]), name


def test_a_loss_that_overflows_with_finite_gradients_is_caught():
    agent = CheckedActorCritic(SACConfig(hidden_sizes=(8,)), 3, 1, torch.Generator().manual_seed(1))
    before = copy.deepcopy(agent.state_dict())
    batch = _batch(4)
    batch.rewards[0] = 1e25
    with pytest.raises(NotFiniteError, match="q"):
        agent.update(batch, torch.zeros(8, 1))
    assert all(torch.equal(weight, agent.state_dict()[name]) for name, weight in before.items())


@pytest.mark.parametrize(("numbers", "finite"), [
    ([3e38, 3e38, 3e38], True), ([3e38, -3e38, 3e38, 3e38], True), ([1.0, np.nan], False), ([np.inf, 1.0], False),
    ([np.inf, -np.inf], False), ([3e38, 3e38, np.nan], False), ([], True),
])  # fmt: skip
@pytest.mark.filterwarnings("error")
def test_numbers_are_finite_though_their_sum_is_not(numbers, finite):
    batch = _batch(2)
    object.__setattr__(batch, "rewards", torch.tensor(numbers))
    assert all_finite(batch, torch.tensor(1.0)) is finite
    batch.rewards.requires_grad_()
    assert all_finite(batch) is finite


def test_a_loss_alone_that_is_not_finite_stops_a_sequence_model(monkeypatch):
    """Gradients are finite: of a loss that overflowed in a sum, say."""
    config = TrainingConfig(updates=4, batch_size=4, warmup_updates=1)
    sampler = WindowSampler(make_dataset([9, 5]), scaled(), context_length=4, seed=0)
    training = SequenceTraining(small_model("decision-transformer"), sampler, config, 0)
    real = type(training.model).loss
    monkeypatch.setattr(type(training.model), "loss", lambda *args: real(*args) + torch.tensor(torch.inf))
    before = copy.deepcopy(training.model.state_dict())
    with pytest.raises(DivergedError, match="the loss is inf"):
        training.update(0)
    assert all(torch.equal(weight, training.model.state_dict()[name]) for name, weight in before.items())


def _loss_not_finite(model, written):
    return written * torch.inf


def _gradient_not_finite(model, written):
    model.embed_norm.bias.grad[-1] = torch.nan
    return written


@pytest.mark.parametrize(
    ("damage", "said"),
    [(_loss_not_finite, "the loss is inf"), (_gradient_not_finite, "the gradient of embed_norm.bias holds nan")],
)
def test_what_is_not_finite_among_written_gradients_stops_a_sequence_model(damage, said, monkeypatch):
    """A Decision Transformer writes its gradients without a graph where nobody looks on: as in a run of every day."""
    config = TrainingConfig(updates=4, batch_size=4, warmup_updates=1)
    sampler = WindowSampler(make_dataset([9, 5]), scaled(), context_length=4, seed=0)
    training = SequenceTraining(small_model("decision-transformer"), sampler, config, 0)
    training.update(0)
    before, real = copy.deepcopy(training.model.state_dict()), training.model.write_gradients
    monkeypatch.setattr(training.model, "write_gradients", lambda *args: damage(training.model, real(*args)))
    with pytest.raises(DivergedError, match=f"update 1: {said}"):
        training.update(1)
    assert all(torch.equal(weight, training.model.state_dict()[name]) for name, weight in before.items())


def _play_on(training):
    while True:
        training.act_and_record()
        if training.replay.size > training.config.learning_starts:
            training.update()


def test_an_update_is_taken_back_across_a_copy():
    """A fault right behind a copy and one far behind it: the agent is the one of before, moments of Adam included."""
    kind = KINDS["sac (value)"]
    for at in (2 * KEPT_EVERY, 2 * KEPT_EVERY + 37):
        training = SACTraining(
            "Pendulum-v1",
            SACConfig(form="value", total_steps=400, learning_starts=180, hidden_sizes=(4,), batch_size=4),
            0,
        )
        training.begin_episode()
        stopped = pytest.raises(DivergedError, match=f"step {at}")
        with injected(kind, "gradient", "policy.mlp.weights.0", at) as kept, stopped:
            _play_on(training)
        assert kept == [True]
        assert training.replay.size == at


def test_updates_of_a_sequence_model_are_those_of_torch_clipping():
    config = TrainingConfig(updates=4, batch_size=4, warmup_updates=1, clip_norm=0.05)
    sampler = WindowSampler(make_dataset([9, 5]), scaled(), context_length=4, seed=0)
    training = SequenceTraining(small_model("decision-transformer"), sampler, config, 0)
    model = small_model("decision-transformer")
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    for update in range(4):
        training.update(update)
        optimizer.zero_grad()
        model.loss(sampler.batch(update, 4), torch.Generator()).backward()
        assert float(nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)) > config.clip_norm
        optimizer.param_groups[0]["lr"] = learning_rate_at(config, update)
        optimizer.step()
    for name, weight in model.state_dict().items():
        np.testing.assert_array_equal(weight.numpy(), training.model.state_dict()[name].numpy(), err_msg=name)
