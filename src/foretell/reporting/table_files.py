"""A table in the forms that other programs read, `table.csv` and `table.tex`, and on a terminal."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from foretell.core.files import write_text
from foretell.core.printing import printable

Rows = Sequence[Sequence[str]]

_TEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "_": r"\_", "%": r"\%",
    "*": "{*}", "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}", "[": "{[}",
    "]": "{]}", "—": "---", "×": r"$\times$", "…": r"\dots{}",
}  # fmt: skip
"""What stands for letters that TeX takes for something else; brackets would be an argument of the row before."""
_FORMULA = re.compile(r"[=+@\t]|-(?![0-9. ]*$)")
"""How a text begins that a spreadsheet would take for a formula, and compute."""
SHORTEST = 16
"""Letters that a name keeps at least on a narrow terminal."""


def write_tables(
    folder: Path, table: Mapping[str, Any], head: Sequence[str], rows: Rows, *, text_columns: int, caption: str
) -> list[Path]:
    """Write `table.csv`, the numbers of `table.json`, and `table.tex`, the cells, into a folder; return their paths.

    The first `text_columns` hold words.
    """
    paths = [folder / "table.csv", folder / "table.tex"]
    write_text(paths[0], csv_text(table["rows"]))
    write_text(paths[1], tex_text(head, rows, text_columns=text_columns, caption=caption))
    return paths


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows of `table.json` separated by commas: an interval is two columns, a setting one, nothing is empty.
    An apostrophe stands before a text that a spreadsheet would compute.

    >>> csv_text([{"iqm": 1.5, "ci95": [1.0, 2.0], "training_seeds": [0, 1], "report": None}]).splitlines()
    ['iqm,ci95_low,ci95_high,training_seeds,report', '1.5,1.0,2.0,0 1,']
    """
    plain = [dict(_columns(row)) for row in rows]
    text = io.StringIO()
    writer = csv.DictWriter(text, [*dict.fromkeys(key for row in plain for key in row)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(plain)
    return text.getvalue()


def _columns(row: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in row.items():
        if isinstance(value, Mapping):
            yield from _columns(value, f"{before}{key}.")
        elif key.endswith("ci95"):
            yield from zip((f"{before}{key}_low", f"{before}{key}_high"), value or (None, None), strict=True)
        else:
            found = " ".join(map(str, value)) if isinstance(value, list | tuple) else value
            yield before + key, _as_text(printable(found)) if isinstance(found, str) else found


def _as_text(words: str) -> str:
    return f"'{words}" if _FORMULA.match(words) else words


def tex_text(head: Sequence[str], rows: Rows, *, text_columns: int, caption: str) -> str:
    """Return the cells as a table of LaTeX's package booktabs, the caption before it as a comment."""
    lines = [
        f"% {printable(' '.join(caption.split()))}",
        r"% \usepackage{booktabs}",
        r"\begin{tabular}{" + "l" * text_columns + "r" * (len(head) - text_columns) + "}",
        r"\toprule",
        _tex_line(head, len(head)),
        r"\midrule",
        *(_tex_line(cells, text_columns) for cells in rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _tex_line(cells: Sequence[str], text_columns: int) -> str:
    escaped = [_escaped(" ".join(cell.split())) for cell in cells]
    numbers = [re.sub(r"-(?=[0-9.])", "$-$", cell) for cell in escaped[text_columns:]]
    return " & ".join([*escaped[:text_columns], *numbers]) + r" \\"


def _escaped(text: str) -> str:
    return "".join(_TEX.get(letter, letter) for letter in printable(text))


def aligned_table(head: Sequence[str], rows: Rows, *, width: int, text_columns: int) -> str:
    """Return the cells in columns for a terminal of so many letters: words lose their middle where it is narrow, then
    the last columns are left out. The first `text_columns` hold words, which are aligned to the left."""
    lines = [[" ".join(cell.split()) for cell in cells] for cells in (head, *rows)]
    whole = [max(map(len, column)) for column in zip(*lines)]
    while _width(widths := _shrunk(whole, text_columns, width)) > width and len(whole) > text_columns + 1:
        whole.pop()
    return "\n".join(
        "  ".join(
            f"{_shortened(cell, size):{'<' if number < text_columns else '>'}{size}}"
            for number, (cell, size) in enumerate(zip(cells, widths))  # without those that are left out
        ).rstrip()
        for cells in lines
    )


def _width(widths: Sequence[int]) -> int:
    return sum(widths) + 2 * (len(widths) - 1)


def _shrunk(widths: Sequence[int], text_columns: int, width: int) -> list[int]:
    """Return the widths with the widest columns of words made narrower until all fit, or no word has letters left."""
    found = list(widths)
    while _width(found) > width:
        widest = max(range(text_columns), key=lambda number: found[number])
        if found[widest] <= SHORTEST:
            break
        found[widest] -= 1
    return found


def _shortened(text: str, size: int) -> str:
    if len(text) <= size:
        return text
    behind = (size - 1) // 2
    return text[: size - 1 - behind] + "…" + text[len(text) - behind :]


def short_columns(head: Sequence[str], rows: Rows) -> tuple[list[str], list[list[str]]]:
    """Return of a table what a terminal has room for: names, what was asked where anything was, means, differences."""
    heads = {"mean return [95% interval]": "mean [95%]"}
    kept = [
        number
        for number, name in enumerate(head)
        if number == 0
        or name.startswith(("mean return", "difference to"))
        or (name == "asked" and len({cells[number] for cells in rows}) > 1)
        or (name == "trained on" and head[0] == "policy")
    ]
    names = [heads.get(head[number], head[number]) for number in kept]
    names = ["difference [95%]" if name.startswith("difference to") else name for name in names]
    return names, [[cells[number] for number in kept] for cells in rows]
