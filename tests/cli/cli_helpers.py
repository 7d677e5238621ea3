"""The command line as a person meets it: exit code, stdout, stderr, and what lies in a folder before and after."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import h5py
import tyro

from foretell.cli import main as command_line
from foretell.core.files import sha256_of


@dataclass(frozen=True, kw_only=True)
class Answer:
    code: int
    out: str
    err: str

    def refusal(self, code: int, *words: str) -> str:
        """Check that this is a refusal: one sentence on stderr with `words` in it, nothing on stdout, no traceback."""
        assert self.code == code, self.err
        assert self.out == ""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("foretell: ")
        for word in words:
            assert word in lines[0], (word, lines[0])
        return lines[0]


def parse(arguments):
    """Parse a command line with the real parser, without running it; return the verb's settings."""
    return _parsed(tuple(str(argument) for argument in arguments))


@cache
def _parsed(words):
    """The same words are the same frozen settings; the parser takes a tenth of a second for them."""
    return tyro.cli(command_line.Verb, prog="foretell", args=list(words))


def contents(folder: Path) -> dict[str, str]:
    """Every file below `folder` with its SHA-256; locks hold nothing and are left out."""
    files = (path for path in Path(folder).rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): sha256_of(path) for path in files}


def rewrite(path: Path, change) -> None:
    """Let `change(file)` edit the HDF5 file; our own fingerprint goes, as in files by others."""
    with h5py.File(path, "r+") as file:
        del file["foretell"]
        change(file)


SMALL = ("--context-length", 3, "--width", 8, "--layers", 1, "--updates", 10, "--batch-size", 4, "--log-every", 5)
"""Settings of a model that is trained in a blink."""
