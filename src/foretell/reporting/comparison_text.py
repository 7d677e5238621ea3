"""What a comparison's table says to people: cells, a sentence about the differences, and the caption."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from foretell.core.decimals import LARGE, counted, decimals_between, decimals_of, written
from foretell.reporting.comparison import asked_phrase, name_of
from foretell.reporting.tables import interval_phrase, markdown_name, markdown_table

TEXT_COLUMNS = 3
"""Of the columns, how many hold words."""
SENTENCES = 3
"""Rows beside the first that the summary says a sentence of each; of more it counts."""
ALIKE = "all alike"
"""In the place of an interval without width: what was measured is the same everywhere, which says nothing of how far
what was not would be from it."""
ALIKE_PHRASE = f"{ALIKE}: the same from every start state, so that no interval can be told"

Row = Mapping[str, Any]


def comparison_columns(table: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the heads of the columns: differences where there are two rows, scores where the task's ends are known."""
    columns = ["run", "algorithm", "trained on", "asked", "mean return [95% interval]"]
    if len(table["rows"]) > 1:
        columns.append(f"difference to {table['protocol']['against']} [95%]")
    columns.append("IQM")
    if table["rows"][0]["normalized_score"] is not None:
        columns.append("normalised")
    return (*columns, "seeds × episodes")


