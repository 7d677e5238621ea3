"""An experiment's folder in, its report out: table, figures and page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foretell.core.files import write_json, write_text
from foretell.core.printing import printable
from foretell.reporting.asked import asked_achieved, draw_asked
from foretell.reporting.figures import DrawnFigure, draw_headline, draw_learning_curve, draw_sac_learning, series
from foretell.reporting.inputs import ExperimentInputs, read_experiment, support_of
from foretell.reporting.page import render_page
from foretell.reporting.records import scores_by_policy
from foretell.reporting.statistics import FIGURE_BOOTSTRAP_SAMPLES
from foretell.reporting.table_files import write_tables
from foretell.reporting.tables import (
    COLUMNS,
    RANDOM,
    SAC,
    TEXT_COLUMNS,
    build_table,
    caption_of,
    quick_title,
    render_markdown,
    table_cells,
)


def write_report(folder: Path) -> list[Path]:
    """Write `table.json`, `.md`, `.csv` and `.tex`, `figures/` and `report.html` into an experiment's folder; return
    their paths.

    Everything is read from files in that folder, and each output is written whole or not at all. A figure whose
    inputs are not there is left out, and the page says so.

    Raises `CheckpointError` where `experiment.json` or `evaluations.jsonl` is missing, or a file is damaged.
    """
    inputs = read_experiment(Path(folder))
    table = build_table(inputs.records, inputs.experiment)
    headline = draw_headline(inputs.folder / "figures" / "headline", table)
    figures, left_out = draw_figures(inputs, table)
    page = render_page(
        experiment=inputs.experiment,
        table=table,
        headline=headline,
        figures=figures,
        left_out=left_out,
        cards=inputs.cards,
    )
    outputs = [inputs.folder / name for name in ("table.json", "table.md", "report.html")]
    write_json(outputs[0], table)
    write_text(outputs[1], printable(render_markdown(table)))
    write_text(outputs[2], printable(page))
    outputs += write_tables(
        inputs.folder, table, COLUMNS, table_cells(table), text_columns=TEXT_COLUMNS,
        caption=caption_of(table["protocol"]),
    )  # fmt: skip
    return [*outputs, *headline.paths, *(path for figure in figures for path in figure.paths)]


def draw_figures(inputs: ExperimentInputs, table: Mapping[str, Any]) -> tuple[list[DrawnFigure], list[str]]:
    """Draw every figure but the headline; return them, and a sentence for each that had to be left out."""
    figures, left_out = [], []
    for curve in inputs.experiment["curves"]:
        reason = _why_no_curve(inputs, curve)
        if reason is None:
            figures.append(_draw_curve(inputs, curve, table))
        else:
            left_out.append(f"{curve['figure']}: {reason}")
    for row in inputs.experiment["rows"]:
        if row["dataset"] is None or row.get("condition", "return") != "return":
            continue  # nobody is asked for a return
        drawn = _draw_asked(inputs, row["name"], row["dataset"])
        if drawn is None:
            left_out.append(
                f"asked-{row['name']}: asked.jsonl has no records of this policy; `foretell evaluate` with several "
                "targets makes them."
            )
        else:
            figures.append(drawn)
    return figures, left_out


def _why_no_curve(inputs: ExperimentInputs, curve: Mapping[str, Any]) -> str | None:
    """Return what a learning curve lacks, or None where it can be drawn."""
    if not curve["runs"]:
        return "no runs are listed for it in experiment.json."
    kind, at, value = (
        ("episode", "step", "return") if curve["dataset"] is None else ("evaluation", "update", "mean_return")
    )
    for run in curve["runs"]:
        if run not in inputs.events:
            return f"{run}/events.jsonl is not there; training that run makes it."
        if not len(series(inputs.events[run], kind, at, value)[0]):
            return f"{run}/events.jsonl holds no {kind} events; training that run to its end writes them."
    return None


def _draw_curve(inputs: ExperimentInputs, curve: Mapping[str, Any], table: Mapping[str, Any]) -> DrawnFigure:
    """Draw one learning curve; its levels were measured on the curve's own start states, the validation starts."""
    stem, runs = inputs.folder / "figures" / curve["figure"], [inputs.events[run] for run in curve["runs"]]
    title = quick_title(curve["title"], quick=inputs.experiment["quick"])
    levels = inputs.experiment["validation_levels"]
    if curve["dataset"] is None:
        return draw_sac_learning(stem, title, runs, random_level=levels[RANDOM])
    policy = curve.get("policy", curve["dataset"])  # older experiments name none
    report = next((row["report"] for row in table["rows"] if row["name"] == policy), None)
    return draw_learning_curve(stem, title, runs, random_level=levels[RANDOM], sac_level=levels[SAC], report=report)


def _draw_asked(inputs: ExperimentInputs, policy: str, dataset: str) -> DrawnFigure | None:
    root_seed = int(inputs.experiment["protocol"]["root_seed"])
    points = asked_achieved(inputs.asked, policy, samples=FIGURE_BOOTSTRAP_SAMPLES, root_seed=root_seed)
    if points is None:
        return None
    targets = scores_by_policy(inputs.records)[policy].targets
    return draw_asked(
        inputs.folder / "figures" / f"asked-{policy}",
        policy,
        points,
        support=support_of(inputs.cards.get(dataset)),
        default_target=targets[0] if len(targets) == 1 else None,
        quick=inputs.experiment["quick"],
    )
