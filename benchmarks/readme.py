"""Puts an experiment's table into README.md and docs/experiments.md, and its figures and table beside them.

python -m benchmarks.readme results/pendulum
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from foretell.core.files import read_json, write_text

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- results:begin", "<!-- results:end -->"
KEPT = ROOT / "docs" / "results"


def put_between_markers(page: Path, text: str) -> None:
    """Replace what stands between the markers of `page`."""
    before, rest = page.read_text(encoding="utf-8").split(BEGIN, 1)
    marker, rest = rest.split("\n", 1)
    _, after = rest.split(END, 1)
    write_text(page, f"{before}{BEGIN}{marker}\n{text}\n{END}{after}")


def main(folder: Path) -> None:
    """Copy table and figures of a full run; refuse a smoke run."""
    table = read_json(folder / "table.json")
    if table["protocol"]["quick"]:
        sys.exit(f"{folder}: a smoke run; its numbers are not for the README.")
    KEPT.mkdir(parents=True, exist_ok=True)
    for name in ("table.json", "table.md"):
        shutil.copyfile(folder / name, KEPT / name)
    for picture in sorted((folder / "figures").glob("*.png")):
        shutil.copyfile(picture, KEPT / picture.name)
    text = (folder / "table.md").read_text(encoding="utf-8").strip()
    for page in (ROOT / "README.md", ROOT / "docs" / "experiments.md"):
        put_between_markers(page, text)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "results/pendulum"))
