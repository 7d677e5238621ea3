from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conformance.checks import notices
from foretell.agents.sac import Transitions
from foretell.agents.soft_values import bellman_target
from foretell.core.errors import DivergedError, UsageError
from foretell.values.configs import IQLConfig
from foretell.values.functions import ValueFunctions
from foretell.values.iql import ImplicitQLearning, expectile_loss, imitation_weights
from reference import iql as reference
from reference.learning_by_graph import iql_losses
from reference.making import IDENTITY, scaled

CONFIG = IQLConfig(
    updates=10, hidden_sizes=(7, 5), learning_rate=1e-2, schedule="constant", expectile=0.8, discount=0.9,
    inverse_temperature=2.0, target_rate=0.1,
)  # fmt: skip


def _learner(config=CONFIG):
    generator = torch.Generator().manual_seed(0)
    learner = ImplicitQLearning(ValueFunctions(config, scaled(), 3, 2, generator)).double()
    with torch.no_grad():  # slow copies that differ from what they follow
        for parameter in learner.q_target.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return learner


def _batch(size=6, seed=2):
    generator = torch.Generator().manual_seed(seed)
    s, following = torch.randn(2, size, 3, generator=generator, dtype=torch.float64)
    a = torch.rand(size, 2, generator=generator, dtype=torch.float64) * 2 - 1
    r = torch.randn(size, generator=generator, dtype=torch.float64)
    dead = torch.arange(size) % 3 == 0
    return Transitions(observations=s, actions=a, rewards=r, next_observations=following, terminations=dead)


def _plain(batch):
    return tuple(getattr(batch, n).numpy() for n in ("observations", "actions", "rewards", "next_observations",
                                                     "terminations"))  # fmt: skip


def _weights(network, member=0):
    return [(w[member].detach().numpy().copy(), b[member, 0].detach().numpy().copy())
            for w, b in zip(network.mlp.weights, network.mlp.biases)]  # fmt: skip


def _networks(learner):
    members = {f"{name}{i}": _weights(network, i) for i in (0, 1)
               for name, network in (("q", learner.functions.q), ("slow", learner.q_target))}  # fmt: skip
    policy = [(w[0].detach().numpy().copy(), b[0, 0].detach().numpy().copy())
              for w, b in zip(learner.functions.policy.weights, learner.functions.policy.biases)]  # fmt: skip
    return {"value": _weights(learner.functions.value), "policy": policy, **members}


def test_two_updates_equal_the_plain_equations():
    learner = _learner()
    networks, moments = _networks(learner), {"value": {}, "q0": {}, "q1": {}, "policy": {}}
    for step in (1, 2):
        batch = _batch(seed=step)
        losses, networks = reference.update(
            networks, moments, _plain(batch), step, expectile=0.8, beta=2.0, discount=0.9, rate=1e-2, tau=0.1
        )
        found = learner.update(batch, step - 1)
        assert found.keys() == losses.keys()
        for name, loss in losses.items():
            assert float(found[name]) == pytest.approx(loss, rel=1e-6), name
        for name, weights in _networks(learner).items():
            for layer, pair in enumerate(weights):
                for ours, expected in zip(pair, networks[name][layer]):
                    np.testing.assert_allclose(ours, expected, atol=1e-6, err_msg=f"{name} {layer}")


def test_single_precision_stays_within_1e_5():
    double, batch = _learner(), _batch()
    single = _learner().float()
    rounded = Transitions(**{n: v if v.dtype == torch.bool else v.float() for n, v in vars(batch).items()})
    for name, loss in iql_losses(double, batch).items():
        assert float(iql_losses(single, rounded)[name].detach()) == pytest.approx(float(loss.detach()), rel=1e-5)


