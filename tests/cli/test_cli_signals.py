"""What a signal does to a process that notes it: the first asks, the second ends."""

from __future__ import annotations

import os
import signal

import pytest

from foretell.cli.signals import noted, stop_if_asked
from foretell.core.errors import StoppedError


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
