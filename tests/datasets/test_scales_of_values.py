"""Numbers in another scale than they should have, and numbers that only look so; and what the card makes of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from foretell.cli.cards import dataset_card_text
from foretell.datasets.card import dataset_card
from foretell.datasets.dataset import DatasetMetadata
from foretell.datasets.doctor import diagnose
from foretell.environments.making import environment_spec
from reference.making import make_dataset


def uniform(low, high):
    return np.random.default_rng(0).uniform(low, high, (1200, len(low)))


def observed(contact):
    """Two usual dimensions, and between them a given one, `(20000,)`: what is found of `magnitude`."""
    usual = np.random.default_rng(0).normal(size=(20_000, 2))
    values = np.stack([usual[:, 0], contact, usual[:, 1]], axis=1).astype(np.float32)
    data = make_dataset([100] * 200, observations=values)
    return [(one.severity, one.message) for one in diagnose(data) if one.check == "magnitude"]


@pytest.mark.parametrize("size", [1.0, -1.0, 20.0])
@pytest.mark.parametrize("rows", [1, 160])
def test_a_contact_that_is_rarely_made_is_no_damage(size, rows):
    rng = np.random.default_rng(0)
    contact = 1e-6 * rng.normal(size=20_000)
    contact[rng.permutation(20_000)[:rows]] = size
    assert observed(contact) == []


@pytest.mark.parametrize(("size", "severity"), [(1e3, "warning"), (1e9, "error"), (-1e9, "error")])
def test_a_number_that_drowns_a_narrow_dimension(size, severity):
    values = 5 + 1e-6 * np.random.default_rng(0).normal(size=20_000)
    values[12_345] = size
    ((found, message),) = observed(values)
    assert found == severity
    assert message.startswith(
        f"observations holds {size:g} at episode 123, timestep 45 (dimension 1), where 99 in 100 "
    )
    assert float(message.split(" within ")[1].split(" of ")[0]) == pytest.approx(2.6e-6, rel=0.1)
    assert "of 5; divided by mean and deviation" in message


def test_equal_returns_are_one_line_of_the_card():
    data = make_dataset([40] * 30, rewards=np.full(1200, 0.25, np.float32))
    card = dataset_card(data)
    assert card["returns"]["histogram"] == {"edges": [10.0, 10.0], "counts": [30]}
    assert [line.split() for line in dataset_card_text(card).splitlines() if "█" in line] == [
        ["10.0", "to", "10.0", "█" * 40, "30"]
    ]


def test_the_environment_that_was_given_is_that_of_the_card_where_the_data_name_none():
    data = make_dataset([40] * 30, rewards=np.full(1200, -136.9 / 40), actions=uniform([-2], [2]))
    known = environment_spec("Pendulum-v1")
    assert (dataset_card(data)["environment"], dataset_card(data)["normalized_score"]) == (None, None)
    card = dataset_card(data, known)
    assert card["environment"] == "Pendulum-v1"
    assert card["normalized_score"] == pytest.approx(100, abs=0.1), "136.9 below 0 is the reference"
    named = replace(data, metadata=DatasetMetadata(environment="CartPole-v1"))
    assert dataset_card(named, known)["environment"] == "CartPole-v1"
