"""`foretell report`: an experiment's records to table, figures and page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro


@dataclass(frozen=True, kw_only=True)
class Report:
    """Make table, figures and the one-file page of an experiment's folder from what lies in it.

    To try it:
      foretell report results/pendulum
    """

    folder: Annotated[Path, tyro.conf.Positional] = Path("results/pendulum")
    """Folder that foretell reproduce made."""
    json: bool = False
    """Print one JSON object and nothing else on stdout."""

    def run(self) -> dict[str, Any]:
        """Write the report; return the files."""
        from foretell.core.files import read_json
        from foretell.reporting.experiment import write_report
        from foretell.reporting.league import write_league

        files = write_report(self.folder)
        if "league" in read_json(self.folder / "experiment.json"):
            files += write_league(self.folder)
        return {"files": [str(path) for path in files], "report": str(self.folder / "report.html")}

    def show(self, result: dict[str, Any]) -> str:
        """Show the table, and say where the page lies."""
        return (self.folder / "table.md").read_text(encoding="utf-8") + f"\nreport: {result['report']}"