def test_expectile_loss_by_hand():
    found = expectile_loss(torch.tensor([2.0, -2.0, 0.0, 1.0]), 0.75)
    assert found.tolist() == [3.0, 1.0, 0.0, 0.75]
    differences = torch.tensor([3.0, -1.0, 0.5])
    torch.testing.assert_close(expectile_loss(differences, 0.5), 0.5 * differences.square())


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-100, 100), min_size=1, max_size=12), st.floats(0.05, 0.95))
def test_the_best_constant_is_the_expectile(numbers, expectile):
    """Newey and Powell 1987: m where tau E[(x - m)+] = (1 - tau) E[(m - x)+]; found here by bisection on that line."""
    samples = np.array(numbers)
    low, high = samples.min(), samples.max()
    for _ in range(200):
        middle = (low + high) / 2
        pull = (
            expectile * np.maximum(samples - middle, 0).sum() - (1 - expectile) * np.maximum(middle - samples, 0).sum()
        )
        low, high = (middle, high) if pull > 0 else (low, middle)
    minimiser = torch.tensor(low, dtype=torch.float64, requires_grad=True)

    def loss(constant):
        return expectile_loss(torch.from_numpy(samples) - constant, expectile).mean()

    (slope,) = torch.autograd.grad(loss(minimiser), minimiser)
    assert abs(float(slope)) < 1e-6
    for other in (low - 0.1, low + 0.1):
        assert float(loss(other)) >= float(loss(minimiser).detach())


def test_imitation_weights_by_hand():
    found = imitation_weights(torch.tensor([0.0, 1.0, -1.0, 50.0, 1e6]), 2.0)
    np.testing.assert_allclose(found, [1.0, np.e**2, np.e**-2, 100.0, 100.0], rtol=1e-6)
    assert imitation_weights(torch.tensor([5.0, -5.0]), 0.0).tolist() == [1.0, 1.0]


def test_imitation_of_choices_is_the_weighted_cross_entropy():
    learner = ImplicitQLearning(ValueFunctions(CONFIG, IDENTITY, 3, 2, torch.Generator())).double()
    one_hot = torch.eye(2, dtype=torch.float64)[[0, 1, 1, 0, 1, 0]]
    batch = Transitions(**{**vars(_batch()), "actions": one_hot})
    logits = learner.functions.policy_outputs(batch.observations)
    advantages = learner.q_target(batch.observations, one_hot).amin(0) - learner.functions.value(batch.observations)
    errors = torch.nn.functional.cross_entropy(logits, one_hot.argmax(1), reduction="none")
    expected = (imitation_weights(advantages, 2.0) * errors).mean()
    torch.testing.assert_close(iql_losses(learner, batch)["policy_loss"], expected)


def test_terminations_stop_value_and_nothing_else_does():
    found = bellman_target(
        torch.tensor([1.0, 1.0, -2.0]), torch.tensor([False, True, False]), torch.tensor([10.0, 10.0, -4.0]), 0.5
    )
    assert found.tolist() == [6.0, 1.0, -4.0]


def test_what_follows_a_termination_changes_nothing():
    learner, batch = _learner(), _batch()
    elsewhere = batch.next_observations + 10 * batch.terminations[:, None]
    moved = Transitions(**{**vars(batch), "next_observations": elsewhere})
    expected = iql_losses(learner, batch)
    assert all(torch.equal(loss, expected[name]) for name, loss in iql_losses(learner, moved).items())
    everywhere = Transitions(**{**vars(batch), "next_observations": batch.next_observations + 10})
    assert not torch.equal(iql_losses(learner, everywhere)["q_loss"], expected["q_loss"])


def test_slow_copies_start_equal_and_learn_from_nothing_else():
    learner = ImplicitQLearning(ValueFunctions(CONFIG, scaled(), 3, 2, torch.Generator())).double()
    before = copy.deepcopy(learner.q_target)
    for slow, learned in zip(before.parameters(), learner.functions.q.parameters()):
        assert torch.equal(slow, learned)
        assert not slow.requires_grad
    learner.update(_batch(), 0)
    for old, new, learned in zip(before.parameters(), learner.q_target.parameters(), learner.functions.q.parameters()):
        torch.testing.assert_close(new, 0.9 * old + 0.1 * learned.detach())


