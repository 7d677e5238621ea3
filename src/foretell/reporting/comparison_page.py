"""`report.html` of runs beside each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from foretell.core.system import command_line
from foretell.core.versions import versions
from foretell.reporting.comparison import References, asked_phrase
from foretell.reporting.comparison_text import (
    TEXT_COLUMNS,
    comparison_cells,
    comparison_columns,
    comparison_sentence,
    left_out_sentence,
    summary_sentence,
)
from foretell.reporting.figures import DrawnFigure
from foretell.reporting.page_parts import banner_html, details_html, document, facts_html, figure_html, table_html
from foretell.reporting.run_results import RunResults
from foretell.reporting.tables import RANDOM


def render_comparison_page(
    results: Sequence[RunResults], table: Mapping[str, Any], figures: Sequence[DrawnFigure], command: str
) -> str:
    """Return the page; `command` is the one that makes it."""
    title = escape(f"Runs on {table['protocol']['environment']}")
    left_out = left_out_sentence(table["protocol"])
    banner = banner_html(left_out.replace("`", "")) if left_out else ""
    shown = "\n".join(map(figure_html, figures))
    cells = table_html(
        comparison_columns(table), _named_apart(table), text_columns=TEXT_COLUMNS, caption=comparison_sentence(table)
    )
    return document(
        title,
        f"""{banner}
<h1>{title}</h1>
<p>{escape(summary_sentence(table))}</p>
<h2>Result</h2>
{cells}
<h2>Figures</h2>
<div class="figures">
{shown}
</div>
<h2>How this was made</h2>
{facts_html("how this was made", _facts(results, table, command))}
<h2>Settings</h2>
{settings_html(results)}""",
    )


def settings_html(results: Sequence[RunResults]) -> str:
    """Return a box for each run, with its settings inside."""
    return "\n".join(
        details_html(one.label, str(one.path), "evaluation records only" if one.config is None else one.config)
        for one in results
    )


def _named_apart(table: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return the cells; rows that have the same name are named by what was asked as well."""
    names = Counter(row["label"] for row in table["rows"])
    return [
        (f"{row['label']}, asked {asked_phrase(row['target_return'])}", *cells[1:])
        if names[row["label"]] > 1 and row["target_return"] is not None
        else cells
        for row, cells in zip(table["rows"], comparison_cells(table), strict=True)
    ]


def _facts(results: Sequence[RunResults], table: Mapping[str, Any], command: str) -> dict[str, str]:
    acting = []
    if any(one.config is not None for one in results):
        acting.append("run folders: deterministic acting, last checkpoint")
    if any(row["algorithm"] == RANDOM for row in table["rows"]):
        acting.append("the random policy: random acting")
    protocol = table["protocol"]
    facts = {"command": command, "Foretell": versions()["foretell"], "acting": "; ".join(acting)}
    facts["intervals"] = f"{protocol['bootstrap_samples']:,} resamples, root seed {protocol['root_seed']}"
    if protocol["random_score"] is not None:
        facts["normalised score"] = source_of_scores(protocol)
    return {name: fact for name, fact in facts.items() if fact}


def source_of_scores(ends: Mapping[str, Any]) -> str:
    """Return the ends of an environment's score, and where they come from."""
    return f"random {ends['random_score']:.10g} is 0, expert {ends['expert_score']:.10g} is 100; {ends['scores_from']}"


def report_command(runs: Sequence[Path], out: Path, environment: str | None, references: References | None) -> str:
    """Return the command that makes the report of these."""
    words = ["foretell", "report", *map(str, runs)]
    if list(runs) != [out]:
        words += ["--out", str(out)]
    if environment is not None:
        words += ["--environment", environment]
    if references:
        by_name = references.items() if isinstance(references, Mapping) else [(None, references)]
        words.append("--references")
        for name, ends in by_name:
            words += [*([name] if name else []), *(str(float(one)) for one in ends)]
    return command_line(words)
