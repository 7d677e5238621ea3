from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from foretell.agents import backpropagation
from foretell.agents.configs import SACConfig
from foretell.agents.sac import SoftActorCritic, Transitions
from foretell.agents.soft_values import bellman_target
from foretell.core.errors import UsageError
from reference import sac as reference

SETTINGS = {"discount": 0.9, "temperature": 0.3, "learning_rate": 1e-2, "target_rate": 0.1}


def _agent(form, seed=0):
    config = SACConfig(form=form, hidden_sizes=(7, 5), **SETTINGS)
    agent = SoftActorCritic(config, 3, 2, torch.Generator().manual_seed(seed)).double()
    with torch.no_grad():  # targets that differ from what they follow
        for target, _ in agent._pairs:
            for parameter in target.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return agent


def _batch(size=6):
    generator = torch.Generator().manual_seed(2)
    s, following = torch.randn(2, size, 3, generator=generator, dtype=torch.float64)
    a = torch.rand(size, 2, generator=generator, dtype=torch.float64) * 2 - 1
    r = torch.randn(size, generator=generator, dtype=torch.float64)
    dead = torch.arange(size) % 3 == 0
    noise = torch.randn(2 * size, 2, generator=generator, dtype=torch.float64)
    transitions = Transitions(observations=s, actions=a, rewards=r, next_observations=following, terminations=dead)
    return transitions, (s, a, r, following, dead), noise


def _weights(network, member=0):
    return [(w[member].detach().clone().requires_grad_(), b[member, 0].detach().clone().requires_grad_())
            for w, b in zip(network.mlp.weights, network.mlp.biases)]  # fmt: skip


def _assert_equal(network, expected, member=0):
    for found, wanted in zip(reference.flat(_weights(network, member)), reference.flat(expected)):
        np.testing.assert_allclose(found.detach(), wanted.detach(), atol=1e-6)


def _options():
    return {"discount": 0.9, "temperature": 0.3, "rate": 1e-2, "tau": 0.1}


def test_value_form_equals_the_plain_equations():
    agent, (transitions, batch, noise) = _agent("value"), _batch()
    networks = {name: _weights(getattr(agent, name)) for name in ("policy", "q", "value", "value_target")}
    losses, expected = reference.value_form(networks, batch, noise, **_options())
    found = agent.update(transitions, noise)
    assert found.keys() == losses.keys()
    for name, loss in losses.items():
        assert float(found[name]) == pytest.approx(float(loss.detach()), rel=1e-6), name
    for name, weights in expected.items():
        _assert_equal(getattr(agent, name), weights)
    assert agent.temperature == pytest.approx(0.3)


def test_twin_form_equals_the_plain_equations():
    agent, (transitions, batch, noise) = _agent("twin-q"), _batch()
    networks = {"policy": _weights(agent.policy)}
    for i in (1, 2):
        networks |= {f"q{i}": _weights(agent.q, i - 1), f"q{i}_target": _weights(agent.q_target, i - 1)}
    losses, expected, log_temperature = reference.twin_form(networks, batch, noise, **_options())
    found = agent.update(transitions, noise)
    assert found.keys() == losses.keys()
    for name, loss in losses.items():
        assert float(found[name]) == pytest.approx(float(loss.detach()), rel=1e-6), name
    _assert_equal(agent.policy, expected["policy"])
    for i in (1, 2):
        _assert_equal(agent.q, expected[f"q{i}"], i - 1)
        _assert_equal(agent.q_target, expected[f"q{i}_target"], i - 1)
    assert float(agent.log_temperature.detach()) == pytest.approx(float(log_temperature.detach()), abs=1e-6)


