"""Runs that are trained by Muon: which weights it moves, whom it is refused to, and older runs that knew no other."""

from __future__ import annotations

import json

import pytest
import torch

from foretell import facade
from foretell.core.errors import UsageError
from foretell.models.configs import MLPConfig
from foretell.models.registry import MODELS
from foretell.training.clipped_adamw import ClippedAdamW
from foretell.training.clipped_muon import ClippedMuon
from foretell.training.configs import TrainingConfig
from foretell.training.run_folder import RunFolder, read_events
from foretell.training.sequence import SequenceTraining
from reference.making import make_dataset, small_config, small_model

STORED = {"query_key_value": 3, "weight_ih": 4, "weight_hh": 4}
MUON = TrainingConfig(updates=40, batch_size=8, log_every=1, optimizer="muon", warmup_updates=5)


@pytest.mark.parametrize("name", MODELS)
def test_every_matrix_between_hidden_units_is_moved_and_nothing_else(name):
    model = small_model(name, layers=3) if name != "lstm" else small_model(name, layers=2)
    width = model.config.width
    found = {id(parameter): stored for parameter, stored in model.hidden_matrices()}
    assert found
    for key, parameter in model.named_parameters():
        outside = any(part in key for part in ("embed", "head", "position"))
        hidden = parameter.ndim == 2 and not outside and min(parameter.shape) >= width
        assert (id(parameter) in found) == hidden, key
        if hidden:
            expected = next((count for part, count in STORED.items() if part in key), 1)
            assert found[id(parameter)] == expected, key


@pytest.mark.parametrize(("optimizer", "kind"), [("adamw", ClippedAdamW), ("muon", ClippedMuon)])
def test_the_optimiser_is_the_one_asked_for(optimizer, kind):
    training = SequenceTraining(small_model("mlp"), None, TrainingConfig(optimizer=optimizer), seed=0)
    assert type(training.optimizer) is kind
    assert len(training.optimizer.parameters) == len(list(training.model.parameters()))


def test_the_loss_falls_and_is_another_than_adamws(tmp_path):
    data, losses = make_dataset([40, 30]), {}
    for optimizer in ("muon", "adamw"):
        training = TrainingConfig(updates=40, batch_size=8, log_every=1, optimizer=optimizer, warmup_updates=5)
        run = facade.train(data, tmp_path / optimizer, model=small_config("decision-transformer"), training=training)
        losses[optimizer] = [event["loss"] for event in read_events(run) if event["event"] == "training"]
        assert losses[optimizer][-1] < losses[optimizer][0]
    assert losses["muon"][0] == losses["adamw"][0]
    assert losses["muon"][5:] != losses["adamw"][5:]


def test_a_network_without_hidden_matrices_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(UsageError, match="optimizer muon moves matrices between hidden layers; this mlp has none"):
        facade.train(make_dataset([9]), tmp_path / "run", algorithm="mlp", model=MLPConfig(layers=1), training=MUON)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("settings", "message"), [
    ({"optimizer": "sgd"}, "optimizer is 'sgd'; expected one of adamw, muon"),
    ({"matrix_learning_rate": 0.1}, "matrix_learning_rate 0.1 is Muon's"),
    ({"optimizer": "muon", "matrix_learning_rate": 0.0}, "matrix_learning_rate is 0.0; expected a number above 0"),
])  # fmt: skip
def test_settings_that_mean_nothing_are_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        TrainingConfig(**settings)


def test_a_run_from_before_there_was_a_choice_is_continued_by_adamw_alone(tmp_path):
    RunFolder(tmp_path / "run", {"training": {"updates": 3}})
    before = (tmp_path / "run" / "config.json").read_bytes()
    RunFolder(tmp_path / "run", {"training": {"updates": 3, "optimizer": "adamw", "matrix_learning_rate": 0.01}})
    with pytest.raises(UsageError, match=r"training\.optimizer 'adamw' there, 'muon' here"):
        RunFolder(tmp_path / "run", {"training": {"updates": 3, "optimizer": "muon", "matrix_learning_rate": 0.01}})
    assert (tmp_path / "run" / "config.json").read_bytes() == before
    assert "optimizer" not in json.loads(before)["training"]


def test_a_run_by_muon_is_not_continued_by_adamw(tmp_path):
    data, model = make_dataset([40, 30]), small_config("decision-transformer")
    facade.train(data, tmp_path / "run", model=model, training=MUON)
    training = TrainingConfig(updates=40, batch_size=8, log_every=1, warmup_updates=5)
    with pytest.raises(UsageError, match=r"training\.optimizer 'muon' there, 'adamw' here"):
        facade.train(data, tmp_path / "run", model=model, training=training)


def test_a_step_leaves_the_momentum_of_a_float32_matrix():
    training = SequenceTraining(small_model("lstm"), None, MUON, seed=0)
    for parameter in training.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    training.optimizer.advance(training.optimizer.norm(), 0.25, 1e-3)
    momenta = [value for key, value in training.state().items() if key.endswith("/momentum")]
    assert len(momenta) == len(training.model.hidden_matrices())
    assert all(value.dtype == torch.float32 for value in momenta)
