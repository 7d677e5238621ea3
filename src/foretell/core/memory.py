"""Memory that runs out: a sentence with what was asked for and what the limit is, in place of a kill."""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Generator
from pathlib import Path

from foretell.core.containers import container_limit
from foretell.core.errors import ResourceError
from foretell.core.system import resource

_PYTORCH = re.compile(r"tried to allocate ([\d.]+ ?\w+)", re.IGNORECASE)
_NUMPY = re.compile(r"Unable to allocate ([\d.]+ \w+)")
_SHORT = re.compile(r"allocate memory|not enough memory|out of memory|bad_alloc|start new thread|failed to map segment")
"""What PyTorch, the C++ library, Python's threads and the loader of libraries say in errors of other kinds."""
GPUS = (Path("/dev/nvidiactl"), Path("/dev/kfd"))
"""Where one is, its driver reserves far more memory than it uses, and what is reserved says nothing."""
LITTLE = 1 << 26
"""Bytes; more than opening any file takes beyond its columns."""
RESERVE = 1 / 16
"""Part of a container's memory that is left to what the kernel counts there besides this process's own data."""


def asked_for(error: BaseException) -> str | None:
    """Return how much was asked for, in words, where an error says that memory ran out; None where it is another."""
    said = str(error)
    short = isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
    if not short and not (isinstance(error, RuntimeError | ImportError) and _SHORT.search(said)):
        return None
    found = _PYTORCH.search(said) or _NUMPY.search(said)
    return f"{found[1]} at once" if found else "more than there is"


def is_short() -> bool:
    """Say whether not even a little can be had: who met an error that may mean it can then tell it from others."""
    try:
        bytearray(LITTLE)
    except MemoryError:
        return True
    return False


@contextlib.contextmanager
def memory_errors() -> Generator[None]:
    """Turn whatever says that memory ran out into a `ResourceError`."""
    try:
        yield
    except (MemoryError, RuntimeError, ImportError, OSError) as error:
        asked = asked_for(error)
        if asked is None:
            raise
        if "CUDA" in str(error):
            raise ResourceError(
                f"the GPU's memory is full: {asked} was asked for. Ask for less (a smaller --batch-size, "
                "--context-length or --width, or fewer --seeds), or train with --device cpu."
            ) from error
        raise ResourceError(
            f"memory is full: {asked} was asked for, {_limit_in_words()}. Ask for less (in training a smaller "
            "--batch-size, --context-length or --width, elsewhere fewer --episodes or --workers), or allow more."
        ) from error


def limits() -> dict[str, int]:
    """Return the limits that hold for this process in bytes, by what sets them; none where nothing does."""
    found = {}
    kinds = (("ulimit -v", "RLIMIT_AS"), ("ulimit -d", "RLIMIT_DATA")) if resource else ()
    for name, kind in kinds:
        if (soft := resource.getrlimit(getattr(resource, kind))[0]) != resource.RLIM_INFINITY:
            found[name] = soft
    if (container := container_limit()) is not None:
        found["the control group"] = container
    return found


def keep_within_the_container() -> None:
    """Let allocations fail, which can be told, before the kernel ends a process that outgrows its control group.

    On a machine with a GPU nothing is done.
    """
    container = container_limit() if resource is not None else None
    if container is None:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if soft != resource.RLIM_INFINITY or any(gpu.exists() for gpu in GPUS):
        return
    most = int(container * (1 - RESERVE))
    resource.setrlimit(resource.RLIMIT_DATA, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def _limit_in_words() -> str:
    found = limits()
    if not found:
        return "and nothing limits this process but the machine's own memory"
    name = min(found, key=lambda one: found[one])
    return f"and {name} allows {found[name] / 2**20:,.0f} MiB"
