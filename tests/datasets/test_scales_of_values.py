"""Numbers in another scale than they should have, and numbers that only look so; and what the card makes of them."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest

from faults.defect_cases import pendulum
from foretell.cli.cards import dataset_card_text
from foretell.datasets.card import dataset_card
from foretell.datasets.dataset import DatasetMetadata
from foretell.datasets.doctor import diagnose
from foretell.environments.making import EnvironmentSpec, environment_spec
from reference.making import make_dataset

BACK = "multiply them back: low + (actions + 1) / 2 * (high - low)"


def spec(low, high):
    return EnvironmentSpec(
        name="Test-v0", observation_shape=(3,), action_dim=len(low), action_low=tuple(low), action_high=tuple(high),
        num_actions=None, horizon=None,
    )  # fmt: skip


def of_actions(values, low, high):
    """What is found of `actions`, 1,200 rows: severity and message."""
    data = make_dataset([40] * 30, actions=np.asarray(values, np.float32))
    return [(one.severity, one.message) for one in diagnose(data, spec(low, high)) if one.check == "actions"]


def uniform(low, high):
    return np.random.default_rng(0).uniform(low, high, (1200, len(low)))


@pytest.mark.parametrize(("low", "high", "named"), [
    ([-2.0], [2.0], "from -2 to 2 in component 0"),
    ([-1.0, -2.0], [1.0, 2.0], "from -2 to 2 in component 1"),
    ([-3.0, -2.0], [1.0, 5.0], "from -3 to 1 in component 0"),
])  # fmt: skip
def test_actions_as_stable_baselines_keeps_them(low, high, named):
    taken = uniform(low, high)
    assert of_actions(taken, low, high) == []
    kept = 2 * (taken - low) / (np.array(high) - low) - 1
    ((severity, message),) = of_actions(kept, low, high)
    assert severity == "warning"
    assert message.startswith(f"Test-v0 takes actions {named}; all components of another range stay within -1 to 1")
    assert "Stable-Baselines3" in message
    assert BACK in message
    assert of_actions(low + (kept + 1) / 2 * (np.array(high) - low), low, high) == [], "as it says"


@pytest.mark.parametrize(("low", "high", "named"), [
    ([0.0], [1.0], "is outside the range of Test-v0, 0 to 1; all components"),
    ([-1.0, 10.0], [1.0, 11.0], "is outside the range of Test-v0, 10 to 11; all components"),
    ([-0.4] * 17, [0.4] * 17, "is outside the range of Test-v0, -0.4 to 0.4; all components"),
])  # fmt: skip
def test_such_actions_beyond_the_range_say_the_same(low, high, named):
    ((severity, message),) = [one for one in of_actions(uniform([-1] * len(low), [1] * len(low)), low, high)
                              if one[0] == "error"]  # fmt: skip
    assert severity == "error"
    assert named in message
    assert BACK in message


def rarely():
    """To the very ends, in four of 1,200 timesteps each."""
    values = uniform([-0.5], [0.5])
    values[::300], values[1::300] = 1.0, -1.0
    return values


@pytest.mark.parametrize("values", [
    uniform([-0.8], [0.8]), uniform([-1], [0.9]), uniform([-1.2], [1.0]), uniform([-1, -2], [1, 2]),
    np.random.default_rng(0).normal(0, 0.3, (1200, 1)), rarely(),
], ids=["small", "not to the end", "beyond", "one of two", "normal", "rarely"])  # fmt: skip
def test_small_actions_are_those_that_were_taken(values):
    assert of_actions(values, [-2.0] * values.shape[1], [2.0] * values.shape[1]) == []


def test_actions_in_the_range_itself_are_no_sign():
    assert of_actions(uniform([-1, -1], [1, 1]), [-1.0, -1.0], [1.0, 1.0]) == []


def test_rules_prove_that_actions_are_rescaled():
    columns = pendulum().columns
    data = make_dataset([200] * 6, **{key: columns[key] for key in ("observations", "rewards", "next_observations")},
                        actions=columns["actions"] / 2)  # fmt: skip
    errors = [one for one in diagnose(data, environment_spec("Pendulum-v1")) if one.severity == "error"]
    assert [one.check for one in errors] == ["replay"]
    assert "actions are rescaled to -1 to 1 (first: episode 0, timestep 0)" in errors[0].message
    assert "low + (actions + 1) / 2 * (high - low), here from [-2.0] to [2.0]" in errors[0].message
    small = np.where(np.arange(1200)[:, None] % 2, 1, -1).astype(np.float32)  # rules say that these were taken
    by_rule = replace(data, actions=small, metadata=DatasetMetadata(environment="Pendulum-v1"))
    found = diagnose(by_rule, environment_spec("Pendulum-v1"))
    assert "actions" not in [one.check for one in found]
    weaker = replace(data, actions=columns["actions"] * np.float32(0.9))
    assert "rescaled" not in " ".join(one.message for one in diagnose(weaker, environment_spec("Pendulum-v1")))


@pytest.mark.parametrize("width", [1, 17])
def test_one_action_beyond_the_range_is_named_by_its_worst_component(width):
    values = uniform([-2] * width, [2] * width)
    values[45, :] = 2.5
    values[45, -1] = -3.25
    ((severity, message),) = of_actions(values, [-2.0] * width, [2.0] * width)
    assert severity == "error"
    what = "action [-3.25]" if width == 1 else "component 16 of the action, -3.25,"
    assert message == (
        f"{what} at episode 1, timestep 5 is outside the range of Test-v0, -2 to 2; rescale or clip the actions."
    )


def test_rules_are_not_asked_of_actions_of_another_width():
    data = make_dataset([40] * 30)
    found = [one for one in diagnose(data, environment_spec("Pendulum-v1")) if one.severity == "error"]
    assert [one.message for one in found] == ["actions have 2 components; Pendulum-v1 takes 1."]


def observed(contact):
    """Two usual dimensions, and between them a given one, `(20000,)`: what is found of `magnitude`."""
    usual = np.random.default_rng(0).normal(size=(20_000, 2))
    values = np.stack([usual[:, 0], contact, usual[:, 1]], axis=1).astype(np.float32)
    data = make_dataset([100] * 200, observations=values)
    return [(one.severity, one.message) for one in diagnose(data) if one.check == "magnitude"]


@pytest.mark.parametrize("size", [1.0, -1.0, 20.0])
@pytest.mark.parametrize("rows", [1, 3, 4, 160])
def test_a_contact_that_is_rarely_made_is_no_damage(size, rows):
    rng = np.random.default_rng(0)
    contact = 1e-6 * rng.normal(size=20_000)
    contact[rng.permutation(20_000)[:rows]] = size
    found = observed(contact)
    if rows > 3:
        assert found == []
    else:
        ((severity, message),) = found
        assert severity == "warning"
        assert message.endswith("A contact that is rarely made is right; else repair that episode.")


def test_a_wide_dimension_does_not_hide_damage_in_a_narrow_one():
    rng = np.random.default_rng(0)
    values = np.stack([1e3 * rng.normal(size=20_000), 1e-3 * rng.normal(size=20_000)], axis=1).astype(np.float32)
    values[12_345, 1] = 9_000
    found = [one for one in diagnose(make_dataset([100] * 200, observations=values)) if one.check == "magnitude"]
    assert [one.severity for one in found] == ["warning"]
    assert found[0].message.startswith("observations holds 9000 at episode 123, timestep 45 (dimension 1), where 99 in")


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


def test_a_component_that_has_one_value_has_no_halves():
    """Nor a width to divide by."""
    wide = np.linspace(-1, 1, 1200)

    def said(*components):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return [message for _, message in of_actions(np.stack(components, axis=1), [1.0, -1.0], [1.0, 1.0])]

    assert said(np.ones(1200), 0.9 * wide) == []
    assert said(np.full(1200, 0.5), 0.9 * wide)[0].startswith("component 0 of the action, 0.5, at episode 0, timestep")
    assert said(np.ones(1200), 3 * wide)[0].startswith("component 1 of the action, -3, at episode 0, timestep 0 is out")
