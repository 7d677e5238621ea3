"""Runs of one's own in, a report out: table, figures and page."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from foretell.core.errors import UsageError
from foretell.core.files import write_json, write_text
from foretell.core.printing import printable
from foretell.core.scores import checked_references
from foretell.core.settings import path_of
from foretell.reporting.asked import Support, asked_achieved, draw_asked
from foretell.reporting.comparison import (
    ROOT_SEED,
    References,
    build_comparison,
    environment_of,
    environments_of,
    is_of,
    places,
    shared_starts,
)
from foretell.reporting.comparison_figures import draw_curves, draw_returns
from foretell.reporting.comparison_page import render_comparison_page, report_command
from foretell.reporting.comparison_text import (
    TEXT_COLUMNS,
    comparison_cells,
    comparison_columns,
    comparison_sentence,
    render_comparison,
)
from foretell.reporting.earlier import figures_of, folders_within, remove_figures, remove_reports
from foretell.reporting.figures import DrawnFigure
from foretell.reporting.run_results import RunResults, read_results
from foretell.reporting.statistics import FIGURE_BOOTSTRAP_SAMPLES
from foretell.reporting.style import FIGURES, color_of
from foretell.reporting.suite_report import folders_of, write_suite
from foretell.reporting.table_files import write_tables


def write_comparison(
    runs: Iterable[str | Path] | str | Path,
    out: str | Path,
    environment: str | None = None,
    references: References | None = None,
) -> list[Path]:
    """Write `table.json`, `.md`, `.csv` and `.tex`, `figures/` and `report.html` of runs beside each other; return
    their paths.

    `runs` are run folders, folders of several seeds, and files of evaluation records (`.jsonl`), all evaluated; the
    first is what the others are compared with (`comparison.build_comparison`). `environment` says which one where the
    records are of several. Without it, and where there is no single one that all were evaluated in, the table is over
    all tasks (`suite.build_suite`), and each environment has its report in a folder of its own inside `out`.
    `references` are mean returns of random acting and of an expert, which the normalised score
    calls 0 and 100, of several environments by their names (`{"Hopper-v5": (-20.0, 3234.0)}`); default: those that the
    data of the runs have, else those of `environments.tasks`. The same inputs give the same bytes. Figures that an
    earlier report left in `out`, and that this one has not, are removed, and so are its reports of environments that
    this one has not: `table.json` names them.

    Raises `UsageError` where `runs` is empty, one of them is none, or they cannot be compared, `CheckpointError` where
    one was not evaluated or a file is damaged.
    """
    try:
        runs = [runs] if isinstance(runs, str | Path) else list(runs)
    except TypeError:
        raise UsageError(f"runs is {runs!r:.100}; expected a run folder, or a list of them.") from None
    if not runs:
        raise UsageError("no runs; expected at least one run folder, folder of seeds or file of evaluation records.")
    given, folder = [path_of("run", run) for run in runs], path_of("out", out)
    results = read_results(given)
    environments = environments_of(results) if environment is None else [environment_of(results, environment)]
    inside = folders_of(environments) if len(environments) > 1 else {}
    for one in (folder, *(folder / within for within in inside.values())):
        if (one / "experiment.json").exists():
            raise UsageError(f"{one}: holds an experiment's own report; choose another --out.")
    _check_references(references, environments)
    command = report_command(given, folder, environment, references)
    earlier = folders_within(folder)
    if len(environments) == 1:
        files = _write_one(results, folder, environments[0], references, command)
        remove_reports(folder, earlier, ())
        return files
    by_name = references if isinstance(references, Mapping) else {}
    before = figures_of(folder)
    files = write_suite(results, folder, by_name, command)
    remove_figures(folder, before, files)
    for name, within in inside.items():
        own = [one for one in results if is_of(one, name)]
        ends = by_name.get(name)
        command = report_command([one.path for one in own], folder / within, name, ends)
        files += _write_one(own, folder / within, name, ends, command)
    remove_reports(folder, earlier, inside.values())
    return files


def _check_references(references: Any, environments: Sequence[str]) -> None:
    if isinstance(references, Mapping):
        # Those of others beside it serve several reports; alone they are a slip.
        unknown = [str(name) for name in references if name not in environments]
        if unknown and (len(environments) > 1 or len(unknown) == len(references)):
            raise UsageError(f"references of {', '.join(unknown)}: the records are of {', '.join(environments)}.")
        for ends in references.values():
            checked_references(ends)
    elif references is not None:
        checked_references(references)
        if len(environments) > 1:
            raise UsageError(
                f"references of one environment: the records are of {', '.join(environments)}; expected the two mean "
                "returns by each environment's name."
            )


def _write_one(
    results: Sequence[RunResults], folder: Path, environment: str, references: References | None, command: str
) -> list[Path]:
    """Write the report of one environment; return its paths, the table first."""
    before = figures_of(folder)
    table = build_comparison(results, environment, references)
    name = table["protocol"]["environment"]
    figures = [draw_returns(folder / FIGURES / "returns", table, places(results, name))]
    if curves := draw_curves(folder / FIGURES / "learning", results, name):
        figures.append(curves)
    shared = shared_starts(results, name)
    for number, one in enumerate(results):
        figures += _draw_asked(one, name, shared, folder / FIGURES, number)
    outputs = [folder / file for file in ("table.json", "table.md", "report.html")]
    paths = [path for figure in figures for path in figure.paths]
    write_json(outputs[0], {**table, FIGURES: sorted(path.name for path in paths)})
    write_text(outputs[1], printable(render_comparison(table)))
    write_text(outputs[2], printable(render_comparison_page(results, table, figures, command)))
    outputs += write_tables(
        folder, table, comparison_columns(table), comparison_cells(table), text_columns=TEXT_COLUMNS,
        caption=comparison_sentence(table),
    )  # fmt: skip
    remove_figures(folder, before, paths)
    return [*outputs, *paths]


def _draw_asked(
    results: RunResults, environment: str, shared: set[int], folder: Path, number: int
) -> list[DrawnFigure]:
    """Draw achieved against asked return for every policy that was asked for several, in units of the return."""
    if (results.config or {}).get("condition") != "return":
        return []
    records = [
        record for record in results.records if record["environment"] == environment and record["start"] in shared
    ]
    drawn: list[DrawnFigure] = []
    for policy in dict.fromkeys(record["policy"] for record in records):
        points = asked_achieved(records, policy, samples=FIGURE_BOOTSTRAP_SAMPLES, root_seed=ROOT_SEED)
        if points is None or len(points.asked) < 2:
            continue
        name = results.label if policy == records[0]["policy"] else f"{results.label}-{policy}"
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name)  # several names may become one
        stem = folder / (f"asked-{plain}" if plain == name else f"asked-{number}-{len(drawn)}-{plain}")
        support = _support(results.config)
        drawn.append(draw_asked(stem, name, points, support=support, default_target=None, color=color_of(number)))
    return drawn


def _support(config: Mapping[str, Any] | None) -> Support | None:
    data = (config or {}).get("dataset") or {}
    if "lowest_return" not in data:
        return None
    return Support(low=data["lowest_return"], high=data["highest_return"], share=1.0)
