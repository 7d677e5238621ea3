"""What a signal does to a process that notes it: the first asks, the second ends."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import time

import pytest
from cli_helpers import SMALL

from foretell.core import signals
from foretell.core.errors import StoppedError
from foretell.core.signals import noted
from foretell.core.stopping import nothing_to_save, stop_if_asked


def test_a_second_signal_ends_at_once():
    before = signal.getsignal(signal.SIGTERM)
    with noted(signal.SIGTERM):
        stop_if_asked()
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(StoppedError) as caught:
            stop_if_asked()
        assert caught.value.exit_code == 143
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
    stop_if_asked()
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize("count", [1, 2])
def test_of_processes_that_torchrun_started_a_second_signal_is_the_same_wish(monkeypatch, count):
    """A signal to all of a job reaches each process twice: torchrun, which hears it too, passes it on."""
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    for name, value in zip(
        ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"), (count - 1, count - 1, count, count)
    ):
        monkeypatch.setenv(name, str(value))
    with noted(signal.SIGTERM):
        os.kill(os.getpid(), signal.SIGTERM)
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except KeyboardInterrupt:
            pytest.fail("ended at once")
        with pytest.raises(StoppedError):
            stop_if_asked()


def _asked_at_once():
    with nothing_to_save():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)  # the work, which nobody reports


def test_where_nothing_would_be_lost_a_signal_ends_in_the_middle():
    with noted(signal.SIGTERM):
        began = time.monotonic()
        with pytest.raises(StoppedError) as caught:
            _asked_at_once()
        assert caught.value.exit_code == 143
        assert time.monotonic() - began < 30
    with noted(signal.SIGTERM):  # over: what is to be saved is saved again
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(StoppedError):
            stop_if_asked()


IMPORTED = """
import os, signal, time
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(0.3)
whole = True
"""


def _import_and_work(name):
    with nothing_to_save():
        importlib.import_module(name)
        time.sleep(60)


def test_a_module_that_is_being_imported_is_not_left_half_imported(tmp_path, monkeypatch):
    """Importers swallow what is raised in there, as PyTorch does with some of its own modules."""
    name = "a_module_of_a_test_of_signals"
    (tmp_path / f"{name}.py").write_text(IMPORTED)
    monkeypatch.syspath_prepend(tmp_path)
    with noted(signal.SIGTERM), pytest.raises(StoppedError):
        _import_and_work(name)
    assert sys.modules[name].whole


def test_an_import_that_does_not_end_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(signals, "LOOKS", 3)
    (tmp_path / "another_module_of_a_test_of_signals.py").write_text(IMPORTED.replace("0.3", "60"))
    monkeypatch.syspath_prepend(tmp_path)
    with noted(signal.SIGTERM), pytest.raises(StoppedError), nothing_to_save():
        importlib.import_module("another_module_of_a_test_of_signals")


def test_a_wish_from_before_ends_it_as_it_begins():
    with noted(signal.SIGINT):
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(StoppedError), nothing_to_save():
            raise AssertionError


@pytest.mark.parametrize("condition", ["advantage", "return"])
def test_a_training_is_stopped_while_it_learns_what_to_tell_its_network(
    condition, foretell, data, tmp_path, monkeypatch
):
    from foretell.facade import training

    def patient(*_, **__):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)

    name = "told_of" if condition == "advantage" else "asking_of"
    right = getattr(training, name)
    monkeypatch.setattr(training, name, patient)
    words = ("train", data, "--out", "run", "--condition", condition, *SMALL)
    words += ("--values.updates", 3) if condition == "advantage" else ()
    began = time.monotonic()
    answer = foretell(*words)
    assert time.monotonic() - began < 30
    answer.refusal(143, "stopped by signal 15; the same command continues")
    monkeypatch.setattr(training, name, right)
    assert foretell(*words).code == 0
