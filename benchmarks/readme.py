"""Puts an experiment's tables into README.md and docs/experiments.md, and its figures and tables beside them.

python -m benchmarks.readme results/pendulum
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from foretell.core.files import read_json, write_text

ROOT = Path(__file__).resolve().parent.parent
RESULTS, LEAGUE = "results", "league"
"""Names of the places in a page: `<!-- NAME:begin ... -->` to `<!-- NAME:end -->`."""
KEPT = ROOT / "docs" / "results"


def put_between_markers(page: Path, place: str, text: str) -> None:
    """Replace what stands between the markers of a place in `page`."""
    begin, end = f"<!-- {place}:begin", f"<!-- {place}:end -->"
    before, rest = page.read_text(encoding="utf-8").split(begin, 1)
    marker, rest = rest.split("\n", 1)
    _, after = rest.split(end, 1)
    write_text(page, f"{before}{begin}{marker}\n{text}\n{end}{after}")


def main(folder: Path) -> None:
    """Copy table and figures of a full run; refuse a smoke run."""
    table = read_json(folder / "table.json")
    if table["protocol"]["quick"]:
        sys.exit(f"{folder}: a smoke run; its numbers are not for the README.")
    KEPT.mkdir(parents=True, exist_ok=True)
    for old in KEPT.glob("*.png"):
        old.unlink()
    for name in ("table.json", "table.md", "league.json", "league.md"):
        if (folder / name).exists():
            shutil.copyfile(folder / name, KEPT / name)
    for picture in sorted((folder / "figures").glob("*.png")):
        shutil.copyfile(picture, KEPT / picture.name)
    text = (folder / "table.md").read_text(encoding="utf-8").strip()
    for page in (ROOT / "README.md", ROOT / "docs" / "experiments.md"):
        put_between_markers(page, RESULTS, text)
    if (folder / "league.md").exists():
        league = (folder / "league.md").read_text(encoding="utf-8").strip()
        put_between_markers(ROOT / "docs" / "experiments.md", LEAGUE, league)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "results/pendulum"))
