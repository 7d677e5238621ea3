"""What pages are made of: one file that holds everything, asks nothing of the network and needs no script."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from foretell.reporting.figures import DrawnFigure

CSS = """
:root { color-scheme: light dark; --ink: #1c1f23; --soft: #59616b; --paper: #fbfbfa; --card: #ffffff; --line: #dcdfe3;
  --head: #f1f3f5; --warn-ink: #5c2500; --warn: #ffe4cc; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8ea; --soft: #a4acb5; --paper: #15181b; --card: #1d2125;
  --line: #363c43; --head: #252a2f; --warn-ink: #ffd9b8; --warn: #5a2c08; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1.2rem 1rem 4rem; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0.6rem 0 0.5rem; }
h2 { font-size: 1.2rem; margin: 2.4rem 0 0.7rem; }
h3 { font-size: 1rem; margin: 1.5rem 0 0.4rem; }
h1, h2, h3, p, summary, figcaption { overflow-wrap: anywhere; }
p { margin: 0.5rem 0; }
.banner { background: var(--warn); color: var(--warn-ink); border-radius: 8px; padding: 0.8rem 1rem; font-weight: 600; }
.soft, figcaption, caption { color: var(--soft); font-size: 0.9rem; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 8px; background: var(--card); }
table { border-collapse: separate; border-spacing: 0; width: 100%; font-size: 0.88rem;
  font-variant-numeric: tabular-nums; }
caption { caption-side: bottom; text-align: left; }
caption span { position: sticky; left: 0; display: block; padding: 0.6rem 0.8rem;
  border-top: 1px solid var(--line);
  width: min(74rem - 2px, 100vw - 2rem - 2px); }
th, td { padding: 0.5rem 0.55rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
tr:last-child td, tbody tr:last-child th { border-bottom: 0; }
thead th { white-space: normal; min-width: 3.5rem; max-width: 14rem; background: var(--head);
  font-weight: 600; vertical-align: bottom; }
th.long { overflow-wrap: anywhere; min-width: 9rem; }
th.text, td.text { text-align: left; }
td.text { white-space: normal; overflow-wrap: anywhere; min-width: 6.5rem; }
tbody th { font-weight: 600; text-align: left; white-space: normal; overflow-wrap: anywhere; }
tbody th, thead th:first-child { position: sticky; left: 0; z-index: 1; min-width: 9rem; max-width: 16rem;
  border-right: 1px solid var(--line); }
tbody th { background: var(--card); }
figure { margin: 0 0 1.4rem; }
.wide { max-width: 52rem; margin-top: 1.2rem; }
.wide .image { overflow-x: auto; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 0.4rem 1.4rem; }
figure img { display: block; width: 100%; height: auto; background: #ffffff; border: 1px solid var(--line);
  border-radius: 8px; padding: 0.5rem; }
figcaption { margin-top: 0.4rem; }
pre { margin: 0; padding: 0.8rem 1rem; overflow-x: auto; font: 0.82rem/1.5 ui-monospace, Menlo, Consolas, monospace; }
details { border: 1px solid var(--line); border-radius: 8px; background: var(--card); margin: 0.5rem 0; }
summary { cursor: pointer; padding: 0.55rem 1rem; font-weight: 600; }
summary .soft { font-weight: 400; }
@media (max-width: 40rem) { th, td { padding: 0.4rem 0.5rem; } table { font-size: 0.85rem; }
  tbody th, thead th:first-child { min-width: 7.3rem; max-width: 8.5rem; } .wide img { min-width: 34rem; } }
@media print {
  @page { size: A4 landscape; margin: 1.2cm; }
  :root { color-scheme: light; --ink: #000000; --soft: #3b4149; --paper: #ffffff; --card: #ffffff; --line: #b9bec4;
    --head: #f1f3f5; --warn-ink: #5c2500; --warn: #ffe4cc; }
  body { max-width: none; padding: 0; font-size: 11pt; }
  .scroll, .wide .image { overflow: visible; }
  table { font-size: 7.5pt; }
  th, td, td.text { white-space: normal; min-width: 0; padding: 0.2rem 0.3rem; }
  td.text { overflow-wrap: anywhere; }
  thead th { min-width: 0; }
  th.long { min-width: 8em; }
  tbody th, thead th:first-child { position: static; min-width: 12em; max-width: none; }
  caption span { position: static; width: auto; padding: 0.3rem; }
  pre { white-space: pre-wrap; overflow-wrap: anywhere; overflow: visible; font-size: 7.5pt; }
  thead { display: table-header-group; }
  tr, figure, .banner { break-inside: avoid; }
  h2, h3, summary { break-after: avoid; }
  .figures { grid-template-columns: 1fr 1fr; }
  figure img, .wide img { width: auto; min-width: 0; max-width: 100%; max-height: 13cm; }
  details::details-content { content-visibility: visible; block-size: auto; }
}
"""


def document(title: str, body: str) -> str:
    """Return a whole page of these, HTML both: it asks nothing of the network."""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>{title}</title>
<style>{CSS}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""


def box_html(label: str, content: str) -> str:
    """Return a box that scrolls sideways by itself, by keyboard too, so that the page never does."""
    return f'<div class="scroll" role="region" aria-label="{escape(label)}" tabindex="0">{content}</div>'


def table_html(head: Sequence[str], rows: Sequence[Sequence[str]], *, text_columns: int, caption: str) -> str:
    """Return the result table; the first `text_columns` hold words, the others numbers."""
    heads = "".join(
        f'<th scope="col"{_class(text=number < text_columns, long=len(name) > LONG)}>{escape(name)}</th>'
        for number, name in enumerate(head)
    )
    body = "\n".join(
        f'<tr><th scope="row">{escape(cells[0])}</th>'
        + "".join(f"<td{_class(text=n < text_columns)}>{escape(cell)}</td>" for n, cell in enumerate(cells) if n > 0)
        + "</tr>"
        for cells in rows
    )
    return box_html(
        "result table",
        f"<table>\n<caption><span>{escape(caption)}</span></caption>\n<thead><tr>{heads}</tr></thead>\n"
        f"<tbody>\n{body}\n</tbody>\n</table>",
    )


def facts_html(label: str, facts: Mapping[str, str]) -> str:
    """Return a box of names and what is known under each."""
    rows = "\n".join(
        f'<tr><th scope="row">{escape(name)}</th><td class="text">{escape(fact)}</td></tr>'
        for name, fact in facts.items()
    )
    return box_html(label, f"<table>\n<tbody>\n{rows}\n</tbody>\n</table>")


def banner_html(text: str) -> str:
    """Return what is to be read before everything else."""
    return f'<p class="banner" role="note">{escape(text)}</p>'


LONG = 40
"""Letters of a head from which on it may be broken anywhere: somebody's own name is in it."""


def _class(*, text: bool, long: bool = False) -> str:
    names = ["text"] * text + ["long"] * long
    return f' class="{" ".join(names)}"' if names else ""


def figure_html(figure: DrawnFigure) -> str:
    """Return the figure with its caption; the SVG file is inside."""
    svg = next(path for path in figure.paths if path.suffix == ".svg")
    data = base64.b64encode(svg.read_bytes()).decode("ascii")
    said = f"{figure.title}. {figure.shows}" if figure.shows else figure.title
    image = f'<img alt="{escape(said)}" src="data:image/svg+xml;base64,{data}">'
    return (
        f'<figure id="{escape(figure.name)}"><div class="image">{image}</div>\n'
        f"<figcaption>{escape(figure.caption)}</figcaption></figure>"
    )


def details_html(name: str, line: str, content: Mapping[str, Any] | str) -> str:
    """Return a box that opens: a name and a line about it, and all of it as JSON, or a text, inside."""
    text = content if isinstance(content, str) else json.dumps(content, indent=2, ensure_ascii=False)
    return (
        f'<details><summary>{escape(name)} <span class="soft">{escape(line)}</span></summary>\n<pre>'
        f"{escape(text)}</pre></details>"
    )
