"""Compiling C into a shared library, once a machine, kept in the user's cache folder."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Generator, Sequence
from functools import cache
from pathlib import Path

from foretell.core.files import open_file
from foretell.core.system import flush
from foretell.core.warning import warn_caller

SWITCH = "FORETELL_NATIVE"
"""`FORETELL_NATIVE=0` in the environment: nothing is compiled or loaded."""
FLAGS = (
    "-O3", "-march=native", "-std=gnu11", "-shared", "-fPIC",
    "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-fassociative-math", "-freciprocal-math",
)  # fmt: skip
"""Sums may be taken in another order; infinities and NaN stay what they are, for divergence has to be noticed."""
EXACT = ("-ffp-contract=off", "-fno-associative-math", "-fno-reciprocal-math", "-fsigned-zeros")
"""Each operation as it is written, rounded once: the numbers are then those of PyTorch's operators."""
BUILD_SECONDS, ANSWER_SECONDS = 120, 10
DIGEST_BYTES = 32
"""Of the SHA-256 of a library, which stands at its end."""
_SAID: set[str] = set()
_ONE_AT_A_TIME = threading.RLock()
_FOLDER = Path(__file__).parent / "native"
PRODUCTS = _FOLDER / "products.h", _FOLDER / "registers.h"
"""Matrix products, which the libraries of several packages include, and what they include."""
SPARSE = _FOLDER / "sparse.h", *PRODUCTS
"""Those of factors with many zeros."""


def shared_library(source: Path, beside: Sequence[Path] = (), flags: Sequence[str] = ()) -> Path | None:
    """Return the library that `source` compiles to; None where compiling is switched off or there is no compiler.

    `beside` are files that it includes, `flags` what the compiler is told beyond `FLAGS`. The library is named by a
    digest of sources, compiler, flags and processor.
    Raises `OSError` where the cache folder cannot be used, `subprocess.SubprocessError` where compiling fails, both
    with a warning: what computes in its place takes longer and rounds differently.
    """
    compiler = _compiler()
    if compiler is None:
        return None
    with _told(source, "compiled and kept"):
        return _built(compiler, source, beside, flags)


def loaded(source: Path, beside: Sequence[Path] = (), flags: Sequence[str] = ()) -> ctypes.CDLL | None:
    """Return the library itself; None where `shared_library` gives none or raises, which it warns of, and, with a
    warning, where the system will not load it: programs may be forbidden where it lies (noexec)."""
    with _ONE_AT_A_TIME, contextlib.suppress(OSError, subprocess.SubprocessError):
        if path := shared_library(source, beside, flags):
            with _told(source, "loaded"):
                return ctypes.CDLL(str(path))
    return None


def _compiler() -> str | None:
    """Return the compiler; None where there is none, and where nothing is to be compiled."""
    if os.environ.get(SWITCH) == "0" or not sys.platform.startswith("linux"):
        return None
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


@contextlib.contextmanager
def _told(source: Path, done: str) -> Generator[None]:
    """Warn of an error that keeps C from being used, once of each."""
    try:
        yield
    except (OSError, subprocess.SubprocessError) as error:
        why = _reason(error)
        if why not in _SAID:
            warn_caller(
                f"{source.name} cannot be {done} ({why}); PyTorch and NumPy compute in its place, "
                f"which takes longer and rounds differently. Mend it, or set {SWITCH}=0 to leave all C out."
            )
        _SAID.add(why)
        raise


def _built(compiler: str, source: Path, beside: Sequence[Path], flags: Sequence[str]) -> Path:
    sources = [path.read_bytes() for path in (source, *beside)]
    parts = [*sources, _version(compiler), " ".join([*FLAGS, *flags]).encode(), _processor()]
    digest = hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()
    folder = _cache_folder()
    library = folder / f"{source.stem}-{digest[:24]}.so"
    if not _is_whole(library):
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            made = Path(scratch) / library.name
            command = [compiler, *FLAGS, *flags, str(source), "-o", str(made), "-lm"]
            subprocess.run(command, capture_output=True, timeout=BUILD_SECONDS, check=True)
            with made.open("ab") as handle:  # the loader looks at nothing behind the end of the program
                handle.write(hashlib.sha256(made.read_bytes()).digest())
            made.chmod(0o700)  # whatever the umask: who can write it has this user run what he likes
            flush(made)
            made.replace(library)  # whole or absent, however many build at a time
    return library


def _is_whole(library: Path) -> bool:
    """Whether a library is there, this user's alone, and as it was when it was made: one that is cut short ends whoever
    loads it."""
    try:
        with open_file(library) as handle:
            found, content = os.fstat(handle.fileno()), handle.read()
    except FileNotFoundError:
        return False
    return _is_ours_alone(found) and hashlib.sha256(content[:-DIGEST_BYTES]).digest() == content[-DIGEST_BYTES:]


def _reason(error: OSError | subprocess.SubprocessError) -> str:
    """Return what the compiler called an error first, or what else went wrong, in a line."""
    said = error.stderr if isinstance(error, subprocess.CalledProcessError) else None
    lines = (said or b"").decode(errors="replace").splitlines()
    words = ("error", "failed")  # the linker says why before the compiler says that it failed
    return next((line.strip() for line in lines if any(word in line for word in words)), str(error))


@cache
def _asked_for_version(compiler: str) -> bytes | subprocess.SubprocessError | OSError:
    try:
        asked = subprocess.run([compiler, "--version"], capture_output=True, timeout=ANSWER_SECONDS, check=True)
    except (subprocess.SubprocessError, OSError) as error:  # it need not be asked, and waited for, again
        return error
    return asked.stdout


def _version(compiler: str) -> bytes:
    """Return what a compiler says of itself. Raises as `shared_library` does where it says nothing."""
    found = _asked_for_version(compiler)
    if isinstance(found, Exception):
        raise found
    return found


def compiler_name() -> str | None:
    """Return the compiler of the libraries, in its own words; None where none computes."""
    compiler = _compiler()
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return _version(compiler).decode(errors="replace").partition("\n")[0] if compiler else None
    return None


def _cache_folder() -> Path:
    """Return a folder that belongs to this user, and that nobody else may write to. Raises `OSError` otherwise."""
    root = os.environ.get("XDG_CACHE_HOME", "")
    try:
        folder = (Path(root) if Path(root).is_absolute() else Path.home() / ".cache") / "foretell"
    except RuntimeError as error:  # a user without a name or a home
        raise FileNotFoundError(f"{str(error).rstrip('.')}; set HOME or XDG_CACHE_HOME") from None
    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)  # as XDG has it: who may write there may put another
    folder.mkdir(exist_ok=True, mode=0o700)
    if not _is_ours_alone(folder.stat()):
        raise PermissionError(f"{folder} belongs to or can be written by others; nothing is loaded from there")
    return folder


def _is_ours_alone(found: os.stat_result) -> bool:
    return found.st_uid == os.getuid() and not found.st_mode & 0o022


@cache
def _processor() -> bytes:
    """Return what tells processors apart: a library for one must not be loaded on another."""
    lines = Path("/proc/cpuinfo").read_bytes().splitlines() if Path("/proc/cpuinfo").exists() else []
    wanted = (b"model name", b"flags", b"Features", b"CPU part")
    return platform.machine().encode() + b"\n".join(sorted({line for line in lines if line.startswith(wanted)}))
