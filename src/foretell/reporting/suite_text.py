"""What a table over several environments says to people: cells, a sentence on the means, and the caption."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from foretell.core.decimals import counted, written
from foretell.reporting.comparison_text import (
    ALIKE,
    ALIKE_PHRASE,
    interval_text,
    is_one_episode,
    mean_decimals,
    mean_text,
    more_or_less,
)
from foretell.reporting.tables import interval_phrase, markdown_name, markdown_table

TEXT_COLUMNS = 2
NOTHING = "—"
"""A cell of a task that a method was not evaluated on."""

Table = Mapping[str, Any]


def suite_columns(table: Table) -> tuple[str, ...]:
    """Return the heads of the columns: a task's two, then the methods."""
    return ("environment", "trained on", *methods_of(table))


def methods_of(table: Table) -> list[str]:
    """Return the names of the methods, in their order."""
    return list(dict.fromkeys(row["method"] for row in table["rows"]))


def suite_cells(table: Table) -> list[tuple[str, ...]]:
    """Return a row for each task, then mean and interquartile mean over tasks where there are scores."""
    methods = methods_of(table)
    lines: list[tuple[str, ...]] = []
    for environment, dataset in table["protocol"]["tasks"]:
        rows = [row for row in table["rows"] if (row["environment"], row["dataset"]) == (environment, dataset)]
        digits, by_method = mean_decimals(rows), {row["method"]: row for row in rows}
        cells = [_cell(by_method[method], digits) if method in by_method else NOTHING for method in methods]
        lines.append((environment, dataset or NOTHING, *cells))
    if table["methods"]:
        over = counted(len(table["protocol"]["shared_tasks"]), "task")
        for name, value, ends in (("mean", "mean_score", "mean_ci95"), ("IQM", "iqm", "iqm_ci95")):
            found = zip(table["methods"], _once(table), strict=True)
            lines.append((name, over, *(_interval(row[value], row[ends], once=once) for row, once in found)))
    return lines


def suite_lines(table: Table) -> list[tuple[str, ...]]:
    """Return the same for a terminal, its head first: a line for each task and method."""
    methods = methods_of(table)
    lines: list[tuple[str, ...]] = [("environment", "trained on", "method", "mean [95%]")]
    for environment, dataset, *cells in suite_cells(table):
        names = (environment, dataset)
        for method, cell in zip(methods, cells, strict=True):
            lines.append((*names, method, cell))
            names = ("", "")
    return lines


def _cell(row: Mapping[str, Any], digits: int) -> str:
    if row["normalized_score"] is None:
        return mean_text(row, digits) + interval_text(row, row["ci95"], digits)
    value, ends = row["normalized_score"], row["normalized_ci95"]
    return written(1, value, *ends) + interval_text(row, ends, 1)


def _once(table: Table) -> list[bool]:
    """Say of each method over tasks whether it acted in one episode of each, which has no interval."""
    shared = table["protocol"]["shared_tasks"]
    rows = [row for row in table["rows"] if [row["environment"], row["dataset"]] in shared]
    return [all(is_one_episode(row) for row in rows if row["method"] == method) for method in methods_of(table)]


def _interval(value: float, ends: Sequence[float], *, once: bool) -> str:
    low, high = ends
    if low == high:
        return written(1, value) + ("" if once else f" [{ALIKE}]")
    return f"{written(1, value, low, high)} [{written(1, low, high)}, {written(1, high, low)}]"


def suite_summary(table: Table) -> str:
    """Return what the table says of the methods over the tasks that all have."""
    protocol = table["protocol"]
    if not table["methods"]:
        return f"{counted(len(methods_of(table)), 'method')} on {counted(len(protocol['tasks']), 'task')}. " + (
            "No task has all of them, so there is no mean over tasks."
            if not protocol["shared_tasks"]
            else _without_scores(protocol)
        )
    found = zip(table["methods"], _once(table), strict=True)
    said = "; ".join(_mean_phrase(row, first=row is table["methods"][0], once=once) for row, once in found)
    return f"Mean score over {counted(len(protocol['shared_tasks']), 'task')}: {said}."


def _mean_phrase(row: Mapping[str, Any], *, first: bool, once: bool) -> str:
    said = f"{row['method']} {_interval(row['mean_score'], row['mean_ci95'], once=once)}"
    if first:
        return said
    low, high = row["difference_ci95"]
    if low == high:
        alike = "" if once or row["difference"] == 0 else f" [{ALIKE}]"
        return f"{said}, {more_or_less(1, row['difference']) if row['difference'] else 'as much'}{alike}"
    said += f", {more_or_less(1, row['difference'])} [{more_or_less(1, low)}, {more_or_less(1, high)}]"
    return said if low > 0 or high < 0 else f"{said}, not told apart"


def _without_scores(protocol: Mapping[str, Any]) -> str:
    unknown = [name for name, one in protocol["environments"].items() if one["random_score"] is None]
    return (
        f"No mean over tasks, since the returns of random acting and of an expert are not known of "
        f"{', '.join(unknown)}: give them with --references ENVIRONMENT RANDOM EXPERT."
    )


def suite_sentence(table: Table) -> str:
    """Return the table's caption: what was measured, and what the cells hold."""
    protocol, scored = table["protocol"], bool(table["methods"])
    unit = (
        "normalised score (random is 0 and expert 100 in each environment)"
        if all(one["random_score"] is not None for one in protocol["environments"].values())
        else "undiscounted return per episode in reward units"
    )
    starts = {name: _starts(one) for name, one in protocol["environments"].items()}
    starts = f"{next(iter(starts.values()))} in each environment" if len({*starts.values()}) == 1 else "; ".join(
        f"{name}: {said}" for name, said in starts.items()
    )  # fmt: skip
    means = (
        " Mean and IQM (interquartile mean of the seeds' means on all tasks) are over the "
        f"{counted(len(protocol['shared_tasks']), 'task')} that all methods have; in their resamples the tasks stay."
        if scored
        else ""
    )
    said = [suite_summary(table), *(cell for line in suite_cells(table) for cell in line)]
    alike = f"; {ALIKE_PHRASE}" if any(f"[{ALIKE}]" in one for one in said) else ""
    shared = f"Mean {unit} [95% interval] from start states that all methods share"
    return f"{shared}. {starts}. {interval_phrase(protocol)}{alike}.{means}"


def _starts(environment: Mapping[str, Any]) -> str:
    left_out = environment["starts_left_out"]
    said = counted(environment["evaluation_starts"], "start state")
    return f"{said}, {left_out} left out that some lack" if left_out else said


def render_suite(table: Table) -> str:
    """Return the table for GitHub, its caption below."""
    lines = markdown_table(suite_columns(table), suite_cells(table), text_columns=TEXT_COLUMNS)
    said = suite_summary(
        {**table, "methods": [{**one, "method": markdown_name(one["method"])} for one in table["methods"]]}
    )
    return "\n".join([*lines, "", said, "", suite_sentence(table), ""])
