"""Seeds whose updates are one program: each is the run that it would be alone. On the CPU, where no graph is made."""

from __future__ import annotations

import inspect
import signal
import threading
import time
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import get_type_hints

import pytest
import torch

from foretell import facade
from foretell.core import signals
from foretell.core.errors import DivergedError, StoppedError, UsageError
from foretell.facade.seeds import TrainSettings, train_seeds
from foretell.sequences.resident import ResidentWindows, resident_bytes
from foretell.sequences.windows import WindowSampler
from foretell.training.captured import CapturedTraining, Replayed
from foretell.training.configs import ComputeConfig, TrainingConfig
from foretell.training.placing import Place, _fits
from foretell.training.run_folder import load_run, read_events
from foretell.training.together import Meeting, Together
from reference.making import make_dataset, scaled, small_config, small_model

CPU = torch.device("cpu")
CONFIG = TrainingConfig(updates=30, batch_size=5, warmup_updates=3, log_every=4, learning_rate=1e-3)
SETTINGS = {
    "model": small_config("decision-transformer"), "condition": "none",
    "training": TrainingConfig(updates=12, batch_size=4, log_every=3, checkpoint_every=4),
}  # fmt: skip


def _training(seed, optimizer="adamw", name="decision-transformer"):
    sampler = WindowSampler(make_dataset([9, 5, 14]), scaled(), context_length=4, seed=seed)
    model = small_model(name, dropout=0.1)
    return CapturedTraining(model, ResidentWindows(sampler, CPU), replace(CONFIG, optimizer=optimizer), seed)


def _same(one, other):
    for name, value in other.state().items():
        assert torch.equal(one.state()[name], value), name


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_updates_of_several_are_those_of_each(optimizer):
    members, alone = ([_training(seed, optimizer) for seed in (0, 1, 2)] for _ in range(2))
    together = Together(members)
    for update in range(8):
        found = together.update([update, update + 3, 2 * update])  # they need not be at the same one
        expected = [one.update(at) for one, at in zip(alone, (update, update + 3, 2 * update), strict=True)]
        for mine, theirs in zip(found, expected, strict=True):
            assert float(mine["loss"]) == float(theirs["loss"])
            assert mine["learning_rate"] == theirs["learning_rate"]
    for one, other in zip(members, alone, strict=True):
        _same(one, other)
    assert not torch.equal(*[next(iter(one.model.parameters())) for one in members[:2]])


