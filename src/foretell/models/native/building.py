"""Compiling and loading the C of this folder, once a machine; where anything is missing, nothing is loaded.

The library is kept under `$XDG_CACHE_HOME/foretell` (else `~/.cache/foretell`), named by a digest of source, compiler,
flags and processor. `FORETELL_NATIVE=0` in the environment switches it off.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import torch

SWITCH = "FORETELL_NATIVE"
SOURCES = ("stack.c", "attention.h", "kernels.h")
FLAGS = (
    "-O3", "-march=native", "-std=gnu11", "-shared", "-fPIC",
    "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-fassociative-math", "-freciprocal-math",
)  # fmt: skip
"""Sums may be taken in another order; infinities and NaN stay what they are, for divergence has to be noticed."""
BUILD_SECONDS = 120


class Native:
    """The loaded library and the matrix product of the BLAS that PyTorch brings."""

    def __init__(self, library: ctypes.CDLL, product: int):
        self.product = ctypes.c_void_p(product)
        self.kept_floats, self.forward, self.backward = (
            library.foretell_kept_floats, library.foretell_stack_forward, library.foretell_stack_backward,
        )  # fmt: skip
        self.kept_floats.restype = ctypes.c_int64


@cache
def native() -> Native | None:
    """Return the library, built if it has to be; None where it is switched off or cannot be had."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if os.environ.get(SWITCH) == "0" or not sys.platform.startswith("linux") or compiler is None:
        return None
    try:
        product = _sgemm()
        return Native(ctypes.CDLL(str(_built(compiler))), product)
    except (OSError, AttributeError, ValueError, subprocess.SubprocessError):
        return None


def kernels() -> str:
    """Return which operators compute transformer blocks on the CPU: native or torch. Runs of both differ by rounding
    and in the units that dropout drops."""
    return "native" if native() else "torch"


def _sgemm() -> int:
    """Return the address of the single-precision matrix product with 32-bit sizes."""
    library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
    address = ctypes.cast(library.sgemm_, ctypes.c_void_p).value
    if not address:
        raise ValueError("sgemm_ has no address")
    return address


def _built(compiler: str) -> Path:
    """Return where the library lies; compile it first where it does not yet."""
    sources = {name: (Path(__file__).parent / name).read_bytes() for name in SOURCES}
    version = subprocess.run([compiler, "--version"], capture_output=True, timeout=BUILD_SECONDS, check=True).stdout
    parts = [*sources.values(), version, " ".join(FLAGS).encode(), _processor()]
    digest = hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()
    folder = _cache_folder()
    library = folder / f"blocks-{digest[:24]}.so"
    if not library.exists():
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            made = Path(scratch) / library.name
            command = [compiler, *FLAGS, "-fopenmp", str(Path(__file__).parent / "stack.c"), "-o", str(made), "-lm"]
            subprocess.run(command, capture_output=True, timeout=BUILD_SECONDS, check=True)
            made.replace(library)  # whole or absent, however many build at a time
    return library


def _cache_folder() -> Path:
    """Return a folder that belongs to this user, and that nobody else may write to. Raises `OSError` otherwise."""
    root = os.environ.get("XDG_CACHE_HOME", "")
    folder = (Path(root) if Path(root).is_absolute() else Path.home() / ".cache") / "foretell"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = folder.stat()
    if found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise PermissionError(f"{folder} belongs to or can be written by others; nothing is loaded from there")
    return folder


def _processor() -> bytes:
    """Return what tells processors apart: a library for one must not be loaded on another."""
    lines = Path("/proc/cpuinfo").read_bytes().splitlines() if Path("/proc/cpuinfo").exists() else []
    wanted = (b"model name", b"flags", b"Features", b"CPU part")
    return platform.machine().encode() + b"\n".join(sorted({line for line in lines if line.startswith(wanted)}))