def test_numbers_that_are_not_finite_change_nothing():
    learner, batch = _learner(), _batch()
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    broken = Transitions(**{**vars(batch), "rewards": batch.rewards.clone().fill_(float("inf"))})
    with pytest.raises(DivergedError, match=r"update 7: .*expected finite"):
        learner.update(broken, 7)
    assert all(torch.equal(before[name], value) for name, value in learner.state_dict().items())
    assert not learner.optimizer.state_dict()["state"]


@pytest.mark.parametrize("changes", [{"updates": 0}, {"batch_size": -1}, {"learning_rate": float("nan")},
                                     {"hidden_sizes": ()}, {"hidden_sizes": (0,)}, {"expectile": 1.0},
                                     {"expectile": 0.0}, {"discount": 1.5}, {"inverse_temperature": -1.0},
                                     {"target_rate": 0.0}, {"schedule": "linear"}])  # fmt: skip
def test_settings_out_of_range_are_refused(changes):
    with pytest.raises(UsageError, match="expected"):
        IQLConfig(**changes)


@pytest.mark.parametrize("choices", [0, 4])
@pytest.mark.parametrize("double", [True, False])
def test_gradients_are_those_of_the_losses(choices, double):
    """What is written without autograd is what autograd finds, of every loss to its own networks."""
    normalization, action_dim = (IDENTITY, choices) if choices else (scaled(), 2)
    learner = ImplicitQLearning(ValueFunctions(CONFIG, normalization, 3, action_dim, torch.Generator().manual_seed(1)))
    batch = _batch()
    actions = torch.eye(4)[[0, 1, 3, 2, 1, 0]] if choices else batch.actions
    kind = torch.float64 if double else torch.float32
    batch = Transitions(**{n: v if v.dtype == torch.bool else v.to(kind) for n, v in
                           {**vars(batch), "actions": actions}.items()})  # fmt: skip
    learner.to(kind)
    expected = iql_losses(learner, batch)
    parameters = list(learner.functions.parameters())
    gradients = torch.autograd.grad(torch.stack(list(expected.values())).sum(), parameters)
    with torch.no_grad():
        found = learner.write_gradients(batch)
    close = {"rtol": 1e-10, "atol": 1e-12} if double else {"rtol": 1e-4, "atol": 1e-5}
    for name, loss in expected.items():
        torch.testing.assert_close(found[name], loss.detach(), **close)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, **close)


def _float(batch, rows=slice(None)):
    kinds = {name: torch.bool if name == "terminations" else torch.float32 for name in vars(batch)}
    return Transitions(**{name: part[rows].to(kinds[name]) for name, part in vars(batch).items()})


def _without_policy():
    config = replace(CONFIG, policy=False)
    return ImplicitQLearning(ValueFunctions(config, scaled(), 3, 2, torch.Generator().manual_seed(1)))


@pytest.fixture(params=[1, 2])
def threads(request):
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(1)


def check_one_call():
    """Over several updates, batches of two sizes in turn: what was made for one is not used for the other."""
    ours, pieces = _without_policy(), _without_policy()
    pieces._together = lambda batch: None
    for update in range(6):
        batch = _float(_batch(seed=update), slice(None if update % 2 else 4))
        found, expected = (learner.update(batch, update) for learner in (ours, pieces))
        assert found == expected
        for one, other in zip(ours.parameters(), pieces.parameters(), strict=True):
            assert torch.equal(one, other)
    assert ours._gradients is not None, "no C compiler on this machine"


def test_one_call_gives_the_bits_of_its_pieces(threads):
    check_one_call()


def test_one_call_of_another_batch_size_is_noticed(monkeypatch):
    plain = ImplicitQLearning._together

    def first(self, batch):
        return self._gradients or plain(self, batch)

    monkeypatch.setattr(ImplicitQLearning, "_together", first)
    notices(check_one_call)


def test_batches_of_other_numbers_and_policies_are_left_to_other_calls():
    learner, batch = _without_policy(), _float(_batch())
    assert learner._together(batch) is not None
    turned = Transitions(**{**vars(batch), "observations": batch.observations.T.contiguous().T})
    assert learner._together(turned) is None
    assert learner._together(Transitions(**{**vars(batch), "rewards": batch.rewards.double()})) is None
    assert _learner()._together(batch) is None
