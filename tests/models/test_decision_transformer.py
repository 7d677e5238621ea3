"""What the Decision Transformer's settings change in the network."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from conformance.checks import notices
from foretell.core.errors import UsageError
from foretell.models import decision_transformer
from foretell.models.configs import DecisionTransformerConfig
from foretell.models.initialization import EMBEDDING_STD
from foretell.models.layers import causal_mask
from foretell.models.transformer.stacks import sinusoidal_positions
from reference.making import VECTOR, padded_batch, random_batch, small_model

SINUSOIDAL = "sinusoidal"


def sinusoidal(**changes):
    return small_model("decision-transformer", VECTOR, timestep_embedding=SINUSOIDAL, **changes)


def check_timesteps_are_encoded(model):
    """The encodings of Vaswani et al. (section 3.5) in the place of a table, as long as a learned one's vectors."""
    timesteps = torch.tensor([[0, 1], [3, 2]])
    found = model.embed_timestep(timesteps)
    encodings = sinusoidal_positions(model.shape.max_timesteps, model.config.width)
    torch.testing.assert_close(found / found[0, 0, 1], encodings[timesteps])  # cos 0 = 1
    assert float(found.abs().max()) == pytest.approx(EMBEDDING_STD)


def test_sinusoidal_timesteps_are_the_papers_encodings():
    check_timesteps_are_encoded(sinusoidal())


def test_a_learned_table_is_noticed():
    notices(check_timesteps_are_encoded, small_model("decision-transformer", VECTOR))


def test_encodings_are_neither_trained_nor_saved():
    model = sinusoidal()
    assert not any("timestep" in name for name in (*model.state_dict(), *dict(model.named_parameters())))
    learned = small_model("decision-transformer", VECTOR)
    assert {*learned.state_dict()} - {*model.state_dict()} == {"embed_timestep.weight"}


@torch.no_grad()
def test_the_timestep_still_matters():
    model, batch = sinusoidal(), random_batch(VECTOR)
    later = replace(batch, timesteps=batch.timesteps + 3)
    assert float((model(batch) - model(later))[batch.mask].abs().max()) > 1e-3


def test_timesteps_past_the_end_are_an_error():
    model, batch = sinusoidal(), random_batch(VECTOR)
    with pytest.raises(IndexError):
        model(replace(batch, timesteps=batch.timesteps + model.shape.max_timesteps))


def test_an_unknown_embedding_is_refused():
    with pytest.raises(UsageError, match="timestep_embedding is 'rotary'; expected one of learned, sinusoidal"):
        DecisionTransformerConfig(timestep_embedding="rotary")  # pyrefly: ignore


@pytest.mark.parametrize("shape", ["behind padding", "with holes", "real", "none", "larger than what is kept"])
@pytest.mark.parametrize("time", [1, 2, 5])
def test_what_a_token_may_see_is_chosen_as_it_is_made(time, shape, monkeypatch):
    if shape == "larger than what is kept":
        monkeypatch.setattr(decision_transformer, "KEPT_MASKS", 0)
    model = small_model("decision-transformer", VECTOR, context_length=time)
    batch = padded_batch(time, windows=9)
    if shape == "with holes":
        batch.mask[:] = torch.rand(batch.mask.shape, generator=torch.Generator().manual_seed(1)) < 0.5
    elif shape in ("real", "none"):
        batch.mask[:] = shape == "real"
    found, expected = model._allowed(batch), causal_mask(model._token_mask(batch))
    assert len(found) == (1 if bool(batch.mask.all()) else 9)
    assert torch.equal(found.expand(expected.shape), expected)
