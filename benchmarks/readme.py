"""Puts an experiment's tables into README.md and docs/experiments.md, and its figures and tables beside them.

python -m benchmarks.readme results/pendulum results/league   # the second: folder of the league, if it is another
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


def main(folder: Path, league: Path) -> None:
    """Copy tables and figures of full runs; refuse a smoke run."""
    for place in (folder, league):
        if read_json(place / "table.json")["protocol"]["quick"]:
            sys.exit(f"{place}: a smoke run; its numbers are not for the README.")
    KEPT.mkdir(parents=True, exist_ok=True)
    for old in KEPT.glob("*.png"):
        old.unlink()
    pictures = [*sorted((league / "figures").glob("league*.png")), *sorted((folder / "figures").glob("*.png"))]
    tables = [folder / "table.json", folder / "table.md", league / "league.json", league / "league.md"]
    for path in (*tables, *pictures):
        if path.exists():
            shutil.copyfile(path, KEPT / path.name)
    text = (folder / "table.md").read_text(encoding="utf-8").strip()
    for page in (ROOT / "README.md", ROOT / "docs" / "experiments.md"):
        put_between_markers(page, RESULTS, text)
    if (league / "league.md").exists():
        text = (league / "league.md").read_text(encoding="utf-8").strip()
        put_between_markers(ROOT / "docs" / "experiments.md", LEAGUE, text)


if __name__ == "__main__":
    given = [Path(argument) for argument in sys.argv[1:]] or [Path("results/pendulum")]
    main(given[0], given[-1])
