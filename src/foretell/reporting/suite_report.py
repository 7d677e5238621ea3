"""Runs in several environments in, a report out: a table over all tasks, and a report of each environment."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from foretell.core.files import write_json, write_text
from foretell.core.printing import printable
from foretell.core.versions import versions
from foretell.reporting.comparison_page import settings_html, source_of_scores
from foretell.reporting.figures import DrawnFigure
from foretell.reporting.page_parts import document, facts_html, figure_html, table_html
from foretell.reporting.run_results import RunResults
from foretell.reporting.style import FIGURES
from foretell.reporting.suite import build_suite
from foretell.reporting.suite_figure import draw_scores
from foretell.reporting.suite_text import (
    TEXT_COLUMNS,
    render_suite,
    suite_cells,
    suite_columns,
    suite_sentence,
    suite_summary,
)
from foretell.reporting.table_files import write_tables

FILES = ("table.json", "table.md", "table.csv", "table.tex", "report.html")
"""Beside the environments' folders."""
LONGEST_FOLDER = 200
"""Letters of a folder's name; file systems take 255 of them, and names with keywords may have as many."""


def write_suite(
    results: Sequence[RunResults], folder: Path, references: Mapping[str, tuple[float, float]] | None, command: str
) -> list[Path]:
    """Write table, figure and page over all tasks (`suite.build_suite`); return their paths, the table first.

    The page links to the report of each environment, in a folder of its own (`folders_of`).
    """
    table = build_suite(results, references)
    scored = all(row["normalized_score"] is not None for row in table["rows"])
    figures = [draw_scores(folder / FIGURES / "scores", table)] if scored else []
    drawn = [path for figure in figures for path in figure.paths]
    outputs = [folder / file for file in ("table.json", "table.md", "report.html")]
    write_json(outputs[0], {**table, FIGURES: sorted(path.name for path in drawn)})
    write_text(outputs[1], printable(render_suite(table)))
    write_text(outputs[2], printable(_page(results, table, figures, command)))
    outputs += write_tables(
        folder,
        table,
        suite_columns(table),
        suite_cells(table),
        text_columns=TEXT_COLUMNS,
        caption=suite_sentence(table),
    )
    return [*outputs, *drawn]


def folders_of(environments: Iterable[str]) -> dict[str, str]:
    """Return the name of each environment's folder.

    >>> folders_of(["Pendulum-v1", "ALE/Pong-v5", "ALE-Pong-v5"])
    {'Pendulum-v1': 'Pendulum-v1', 'ALE/Pong-v5': 'ALE-Pong-v5', 'ALE-Pong-v5': 'ALE-Pong-v5-2'}
    """
    found: dict[str, str] = {}
    taken = {FIGURES, *FILES}
    for name in environments:
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).lstrip(".-")[:LONGEST_FOLDER] or "environment"
        folder, number = plain, 2
        while folder.casefold() in taken:
            folder, number = f"{plain}-{number}", number + 1
        taken.add(folder.casefold())
        found[name] = folder
    return found


def _page(results: Sequence[RunResults], table: Mapping[str, Any], figures: Sequence[DrawnFigure], command: str) -> str:
    environments = table["protocol"]["environments"]
    title = f"Runs on {len(environments)} environments"
    links = "\n".join(
        f'<li><a href="{escape(folder)}/report.html">{escape(name)}</a></li>'
        for name, folder in folders_of(environments).items()
    )
    cells = table_html(
        suite_columns(table), suite_cells(table), text_columns=TEXT_COLUMNS, caption=suite_sentence(table)
    )
    shown = "\n".join(map(figure_html, figures))
    protocol = table["protocol"]
    facts = {"command": command, "Foretell": versions()["foretell"]}
    facts["intervals"] = f"{protocol['bootstrap_samples']:,} resamples, root seed {protocol['root_seed']}"
    for name, one in environments.items():
        if one["random_score"] is not None:
            facts[f"score on {name}"] = source_of_scores(one)
    return document(
        title,
        f"""<h1>{title}</h1>
<p>{escape(suite_summary(table))}</p>
<h2>Result</h2>
{cells}
<div class="wide">
{shown}
</div>
<h2>Each environment</h2>
<ul>
{links}
</ul>
<h2>How this was made</h2>
{facts_html("how this was made", facts)}
<h2>Settings</h2>
{settings_html(results)}""",
    )
