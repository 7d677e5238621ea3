"""Odd paths: the command works there, or refuses with exit code 2; nothing is written anywhere else."""

from __future__ import annotations

import os
from pathlib import Path

from faults import runs
from faults.commands import run
from faults.harness import Scale, Tally, fault_check
from faults.interruption import train_command

PLAIN = {
    "café",
    "数据",
    "a b",
    "with'quote",
    'with"quote',
    "tab\there",
    "line\nbreak",
    "🎲",
    "%s%d{0}",
    "$HOME",
    "*",
    "#",
}
"""Names that any system with UTF-8 takes."""
ODD = [
    *sorted(PLAIN), " ", " leading", "trailing ", ".hidden", "...", "-dash", "--out", "-", "~", "a\\b", "a;b|c&d",
    "e\u0301", "\u202egnp", "\u200b", "bad-\udcff-byte", "x" * 80, "x" * 240, "x" * 255, "x" * 256, "ж" * 100,
    "🎲" * 60, "/".join(["deep"] * 40), "/".join(["y" * 200] * 25), "a/b/c", "a//b", "a/./b", "inside/../b",
    "missing/../b", "missing/../../outside/b", "file/under", "file", "link", "link/..", "dangling", "loop", ".", "..",
    "", "/dev/null/run",
]  # fmt: skip
"""What is appended to the folder; some of it lies there: `inside` (a folder), `file`, and three symbolic links."""
QUICK = (
    "数据",
    "line\nbreak",
    "--out",
    "bad-\udcff-byte",
    "x" * 255,
    "🎲" * 60,
    "missing/../b",
    "file/under",
    "loop",
    "",
)
VERBS = ("train", "collect")


def _prepare(at: Path) -> None:
    """Make the folder of a case with what some paths lead to, and a neighbour in which nothing may change."""
    (at / "inside").mkdir(parents=True)
    (at / "file").write_text("kept")
    (at.parent / "outside").mkdir(exist_ok=True)
    (at / "link").symlink_to("inside")
    (at / "dangling").symlink_to("nowhere")
    (at / "loop").symlink_to("loop")


def _snapshot(folder: Path) -> dict[str, bytes | str | None]:
    found: dict[str, bytes | str | None] = {}
    for root, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = os.path.join(root, name)
            link = os.path.islink(path)
            content = os.readlink(path) if link else None if os.path.isdir(path) else Path(path).read_bytes()
            found[os.path.relpath(path, folder)] = content
    return found


def _case(verb: str, odd: str, at: Path, data: Path, joined: bool) -> str:
    """Run one verb with one path; say what is wrong. `joined` is the form --out=PATH, which dashes need."""
    _prepare(at)
    out = odd if verb == "train" else f"{odd}.hdf5"
    words = (
        train_command("plain", data, out)
        if verb == "train"
        else ["collect", "random", "--steps", 200, "--out", out, "--json"]
    )
    if joined:
        place = words.index("--out")
        words[place : place + 2] = [f"--out={out}"]
    before = _snapshot(at.parent)
    ended = run(words, at)
    if ended.code not in (0, 2) or "Traceback" in ended.said:
        return f"exit code {ended.code}, said {ended.said[-400:]!r}"
    made = {name: content for name, content in _snapshot(at.parent).items() if before.get(name, b"none") != content}
    where = os.path.normpath(os.path.join(os.path.realpath(at), out))
    real = os.path.realpath(where)
    stray = [name for name in made if not _belongs(os.path.join(os.path.realpath(at.parent), name), where, real)]
    gone = [name for name in before if not os.path.lexists(at.parent / name)]
    if stray or gone:
        return f"{stray} written, {gone} gone"
    if ended.code == 2:
        return f"refused, and {list(made)} written" if made else "" if ended.said else "refused without a word"
    return "" if run(words, at).code == 0 else "the same command again does not work"


def _belongs(path: str, *places: str) -> bool:
    """Whether a path is the output, in it, beside it under its name, or a folder above it."""
    for place in places:
        stem = place.removesuffix(".hdf5")
        if path == place or path.startswith((place + "/", stem + ".")) or place.startswith(path + "/"):
            return True
    return False


@fault_check("odd paths")
def odd_paths(scale: Scale) -> tuple[int, int]:
    tally, number = Tally(), 0
    data = runs.make_data(scale.folder / "data.hdf5")
    for odd in ODD if scale.full else QUICK:
        for verb in VERBS if scale.full else VERBS[number % 2 :][:1]:
            for joined in (False, True) if odd.startswith("-") else (False,):
                number += 1
                wrong = _case(verb, odd, scale.folder / f"case-{number}" / "at", data, joined)
                tally.add(not wrong, f"{verb} {odd[:40]!r}: {wrong}")
    return tally.figures