def comparison_cells(table: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return the rows as people read them, one string per column."""
    rows = table["rows"]
    digits = mean_decimals(rows)
    return [tuple(_cells(row, digits, first=row is rows[0], alone=len(rows) == 1)) for row in rows]


def mean_decimals(rows: Sequence[Row]) -> int:
    """Return the decimals of all mean returns: as many as the narrowest interval needs to have two ends."""
    small = [row["ci95"] for row in rows if max(map(abs, row["ci95"])) < LARGE]
    return max((decimals_between(low, high) for low, high in small), default=1)


def mean_text(row: Row, digits: int) -> str:
    """Return a row's mean return."""
    return written(digits, row["mean_return"], *row["ci95"])


def _cells(row: Row, digits: int, *, first: bool, alone: bool) -> list[str]:
    cells = [row["label"], row["algorithm"], row["dataset"] or "—", asked_phrase(row["target_return"])]
    cells.append(mean_text(row, digits) + interval_text(row, row["ci95"], digits))
    if not alone:
        cells.append("0" if first else _difference(row))
    cells.append(written(digits, row["iqm"], *row["ci95"]))
    if row["normalized_score"] is not None:
        cells.append(written(1, row["normalized_score"]))
    return [*cells, f"{_seeds(row)} × {row['episodes']}"]


def _difference(row: Row) -> str:
    value, (low, high) = row["difference"], row["difference_ci95"]
    digits = decimals_of(value, low, high)
    return written(digits, value, low, high, sign="+") + interval_text(row, (low, high), digits, sign="+")


def interval_text(row: Row, ends: Sequence[float], digits: int, sign: str = "") -> str:
    """Return the interval behind a number: none of one episode, and a word where resampling finds nothing to differ."""
    low, high = ends
    if is_one_episode(row):
        return ""
    if low == high:
        return f" [{ALIKE}]"
    return f" [{written(digits, low, high, sign=sign)}, {written(digits, high, low, sign=sign)}]"


def _seeds(row: Row) -> int:
    return max(1, len(row["training_seeds"]))


def is_one_episode(row: Row) -> bool:
    """Say whether there is no interval."""
    return _seeds(row) == row["episodes"] == 1


def summary_sentence(table: Mapping[str, Any]) -> str:
    """Return what the table says of the rows beside the first: which differences are more than chance."""
    first, *others = table["rows"]
    if not others:
        digits = mean_decimals([first])
        low, high = first["ci95"]
        if is_one_episode(first):
            over = "in one episode"
        elif low == high:
            over = f"in each of {first['episodes'] * _seeds(first)} episodes"
        else:
            over = f"on average [{written(digits, low, high)} to {written(digits, high, low)}]"
        return f"{_name(first)} earned {mean_text(first, digits)} {over}."
    if len(others) <= SENTENCES:
        return " ".join(_comparing_sentence(row, table["protocol"]) for row in others)
    above, below = (sum(side(row) for row in others) for side in (_is_above, _is_below))
    best = max(table["rows"], key=lambda row: row["mean_return"])
    return (
        f"Of {len(others)} others {above} earned more than {table['protocol']['against']} and {below} less; "
        f"{len(others) - above - below} are not told apart from it. The highest mean, "
        f"{mean_text(best, mean_decimals(table['rows']))}, is that of {_name(best)}."
    )


def _comparing_sentence(row: Row, protocol: Mapping[str, Any]) -> str:
    value, (low, high) = row["difference"], row["difference_ci95"]
    if value == low == high == 0:
        return f"{_name(row)} earned what {protocol['against']} earned."
    digits = decimals_of(value, low, high)
    said = f"{_name(row)} earned {more_or_less(digits, value)} than {protocol['against']}"
    if is_one_episode(row):
        return f"{said}, in one episode."
    if low == high:
        return f"{said}, from each of {counted(row['episodes'], 'start state')}."
    interval = f"[{more_or_less(digits, low)}, {more_or_less(digits, high)}]"
    apart = _is_above(row) or _is_below(row)
    return f"{said} {interval}" + ("." if apart else f": not told apart by {counted(row['episodes'], 'start state')}.")


def _is_above(row: Row) -> bool:
    return not is_one_episode(row) and row["difference_ci95"][0] > 0


def _is_below(row: Row) -> bool:
    return not is_one_episode(row) and row["difference_ci95"][1] < 0


def more_or_less(digits: int, value: float) -> str:
    """Return by how much something is more, or less."""
    return f"{written(digits, abs(value))} {'less' if value < 0 else 'more'}"


def _name(row: Row) -> str:
    return name_of(row["label"], row["target_return"])


def _has_alike(table: Mapping[str, Any]) -> bool:
    return any(cell.endswith(f"[{ALIKE}]") for cells in comparison_cells(table) for cell in cells)


def left_out_sentence(protocol: Mapping[str, Any]) -> str | None:
    """Return how many start states were left out, None where none were."""
    kept, left_out = protocol["evaluation_starts"], protocol["starts_left_out"]
    if not left_out:
        return None
    return (
        f"Only {counted(kept, 'start state')} that all rows have are compared: {left_out} of up to {kept + left_out} "
        "are left out. `foretell evaluate` with the same --episodes for all makes it more."
    )


def comparison_sentence(table: Mapping[str, Any]) -> str:
    """Return the table's caption: what was measured, and what each column means."""
    protocol = table["protocol"]
    scored = []
    if protocol["random_score"] is not None:
        low, high = protocol["random_score"], protocol["expert_score"]
        scored = [f"normalised: random, {low:.10g}, is 0 and expert, {high:.10g}, is 100"]
    columns = "; ".join(
        [f"difference to {protocol['against']} paired by start state"] * (len(table["rows"]) > 1)
        + ["asked: a return, or the quantile of an advantage; — where the run's own rule chose, or nothing is asked"]
        + [ALIKE_PHRASE] * _has_alike(table)
        + ["IQM: interquartile mean of the training seeds' means"]
        + scored
    )
    left_out = protocol["starts_left_out"]
    starts = f"{counted(protocol['evaluation_starts'], 'start state')} shared by all" + (
        f", {left_out} left out that some lack" if left_out else ""
    )
    return (
        f"{protocol['environment']}, undiscounted return per episode in reward units; {starts}. "
        f"{interval_phrase(protocol)}; {columns}."
    )


def render_comparison(table: Mapping[str, Any]) -> str:
    """Return the table for GitHub, its caption below; start states that were left out are said first."""
    left_out = left_out_sentence(table["protocol"])
    lines = [f"**{left_out}**", ""] if left_out else []
    lines += markdown_table(comparison_columns(table), comparison_cells(table), text_columns=TEXT_COLUMNS)
    protocol = {**table["protocol"], "against": markdown_name(table["protocol"]["against"])}
    return "\n".join([*lines, "", comparison_sentence({**table, "protocol": protocol}), ""])
