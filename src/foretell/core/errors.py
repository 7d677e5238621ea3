"""Errors that a person can act on. Each says what was found, what was expected and how to mend it.

The exit codes are those of the command line (`docs/command-line.md`).
"""

from __future__ import annotations


class ForetellError(Exception):
    """Base of every error that Foretell raises on purpose; shown as one sentence, without a traceback."""

    exit_code = 1


class UsageError(ForetellError):
    """A flag, argument, name or combination of them cannot be used."""

    exit_code = 2


class DatasetError(ForetellError):
    """A dataset, episode or environment does not hold what it must."""

    exit_code = 3


class CheckpointError(ForetellError):
    """A run folder or checkpoint is missing, damaged or of another configuration."""

    exit_code = 4


class DivergedError(ForetellError):
    """Training met a value that is not finite; nothing was saved after it."""

    exit_code = 5


class ResourceError(ForetellError):
    """The disk or the memory is full, or may not be written."""

    exit_code = 6


class LockedError(ForetellError):
    """Another process, or another thread of this one, is at work on this run folder or output."""

    exit_code = 7


class StoppedError(ForetellError):
    """A signal asked for an end, and the work so far was saved: 128 plus the signal's number, as shells have it.

    Whoever raises it in `progress` ends the work likewise, and need not name a signal: 2 is that of Ctrl-C.
    """

    exit_code = 130

    def __init__(self, signal_number: int = 2):
        super().__init__(f"stopped by signal {signal_number:d}; the same command continues.")
        self.exit_code = 128 + signal_number
        self.signal_number = signal_number

    def __reduce__(self) -> tuple[type[StoppedError], tuple[int]]:
        return StoppedError, (self.signal_number,)
