from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch

from foretell.core.errors import UsageError
from foretell.models.interface import SequenceModel
from foretell.models.losses import imitation_errors, imitation_loss
from foretell.models.registry import MODELS, build_model, model_entry
from reference.making import CHOICES, VECTOR, random_batch, small_model


@pytest.mark.parametrize("name", MODELS)
def test_a_line_names_settings_and_network(name):
    entry = model_entry(name)
    assert entry.path.startswith("foretell.models.")
    model = build_model(name, {}, VECTOR, torch.Generator())
    assert type(model) is entry.network
    assert isinstance(model, SequenceModel)
    assert model.config == entry.config()
    assert model.shape == VECTOR


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(UsageError, match=re.escape(f"'gru'; expected one of {', '.join(sorted(MODELS))}")):
        build_model("gru", {}, VECTOR, torch.Generator())


def test_imitation_errors_by_hand():
    predicted = torch.tensor([[[0.5, -1.0], [0.0, 0.0]]])
    actions = torch.tensor([[[1.0, 1.0], [0.0, 2.0]]])
    assert imitation_errors(predicted, actions, discrete=False).tolist() == [[(0.25 + 4) / 2, 2.0]]
    assert imitation_errors(predicted, actions, discrete=False, kind="absolute").tolist() == [[1.25, 1.0]]
    logits = torch.tensor([[[0.0, 0.0, 0.0, 0.0], [0.0, 3.0**0.5, 0.0, 0.0]]])
    found = imitation_errors(logits, torch.tensor([[2, 1]]), discrete=True)
    weight = torch.tensor(3.0**0.5).exp()
    torch.testing.assert_close(found, torch.stack([torch.tensor(4.0).log(), ((weight + 3) / weight).log()])[None])


@pytest.mark.parametrize("name", ["decision-transformer", "encoder-decoder", "lstm", "mlp"])
def test_every_network_that_foretells_numbers_can_learn_their_median(name):
    """Nine of ten windows have one action, the tenth another: the absolute error is least at the nine's, the squared
    between them."""
    batch = random_batch(VECTOR, real=(1,) * 10, time=1)
    batch = replace(batch, actions=torch.where(torch.arange(10)[:, None, None] < 9, 0.5, -0.5).expand(10, 1, 2))
    found = {}
    for kind in ("squared", "absolute"):
        model = small_model(name, VECTOR, action_loss=kind, spread=0.0)
        with torch.no_grad():
            for parameter in model.action_head.parameters():
                parameter.zero_()  # one action for all
        bias = next(parameter for parameter in model.action_head.parameters() if parameter.dim() == 1)
        optimizer = torch.optim.SGD([bias], lr=0.05)
        for _ in range(400):
            optimizer.zero_grad()
            model.loss(batch).backward()
            optimizer.step()
        found[kind] = model(batch).mean().item()
    assert found["squared"] == pytest.approx(0.4, abs=0.02)
    assert found["absolute"] == pytest.approx(0.5, abs=0.05)


def test_imitation_loss_is_the_mean_of_the_real_ones():
    batch = random_batch(CHOICES, real=(4, 1), padding_seed=2)
    logits = torch.randn(2, 4, 4, generator=torch.Generator().manual_seed(0))
    errors = imitation_errors(logits, batch.actions, discrete=True)
    expected = (errors[0].sum() + errors[1, 3]) / 5
    torch.testing.assert_close(imitation_loss(logits, batch, discrete=True), expected)
