"""Both networks' gradients and steps in one call, beside a call for each; and what of them is not finite."""

from __future__ import annotations

import copy

import pytest
import torch

from foretell.agents.configs import SACConfig
from foretell.agents.native.actor_critic import NativeActorCritic
from foretell.agents.transitions import Transitions
from foretell.training.checked_sac import CheckedActorCritic, NotFiniteError

ROWS = 40


def _agent():
    config = SACConfig(hidden_sizes=(32, 32), learning_rate=1e-2)
    return CheckedActorCritic(config, 3, 2, torch.Generator().manual_seed(1))


def _drawn(update):
    generator = torch.Generator().manual_seed(update)
    states, following = torch.randn(2, ROWS, 3, generator=generator)
    actions = torch.rand(ROWS, 2, generator=generator) * 2 - 1
    batch = Transitions(
        observations=states, actions=actions, rewards=torch.randn(ROWS, generator=generator),
        next_observations=following, terminations=torch.arange(ROWS) % 3 == 0,
    )  # fmt: skip
    return batch, torch.randn(2 * ROWS, 2, generator=generator)


@pytest.fixture
def calls(monkeypatch):
    """How many steps each call took."""
    found, real = [], NativeActorCritic.both

    def both(*args):
        found.append(real(*args))
        return found[-1]

    monkeypatch.setattr(NativeActorCritic, "both", both)
    return found


@pytest.mark.parametrize("threads", [1, 3])
def test_one_call_for_both_networks_takes_the_same_steps_bit_for_bit(threads, monkeypatch, calls):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)  # what C is told
    agents = [_agent(), _agent()]
    own = agents[1]._step
    monkeypatch.setattr(agents[1], "_step", lambda *args: own(*args))
    for update in range(5):
        found = [agent.update(*_drawn(update)) for agent in agents]
        assert {k: v.item() for k, v in found[0].items()} == {k: v.item() for k, v in found[1].items()}
    assert [stepped for stepped, _ in calls] == [2] * 4, "the first update makes the moments"
    for one, other in zip(*(agent.state_dict().values() for agent in agents)):
        assert torch.equal(one, other)
    for name, optimizer in agents[0].optimizers.items():
        torch.testing.assert_close(optimizer.state_dict(), agents[1].optimizers[name].state_dict(), rtol=0.0, atol=0.0)


@pytest.mark.parametrize(("network", "stepped"), [("q", 0), ("policy", 1)])
def test_what_is_not_finite_stops_before_its_step(network, stepped, calls):
    agent = _agent()
    agent.update(*_drawn(0))
    before = copy.deepcopy(agent.state_dict())
    batch, noise = _drawn(1)
    if network == "q":
        batch.rewards[3] = torch.nan
    else:  # of the actions at the observations, whose values the policy alone learns from
        noise[5] = torch.inf
    with pytest.raises(NotFiniteError) as raised:
        agent.update(batch, noise)
    assert raised.value.network == network
    assert not torch.isfinite(raised.value.loss)
    assert calls[-1][0] == stepped
    moved = {name.split(".")[0] for name, weight in agent.state_dict().items() if not torch.equal(weight, before[name])}
    assert moved == ({"q"} if network == "policy" else set())


def test_it_goes_on_from_moments_that_were_loaded(calls):
    agent, other = _agent(), _agent()
    for update in range(3):
        agent.update(*_drawn(update))
    other.load_state_dict(agent.state_dict())
    for name, optimizer in other.optimizers.items():
        optimizer.load_state_dict(copy.deepcopy(agent.optimizers[name].state_dict()))
    for one in (agent, other):
        one.update(*_drawn(3))
    assert len(calls) == 4
    for weight, expected in zip(other.state_dict().values(), agent.state_dict().values()):
        assert torch.equal(weight, expected)


def test_a_step_of_a_subclass_is_called_for_every_network(calls):
    class Counting(CheckedActorCritic):
        def _step(self, name, loss):
            seen.append(name)
            super()._step(name, loss)

    seen = []
    agent = Counting(SACConfig(hidden_sizes=(8,)), 3, 2, torch.Generator().manual_seed(1))
    for update in range(3):
        agent.update(*_drawn(update))
    assert seen == ["q", "policy", "temperature"] * 3
    assert not calls
