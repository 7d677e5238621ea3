"""`foretell report`: records to table, figures and page, of an experiment's folder or of runs of one's own."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from foretell.core.errors import UsageError

EXPERIMENT = "experiment.json"


@dataclass(frozen=True, kw_only=True)
class Report:
    """Make table, figures and a one-file page: of an experiment's folder from what lies in it, or of runs beside each
    other, each compared with the first from the same start states; of runs in several environments, over all of them.

    To try it:
      foretell report results/pendulum
      foretell report runs/dt-seeds
      foretell report runs/dt runs/advantage random.jsonl --out comparison
      foretell report runs/hopper-dt runs/hopper-bc runs/walker-dt runs/walker-bc --out suite
    """

    folder: Annotated[tuple[Path, ...], tyro.conf.Positional] = (Path("results/pendulum"),)
    """The folder that foretell reproduce made; or evaluated run folders, folders of several seeds, and files of
    evaluation records."""
    out: Path | None = None
    """Folder of the report. Default: the run's or experiment's own; of several runs it has to be said."""
    environment: str | None = None
    """Gymnasium id, where runs were evaluated in several environments and one is meant."""
    references: tuple[str, ...] | None = None
    """Mean returns of random acting and of an expert, which the normalised score calls 0 and 100; of several
    environments each behind its id: Hopper-v5 -20 3234 Walker2d-v5 2 4592. Default: those of the data
    that the runs learned from, else of the task, where they are known."""
    json: bool = False
    """Print one JSON object and nothing else on stdout."""

    def run(self) -> dict[str, Any]:
        """Write the report; return the files."""
        folder = self._of_experiment()
        files = self._compare() if folder is None else _experiment(folder)
        return {"files": [str(path) for path in files], "report": str(files[0].parent / "report.html")}

    def _of_experiment(self) -> Path | None:
        """Return the experiment's folder; None where runs are compared."""
        experiments = [folder for folder in self.folder if (folder / EXPERIMENT).exists()]
        if not experiments:
            return None
        for name, given in (
            ("--out", self.out),
            ("--environment", self.environment),
            ("--references", self.references),
        ):
            if given is not None:
                raise UsageError(f"{name}: the report of an experiment lies in its own folder; leave it out.")
        if len(self.folder) > 1:
            raise UsageError(f"{experiments[0]}: holds an experiment; expected it alone, or run folders.")
        return experiments[0]

    def _compare(self) -> list[Path]:
        from foretell.reporting.comparison_report import write_comparison

        out = self.out
        if out is None and len(self.folder) == 1 and not self.folder[0].is_file():
            out = self.folder[0]
        if out is None:
            raise UsageError("several runs, or a file of records: say where the report goes, with --out.")
        return write_comparison(self.folder, out, self.environment, self._references())

    def _references(self) -> tuple[float, float] | dict[str, tuple[float, float]] | None:
        if self.references is None:
            return None
        from foretell.environments.keywords import canonical

        words = list(self.references)
        of_one = len(words) == 2
        given = [("", *words)] if of_one else list(zip(words[::3], words[1::3], words[2::3], strict=False))
        try:
            ends = {canonical(name): (float(low), float(high)) for name, low, high in given}
        except ValueError:
            ends = {}
        if not ends or len(ends) * 3 != len(words) + of_one:
            raise UsageError(
                f"--references {' '.join(words)}: expected two mean returns, random's and an expert's, or three words "
                "for each environment: its id and these. Folders come before it."
            )
        return ends[""] if of_one else ends

    def show(self, result: dict[str, Any]) -> str:
        """Show the table, on a terminal in columns that fit it, and say where the page lies."""
        table = Path(result["report"]).with_name("table.md").read_text(encoding="utf-8")
        if sys.stdout.isatty():
            table = self._short_table(Path(result["report"]).parent) + "\n"
        return f"{table}\nreport: {result['report']}"

    def _short_table(self, folder: Path) -> str:
        from foretell.core.files import read_json
        from foretell.reporting import comparison_text, suite_text, tables
        from foretell.reporting.table_files import aligned_table, short_columns

        table = read_json(folder / "table.json")
        if "methods" in table:
            head, *rows = suite_text.suite_lines(table)
            lines = aligned_table(head, rows, width=shutil.get_terminal_size().columns, text_columns=len(head) - 1)
            return f"{lines}\n\n{suite_text.suite_summary(table)}"
        if self._of_experiment() is None:
            head, rows = comparison_text.comparison_columns(table), comparison_text.comparison_cells(table)
            first = comparison_text.left_out_sentence(table["protocol"])
        else:
            head, rows = tables.COLUMNS, tables.table_cells(table)
            first = tables.QUICK_WARNING if table["protocol"]["quick"] else None
        head, rows = short_columns(head, rows)
        words = sum(name in ("run", "policy", "trained on") for name in head)
        lines = aligned_table(head, rows, width=shutil.get_terminal_size().columns, text_columns=words)
        return lines if first is None else f"{first}\n\n{lines}"


def _experiment(folder: Path) -> list[Path]:
    from foretell.core.files import read_json
    from foretell.reporting.experiment import write_report
    from foretell.reporting.league import write_league

    files = write_report(folder)
    if "league" in read_json(folder / EXPERIMENT):
        files += write_league(folder)
    return files
