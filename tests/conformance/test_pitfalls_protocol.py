"""Rows of the table of pitfalls that concern measuring; each twice: the rule, and that its breach is noticed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from conformance.checks import notices
from foretell import facade
from foretell.collection.recipes import collect_random
from foretell.environments.making import make_environments
from foretell.environments.pendulum import BatchedPendulum
from foretell.evaluation import protocol
from foretell.evaluation.protocol import Outcome, evaluate, evaluation_starts, validation_starts
from foretell.training.checkpoints import load_tensors
from foretell.training.configs import TrainingConfig
from reference.making import small_config
from reference.measuring import Leaning, one_at_a_time

STARTS = list(range(12))


def check_every_episode_counted_once(run_episodes):
    """CartPole episodes end at different times: all returns and lengths are those of a loop over single episodes."""
    returns, lengths = one_at_a_time(Leaning, "CartPole-v1", STARTS)
    assert len(set(lengths)) > 4
    outcome = run_episodes(Leaning(), "CartPole-v1", STARTS)
    assert outcome.starts == tuple(STARTS)
    np.testing.assert_array_equal(outcome.returns, returns)
    np.testing.assert_array_equal(outcome.lengths, lengths)


def test_row_10_every_episode_counts_once_and_whole():
    check_every_episode_counted_once(evaluate)


def _first_end_stops_all(policy, environment, starts):
    environments = make_environments(environment, len(starts))
    observations = environments.reset(starts)
    returns, lengths, ended = np.zeros(len(starts)), np.zeros(len(starts), np.int64), False
    while not ended:
        observations, rewards, terminations, truncations = environments.step(policy.act(observations))
        returns, lengths, ended = returns + rewards, lengths + 1, (terminations | truncations).any()
    return Outcome(starts=tuple(starts), returns=returns, lengths=lengths)


def _first_to_finish(policy, environment, starts):
    """Fill the list with whichever episodes end first: biased to short ones."""
    whole = evaluate(policy, environment, [*starts, *range(100, 150)])
    order = np.argsort(whole.lengths, kind="stable")[: len(starts)]
    return Outcome(starts=tuple(starts), returns=whole.returns[order], lengths=whole.lengths[order])


@pytest.mark.parametrize("fault", [_first_end_stops_all, _first_to_finish])
def test_row_10_notices_the_fault(fault):
    notices(check_every_episode_counted_once, fault)


def check_starts_are_fixed_and_shared(run):
    """200 distinct starts, the same at every call and for every policy; each policy then earns the same again."""
    starts = protocol.evaluation_starts(0)
    assert len(set(starts)) == 200
    assert starts == protocol.evaluation_starts(0) != protocol.evaluation_starts(1)
    assert starts[:3] == FIRST_STARTS, "results on other starts cannot be compared with published ones"
    twice = [facade.evaluate(run, episodes=3) for _ in range(2)]
    assert twice[0] == twice[1]
    random = facade.evaluate("random", environment="Pendulum-v1", episodes=3)
    assert [record["start"] for record in random] == [record["start"] for record in twice[0]]


FIRST_STARTS = [1268874674, 15863446, 865686472]


def test_row_24_evaluation_starts_are_fixed_and_shared(pendulum_run):
    check_starts_are_fixed_and_shared(pendulum_run)


def test_row_24_notices_the_fault(pendulum_run, monkeypatch):
    rng = np.random.default_rng()
    monkeypatch.setattr(
        protocol, "derive_seeds", lambda root, name, count: rng.choice(2**31 - 1, count, replace=False).tolist()
    )
    notices(check_starts_are_fixed_and_shared, pendulum_run)


def check_no_look_at_the_test(folder, monkeypatch):
    """Neither recording nor training, with its evaluations, ever starts an episode that is an evaluation start."""
    seen = []
    plain = BatchedPendulum.reset

    def watched(self, seeds):
        seen.extend(seeds)
        return plain(self, seeds)

    with monkeypatch.context() as patch:
        patch.setattr(BatchedPendulum, "reset", watched)
        data = collect_random("Pendulum-v1", 600, 0, folder / "data.hdf5")
        training = TrainingConfig(updates=4, batch_size=4, evaluate_every=2, log_every=2)
        model = small_config("decision-transformer")
        run = facade.train(data, folder / "run", model=model, training=training, validation_episodes=3)
    assert len(seen) >= 3 + 3
    assert not set(seen) & set(evaluation_starts(0))
    assert not set(validation_starts(0)) & set(evaluation_starts(0))
    return data, run


def test_row_25_evaluation_starts_are_never_looked_at(tmp_path, monkeypatch):
    check_no_look_at_the_test(tmp_path, monkeypatch)


def test_row_25_notices_the_fault(tmp_path, monkeypatch):
    monkeypatch.setattr(facade.source, "validation_starts", lambda root, count=50: evaluation_starts(root)[:count])
    notices(check_no_look_at_the_test, tmp_path, monkeypatch)


def check_last_weights_are_kept(folder, data):
    """Evaluations on the way change nothing: the weights at the end are those of the last update."""
    weights = []
    for every in (0, 1):
        training = TrainingConfig(updates=3, batch_size=4, evaluate_every=every, log_every=1)
        run = facade.train(data, folder / f"every-{every}", model=small_config("decision-transformer"),
                           training=training, validation_episodes=2)  # fmt: skip
        weights.append(load_tensors(run / "model.safetensors"))
    for name, value in weights[0].items():
        np.testing.assert_array_equal(weights[1][name], value, err_msg=name)


def test_row_25_the_last_checkpoint_is_kept(tmp_path, pendulum_random):
    check_last_weights_are_kept(tmp_path, pendulum_random)


def test_row_25_notices_the_best_checkpoint(tmp_path, pendulum_random, monkeypatch):
    plain = facade.training.run_updates

    def best_of(run, training, schedule, *, weights, evaluate=None, progress=None):
        if evaluate is not None:  # pretend that the second update was the best
            schedule = replace(schedule, updates=2)
        plain(run, training, schedule, weights=weights, evaluate=evaluate)

    monkeypatch.setattr(facade.training, "run_updates", best_of)
    notices(check_last_weights_are_kept, tmp_path, pendulum_random)