@pytest.mark.parametrize("form", ["value", "twin-q"])
def test_targets_start_equal_and_move_by_tau(form):
    agent = SoftActorCritic(SACConfig(form=form, hidden_sizes=(4,), target_rate=0.25), 3, 2, torch.Generator())
    target, source = agent._pairs[0]
    for one, other in zip(target.parameters(), source.parameters()):
        assert torch.equal(one, other)
        assert not one.requires_grad
    before = copy.deepcopy(target)
    transitions, _, noise = _batch()
    single = Transitions(**{n: v if v.dtype == torch.bool else v.float() for n, v in vars(transitions).items()})
    agent.update(single, noise.float())
    for old, new, followed in zip(before.parameters(), target.parameters(), source.parameters()):
        torch.testing.assert_close(new, 0.75 * old + 0.25 * followed.detach(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("threads", [1, 3])
def test_one_call_for_a_network_takes_the_same_steps_bit_for_bit(threads, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)  # what C is told
    config = SACConfig(hidden_sizes=(32, 32), learning_rate=1e-2)
    agents = [SoftActorCritic(config, 3, 2, torch.Generator().manual_seed(1)) for _ in range(2)]
    transitions, _, noise = _batch(40)
    single = Transitions(**{n: v if v.dtype == torch.bool else v.float() for n, v in vars(transitions).items()})
    asked = []
    real = SoftActorCritic._together
    monkeypatch.setattr(agents[0], "_together", lambda *args: asked.append(real(agents[0], *args)) or asked[-1])
    monkeypatch.setattr(agents[1], "_together", lambda *_: None)
    for _ in range(5):
        found = [agent.update(single, noise.float()) for agent in agents]
        assert {k: v.item() for k, v in found[0].items()} == {k: v.item() for k, v in found[1].items()}
    assert len(asked) == 5
    assert None not in asked, "no C compiler on this machine"
    for name, weight in agents[0].state_dict().items():
        assert torch.equal(weight, agents[1].state_dict()[name]), name


def test_numbers_that_a_call_does_not_take_go_another_way():
    agent = SoftActorCritic(SACConfig(hidden_sizes=(8,)), 3, 2, torch.Generator().manual_seed(1))
    transitions, _, noise = _batch()
    single = {n: v if v.dtype == torch.bool else v.float() for n, v in vars(transitions).items()}
    scattered = single | {"rewards": single["rewards"].repeat_interleave(2)[::2]}
    for batch in (single, scattered):
        agent._native = None
        agent.update(Transitions(**batch), noise.float())
        assert (agent._native is None) == (batch is scattered)


def test_bellman_target_by_hand():
    found = bellman_target(
        torch.tensor([1.0, 1.0, -2.0]), torch.tensor([False, True, False]), torch.tensor([10.0, 10.0, -4.0]), 0.5
    )
    assert found.tolist() == [6.0, 1.0, -4.0]  # a termination ends value; anything else, time limits too, does not


def test_members_of_an_ensemble_are_perceptrons_of_their_own():
    agent = _agent("twin-q")
    s, a = torch.randn(2, 5, 3, dtype=torch.float64)[0], torch.rand(5, 2, dtype=torch.float64)
    found = agent.q(s, a)
    assert not torch.allclose(found[0], found[1])
    for member in (0, 1):
        torch.testing.assert_close(found[member], reference.q_value(_weights(agent.q, member), s, a))


def test_the_temperature_falls_where_entropy_is_above_its_target():
    agent, (transitions, _, noise) = _agent("twin-q"), _batch()
    with torch.no_grad():
        for parameter in agent.policy.parameters():  # mean 0, deviation 1: entropy well above -2
            parameter.zero_()
    before = agent.temperature
    agent.update(transitions, noise)
    assert agent.temperature < before


@pytest.mark.parametrize("changes", [{"total_steps": 0}, {"discount": 1.5}, {"target_rate": 0.0}, {"temperature": 0.0},
                                     {"learning_starts": 0}, {"learning_rate": float("nan")}, {"batch_size": -1},
                                     {"hidden_sizes": (0,)}, {"evaluate_every": -1}])  # fmt: skip
def test_settings_out_of_range_are_refused(changes):
    with pytest.raises(UsageError, match="expected"):
        SACConfig(**changes)


def test_its_sums_are_added_up_in_the_parts_of_the_blas(monkeypatch):
    """Agents, and the data that come of them, must not hang on how the products of other networks are made."""
    given = []
    right = backpropagation.make_pass

    def watched(*arguments, **options):
        given.append(options["deep"])
        return right(*arguments, **options)

    monkeypatch.setattr(backpropagation, "make_pass", watched)
    agent, (transitions, _, noise) = _agent("twin-q"), _batch()
    agent.update(transitions, noise)
    assert set(given) == {128}