def _meet(trainings, counts):
    """Let each take its number of updates in a thread; return what ended each."""
    meeting, errors = Meeting(len(trainings)), [None] * len(trainings)

    def work(place):
        try:
            for update in range(counts[place]):
                trainings[place].update(update)
        except Exception as error:
            errors[place] = error
        finally:
            meeting.leave()

    for training in trainings:
        training.meeting = meeting
    threads = [threading.Thread(target=work, args=(place,), daemon=True) for place in range(len(trainings))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "waits for somebody who does not come"
    return errors


def test_those_that_end_are_waited_for_no_more():
    counts = [3, 9, 0, 6]
    members, alone = ([_training(seed) for seed in range(4)] for _ in range(2))
    assert _meet(members, counts) == [None] * 4
    for one, other, count in zip(members, alone, counts, strict=True):
        for update in range(count):
            other.update(update)
        _same(one, other)


def test_one_thread_takes_all_updates_and_ends_with_them(monkeypatch):
    taken, plain = set(), Together.update

    def noted(self, updates):
        taken.add(threading.current_thread())
        assert torch.get_num_threads() == 1
        return plain(self, updates)

    monkeypatch.setattr(Together, "update", noted)
    members = [_training(seed) for seed in range(3)]
    torch.set_num_threads(2)  # those who ask have more, each
    try:
        assert _meet(members, [3, 9, 6]) == [None] * 3
    finally:
        torch.set_num_threads(1)
    (thread,) = taken
    thread.join(10)
    assert not thread.is_alive()


def test_the_thread_of_the_updates_ends_when_nobody_else_is_expected():
    meeting, member = Meeting(2), _training(0)
    gone = threading.Thread(target=meeting.leave)
    gone.start()
    gone.join(10)
    meeting.update(member, 0)
    assert meeting._taker.is_alive()
    meeting.expect_fewer(1)
    meeting._taker.join(10)
    assert not meeting._taker.is_alive()


def test_one_that_is_not_finite_ends_alone():
    members, other = [_training(seed) for seed in range(3)], _training(2)
    gather = members[1].windows.gather

    def poisoned(rows):
        batch = gather(rows)
        batch.observations[0, -1, 0] = torch.nan
        return batch

    members[1].windows.gather = poisoned
    errors = _meet(members, [8, 8, 8])
    assert isinstance(errors[1], DivergedError)
    assert (errors[0], errors[2]) == (None, None)
    for update in range(8):
        other.update(update)
    _same(members[2], other)


def test_what_fails_for_all_is_told_to_each():
    members = [_training(seed) for seed in range(3)]

    def fails():
        raise RuntimeError("the device is lost")

    members[2].compute = fails
    assert [str(error) for error in _meet(members, [2, 2, 2])] == ["the device is lost"] * 3


def test_after_a_state_was_loaded_another_program_is_made():
    members = [_training(seed) for seed in range(2)]
    together = Together(members)
    assert together.is_of(members[::-1])
    assert not together.is_of(members[:1])
    members[0].load_state({name: value.clone() for name, value in members[0].state().items()})
    assert not together.is_of(members)
    again = Together(members)  # one was continued, the other is new: they ask in whatever order they come
    assert again.is_of(members)
    assert again.is_of(members[::-1])


@pytest.fixture(params=["as on a GPU", "on the CPU"])
def kind(request, monkeypatch):
    """Let trainings be those of a GPU, or what the CPU has."""
    if request.param == "as on a GPU":

        def placed(place, algorithm, network, sampler, config, seed):
            training = CapturedTraining(network, ResidentWindows(sampler, CPU), config, seed)
            training.meeting = place.meeting
            return training

        monkeypatch.setattr(facade.training, "placed", placed)
        monkeypatch.setattr(facade.training.Place, "of", lambda *given, **_: Place(device=CPU, meeting=given[-1]))


def _weights(run):
    return load_run(run)[1]


def test_seeds_of_one_process_are_the_runs_that_they_would_be_alone(kind, pendulum_random, tmp_path):
    expected = [
        facade.train(pendulum_random.path, tmp_path / f"alone-{seed}", seed=seed, **SETTINGS) for seed in (0, 1, 2)
    ]
    told = []
    found = train_seeds(
        pendulum_random.path, tmp_path / "all", (0, 1, 2), progress=lambda done, total, **_: told.append((done, total)),
        **SETTINGS,
    )  # fmt: skip
    assert found == [tmp_path / "all" / f"seed-{seed}" for seed in (0, 1, 2)]
    assert told[-1] == (36, 36)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    for one, other in zip(found, expected, strict=True):
        for name, value in _weights(other).items():
            assert torch.equal(_weights(one)[name], value), name
        mine, theirs = ([event["loss"] for event in read_events(run)] for run in (one, other))
        assert mine == theirs
    before = torch.get_num_threads()
    assert train_seeds(pendulum_random.path, tmp_path / "all", (0, 1, 2), **SETTINGS) == found  # finished: left alone
    assert torch.get_num_threads() == before


def test_a_signal_saves_all_and_the_same_call_continues(kind, pendulum_random, tmp_path):
    expected = train_seeds(pendulum_random.path, tmp_path / "straight", (0, 1), **SETTINGS)

    def stops(done, total, **_):
        if done >= 11:
            raise StoppedError(15)

    with pytest.raises(StoppedError) as caught:
        train_seeds(pendulum_random.path, tmp_path / "stopped", (0, 1), progress=stops, **SETTINGS)
    assert caught.value.signal_number == 15
    for seed in (0, 1):
        assert list((tmp_path / f"stopped/seed-{seed}/checkpoints").iterdir())
        assert not (tmp_path / f"stopped/seed-{seed}/model.safetensors").exists()
    found = train_seeds(pendulum_random.path, tmp_path / "stopped", (0, 1), **SETTINGS)
    for one, other in zip(found, expected, strict=True):
        for name, value in _weights(other).items():
            assert torch.equal(_weights(one)[name], value), name


def test_one_that_cannot_be_trained_is_named_and_the_others_save(kind, pendulum_random, tmp_path):
    other = {**SETTINGS, "training": replace(SETTINGS["training"], updates=13)}
    facade.train(pendulum_random.path, tmp_path / "all/seed-1", seed=1, **other)
    long = {**SETTINGS, "training": replace(SETTINGS["training"], updates=100_000)}
    with pytest.raises(UsageError, match=r"^seed 1: .*another configuration .*updates"):
        train_seeds(pendulum_random.path, tmp_path / "all", (0, 1, 2), **long)
    for seed in (0, 2):
        assert list((tmp_path / f"all/seed-{seed}/checkpoints").iterdir())


def test_all_seeds_meet_at_every_update(pendulum_random, tmp_path, kind, request, monkeypatch):
    met, plain = [], Together.update
    monkeypatch.setattr(Together, "update", lambda self, updates: met.append(list(updates)) or plain(self, updates))
    train_seeds(pendulum_random.path, tmp_path / "all", (0, 1, 2), **SETTINGS)
    on_a_gpu = request.node.callspec.params["kind"] == "as on a GPU"
    assert met == ([[update] * 3 for update in range(12)] if on_a_gpu else [])


def test_a_finished_seed_counts_as_done(pendulum_random, tmp_path):
    train_seeds(pendulum_random.path, tmp_path / "all", (0, 2), **SETTINGS)
    told = []
    progress = lambda done, total, **_: told.append((done, total))  # noqa: E731
    train_seeds(pendulum_random.path, tmp_path / "all", (0, 1, 2), progress=progress, **SETTINGS)
    assert told[-1] == (36, 36)


def test_an_interrupt_of_who_waits_ends_all_saved(kind, pendulum_random, tmp_path):
    """As of Ctrl-C in a script, which notes no signals."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    long = {**SETTINGS, "training": replace(SETTINGS["training"], updates=100_000)}

    def interrupts(done, total, **_):
        if done == 40:
            signal.raise_signal(signal.SIGINT)

    try:
        with pytest.raises(KeyboardInterrupt):
            train_seeds(pendulum_random.path, tmp_path / "all", (0, 1), progress=interrupts, **long)
    finally:
        signal.signal(signal.SIGINT, before)
    for seed in (0, 1):
        assert list((tmp_path / f"all/seed-{seed}/checkpoints").iterdir())
    assert not [one for one in threading.enumerate() if one.name.startswith("seed ") and one.is_alive()]


def test_a_thread_that_cannot_start_is_not_waited_for(kind, pendulum_random, tmp_path, monkeypatch):
    start = threading.Thread.start

    def starts(thread):
        if thread.name == "seed 2":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", starts)
    with pytest.raises(RuntimeError, match="can't start"):
        train_seeds(pendulum_random.path, tmp_path / "all", (0, 1, 2), **SETTINGS)
    assert not [one for one in threading.enumerate() if one.name.startswith("seed ") and one.is_alive()]


def test_a_signal_before_anything_is_learned_ends_at_once(pendulum_random, tmp_path, monkeypatch):
    over = threading.Event()

    def ranks_for_long(*_, **__):
        signal.raise_signal(signal.SIGTERM) if threading.current_thread().name == "seed 0" else None
        over.wait(20)
        raise UsageError("the process would have ended")

    monkeypatch.setattr(facade.training, "told_of", ranks_for_long)
    started = time.monotonic()
    with pytest.raises(StoppedError) as caught, signals.noted(signal.SIGTERM):
        train_seeds(pendulum_random.path, tmp_path / "all", (0, 1), **SETTINGS)
    assert caught.value.signal_number == 15
    assert time.monotonic() - started < 10
    over.set()  # the next test must not meet them
    for thread in [one for one in threading.enumerate() if one.name.startswith("seed ")]:
        thread.join()


def test_who_takes_no_part_is_waited_for_no_more_and_one_decides_for_all():
    meeting, training = Meeting(2), _training(0)
    training.meeting = meeting
    assert meeting.agree(lambda: False) is False
    assert meeting.agree(lambda: True) is False
    other = threading.Thread(target=lambda: (meeting.leave(), meeting.leave()))
    other.start()
    other.join()
    assert float(training.update(0)["loss"]) > 0


@pytest.mark.parametrize(("copies", "fits"), [(2, True), (3, False)])
def test_data_of_all_seeds_have_to_fit(copies, fits, monkeypatch):
    sampler = WindowSampler(make_dataset([9, 5, 14]), scaled(), context_length=4, seed=0)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (5 * resident_bytes(sampler), 0))
    assert _fits(sampler, Place(device=CPU, meeting=Meeting(copies))) == fits
    assert _fits(sampler, Place(device=CPU))


def test_a_place_hands_on_where_to_meet(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    meeting = Meeting(2)
    assert Place.of(ComputeConfig(device="cuda"), meeting=meeting).meeting is meeting


class _FakeStream:
    def __init__(self, device="cuda:0"):
        self.device = device

    def wait_stream(self, other):
        assert isinstance(other, _FakeStream)


def test_what_is_replayed_is_computed_three_times_and_captured_once(monkeypatch):
    """The order of calls; no GPU is at hand."""
    called = []
    graph = SimpleNamespace(replay=lambda: called.append("replay"))
    for name, value in {
        "Stream": _FakeStream, "CUDAGraph": lambda: graph, "current_stream": _FakeStream,
        "graph": lambda made, stream: nullcontext(called.append("capture")), "stream": nullcontext,
        "device": nullcontext,
    }.items():  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, value)
    replayed = Replayed("cuda:0", lambda stream: called.append("compute"), lambda made: called.append("enter"))
    for _ in range(5):
        replayed.run()
    assert called == ["compute"] * 3 + ["enter", "capture", "compute", "replay", "replay"]
    replayed.forget()
    replayed.run()
    assert called[-1] == "compute"


def test_the_settings_are_those_of_train():
    """Whoever types `train_seeds` is offered what it takes."""
    hints = get_type_hints(facade.train)
    named = {"dataset", "environment", "horizon", "ends_at", "progress"}
    assert named <= inspect.signature(train_seeds).parameters.keys()
    own = {"out", "seed", "meeting", "return"}
    assert get_type_hints(TrainSettings) == {key: hint for key, hint in hints.items() if key not in named | own}
