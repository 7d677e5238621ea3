"""Ctrl-C in a script or a notebook: the call saves, ends with KeyboardInterrupt, and goes on when it is made again."""

from __future__ import annotations

import signal
import threading
import time

import pytest
import torch

import foretell
from foretell import facade
from foretell.agents.configs import SACConfig
from foretell.core import stopping
from foretell.core.errors import StoppedError
from foretell.facade.seeds import train_seeds
from foretell.training.run_folder import RunFolder, load_run
from reference.making import small_config

SETTINGS = {
    "algorithm": "mlp", "model": small_config("mlp"), "condition": "none",
    "training": foretell.TrainingConfig(updates=30, batch_size=4, checkpoint_every=1000),
}  # fmt: skip
VALUES = foretell.IQLConfig(updates=30, batch_size=4, hidden_sizes=(4,))
AGENT = SACConfig(total_steps=460, learning_starts=210, hidden_sizes=(4,), batch_size=4, evaluate_every=0)


@pytest.fixture(autouse=True)
def python_heeds_it():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)
    assert not stopping.asked()


def _interrupts(at, times=1):
    left = [signal.SIGINT] * times

    def progress(done, total, **_):
        while done >= at and left:
            signal.raise_signal(left.pop())

    return progress


@pytest.mark.parametrize(("train", "at", "total"), [
    (lambda data, out, **more: facade.train(data, out, **SETTINGS, **more), 17, 30),
    (lambda data, out, **more: facade.train_iql(data, out, values=VALUES, **more), 17, 30),
    (lambda data, out, **more: facade.train_sac("Pendulum-v1", out, config=AGENT, **more), 225, 460),
])  # fmt: skip
def test_what_was_learned_is_saved_and_the_same_call_goes_on(train, at, total, pendulum_random, tmp_path):
    with pytest.raises(KeyboardInterrupt, match="saved; the same call goes on from there"):
        train(pendulum_random, tmp_path / "run", progress=_interrupts(at))
    (checkpoint,) = (tmp_path / "run" / "checkpoints").iterdir()
    reached = int(checkpoint.name.split("-")[1])
    assert at <= reached < total
    told = []
    train(pendulum_random, tmp_path / "run", progress=lambda done, total, **_: told.append(done))
    assert min(told) >= reached
    train(pendulum_random, tmp_path / "straight")
    (_, found), (_, straight) = load_run(tmp_path / "run"), load_run(tmp_path / "straight")
    assert all(torch.equal(found[name], value) for name, value in straight.items())


def test_one_behind_the_last_report_is_not_lost(pendulum_random, tmp_path, monkeypatch):
    leave = RunFolder.__exit__

    def interrupted(run, kind, *rest):
        signal.raise_signal(signal.SIGINT)
        return leave(run, kind, *rest)

    monkeypatch.setattr(RunFolder, "__exit__", interrupted)
    for _ in range(2):  # it trains, then it is finished already
        with pytest.raises(KeyboardInterrupt, match="the work was done"):
            facade.train(pendulum_random, tmp_path / "run", **SETTINGS)
        assert load_run(tmp_path / "run")


def test_before_the_work_begins_it_ends_at_once(pendulum_random, tmp_path, monkeypatch):
    monkeypatch.setattr(facade.training, "model_entry", lambda name: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt) as caught:
        facade.train(pendulum_random, tmp_path / "run", training=SETTINGS["training"])
    assert str(caught.value) == ""


def test_a_second_one_ends_it_at_once(pendulum_random, tmp_path):
    with pytest.raises(KeyboardInterrupt) as caught:
        facade.train(pendulum_random, tmp_path / "run", **SETTINGS, progress=_interrupts(17, times=2))
    assert "saved" not in str(caught.value)
    assert not (tmp_path / "run" / "checkpoints").exists() or not [*(tmp_path / "run" / "checkpoints").iterdir()]


def test_a_stop_of_the_callers_own_is_theirs(pendulum_random, tmp_path):
    def stops(done, total, **_):
        if done == 5:
            raise StoppedError(signal.SIGINT)

    with pytest.raises(StoppedError):
        facade.train(pendulum_random, tmp_path / "run", **SETTINGS, progress=stops)


def test_a_stop_need_not_name_a_signal(pendulum_random, tmp_path):
    def stops(done, total, **_):
        if done == 5:
            raise StoppedError

    with pytest.raises(StoppedError, match="stopped by signal 2"):
        facade.train(pendulum_random, tmp_path / "run", **SETTINGS, progress=stops)
    assert list((tmp_path / "run" / "checkpoints").iterdir())


def test_who_heeds_signals_otherwise_is_left_alone(pendulum_random, tmp_path):
    heard = []
    signal.signal(signal.SIGINT, lambda *_: heard.append(1))
    try:
        run = facade.train(pendulum_random, tmp_path / "run", **SETTINGS, progress=_interrupts(5))
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    assert heard == [1]
    assert load_run(run)


def test_another_thread_heeds_no_signals(pendulum_random, tmp_path):
    ended = []
    thread = threading.Thread(
        target=lambda: ended.append(facade.train(pendulum_random, tmp_path / "run", **SETTINGS))
    )  # fmt: skip
    thread.start()
    thread.join()
    assert ended == [tmp_path / "run"]


def test_what_another_thread_could_do_again_is_no_reason_to_lose_ours(pendulum_random, tmp_path):
    inside, leave = threading.Event(), threading.Event()

    def prepares():
        with stopping.nothing_to_save():
            inside.set()
            leave.wait(20)

    thread = threading.Thread(target=prepares)
    thread.start()
    inside.wait()
    try:
        with pytest.raises(KeyboardInterrupt, match="saved"):
            facade.train(pendulum_random, tmp_path / "run", **SETTINGS, progress=_interrupts(17))
    finally:
        leave.set()
        thread.join()
    (checkpoint,) = (tmp_path / "run" / "checkpoints").iterdir()
    assert int(checkpoint.name.split("-")[1]) >= 17


def test_seeds_that_have_learned_nothing_yet_are_waited_for(pendulum_random, tmp_path, monkeypatch):
    """Else their threads would hold the folders against the same call."""
    prepared = facade.training.told_of

    def prepares(*given, **settings):
        if threading.current_thread().name == "seed 0":
            signal.raise_signal(signal.SIGINT)
        time.sleep(0.7)
        return prepared(*given, **settings)

    monkeypatch.setattr(facade.training, "told_of", prepares)
    with pytest.raises(KeyboardInterrupt, match="what was learned is saved"):
        train_seeds(pendulum_random, tmp_path / "all", (0, 1), **SETTINGS)
    assert not [one for one in threading.enumerate() if one.name.startswith("seed ")]
    monkeypatch.undo()
    runs = train_seeds(pendulum_random, tmp_path / "all", (0, 1), **SETTINGS)
    assert all(map(load_run, runs))


class Pruned(Exception):
    """What a search for settings raises to end a trial."""


def test_an_error_of_whoever_watches_ends_it_and_the_same_call_goes_on(pendulum_random, tmp_path):
    def watches(done, total, **_):
        if done == 25:
            raise Pruned

    settings = SETTINGS | {"training": foretell.TrainingConfig(updates=30, batch_size=4, checkpoint_every=10)}
    with pytest.raises(Pruned):
        facade.train(pendulum_random, tmp_path / "run", **settings, progress=watches)
    told = []
    facade.train(pendulum_random, tmp_path / "run", **settings, progress=lambda done, total, **_: told.append(done))
    assert told == list(range(21, 31))
    facade.train(pendulum_random, tmp_path / "straight", **settings)
    (_, found), (_, straight) = load_run(tmp_path / "run"), load_run(tmp_path / "straight")
    assert all(torch.equal(found[name], value) for name, value in straight.items())
