"""`report.html`: one file that holds everything, asks nothing of the network and needs no script."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from foretell.reporting.figures import DrawnFigure
from foretell.reporting.tables import COLUMNS, QUICK_WARNING, protocol_sentence, table_cells
from foretell.reporting.ticks import format_return

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
p { margin: 0.5rem 0; }
.banner { background: var(--warn); color: var(--warn-ink); border-radius: 8px; padding: 0.8rem 1rem; font-weight: 600; }
.soft, figcaption { color: var(--soft); font-size: 0.9rem; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 8px; background: var(--card); }
table { border-collapse: collapse; width: 100%; font-size: 0.88rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.5rem 0.55rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
tr:last-child td, tr:last-child th { border-bottom: 0; }
thead th { white-space: normal; min-width: 4.5rem; background: var(--head); font-weight: 600; }
th.text, td.text { text-align: left; }
tbody th { font-weight: 600; text-align: left; }
figure { margin: 0 0 1.4rem; }
.wide { max-width: 52rem; margin-top: 1.2rem; }
.wide .image { overflow-x: auto; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 0.4rem 1.4rem; }
figure img { display: block; width: 100%; height: auto; background: #ffffff; border: 1px solid var(--line);
  border-radius: 8px; padding: 0.5rem; }
@media (max-width: 40rem) { th, td { padding: 0.4rem 0.5rem; } table { font-size: 0.85rem; }
  tbody th, td.text { white-space: normal; } .wide img { min-width: 34rem; } }
figcaption { margin-top: 0.4rem; }
pre { margin: 0; padding: 0.8rem 1rem; overflow-x: auto; font: 0.82rem/1.5 ui-monospace, Menlo, Consolas, monospace; }
details { border: 1px solid var(--line); border-radius: 8px; background: var(--card); margin: 0.5rem 0; }
summary { cursor: pointer; padding: 0.55rem 1rem; font-weight: 600; }
summary .soft { font-weight: 400; }
"""


def render_page(
    *,
    experiment: Mapping[str, Any],
    table: Mapping[str, Any],
    headline: DrawnFigure,
    figures: Sequence[DrawnFigure],
    left_out: Sequence[str],
    cards: Mapping[str, Mapping[str, Any]],
) -> str:
    """Return the page. `left_out` says, a sentence each, which figures could not be drawn and why.

    Figures are SVG files inside data URIs: their ids cannot clash, and a content policy refuses any request.
    """
    title = escape(experiment["title"])
    banner = (
        f'<p class="banner" role="alert">{escape(QUICK_WARNING.replace("`", ""))}</p>' if experiment["quick"] else ""
    )
    shown = "\n".join(map(figure_html, figures))
    missing = "\n".join(f'<p class="soft">Left out: {escape(reason)}</p>' for reason in left_out)
    return document(
        title,
        f"""{banner}
<h1>{title}</h1>
<p>{escape(_opening(experiment["protocol"]))}</p>
<h2>Result</h2>
{table_html(COLUMNS, table_cells(table), text_columns=2)}
<p class="soft">{escape(protocol_sentence(table["protocol"]))}</p>
<div class="wide">{figure_html(headline)}</div>
<h2>Figures</h2>
<div class="figures">
{shown}
</div>
{missing}
<h2>What was run</h2>
{_facts(experiment)}
<h3>Commands</h3>
{_box("commands", "<pre>" + escape(chr(10).join(experiment["commands"])) + "</pre>")}
<h3>Datasets</h3>
{_cards(cards)}""",
    )


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
{body}
</body>
</html>
"""


def _opening(protocol: Mapping[str, Any]) -> str:
    return (
        f"Policies learned by sequence modelling from recorded {protocol['environment']} episodes, measured on the "
        f"same {protocol['evaluation_starts']} start states as a SAC agent and a random policy, beside the values of "
        "the 2021 report “Transformers for Reinforcement Learning” (O. Bahri)."
    )


def _box(label: str, content: str) -> str:
    """Return a box that scrolls sideways by itself, by keyboard too, so that the page never does."""
    return f'<div class="scroll" role="region" aria-label="{escape(label)}" tabindex="0">{content}</div>'


def table_html(head: Sequence[str], rows: Sequence[Sequence[str]], *, text_columns: int) -> str:
    """Return the result table; the first `text_columns` hold words, the others numbers."""
    heads = "".join(
        f'<th scope="col"{_text_class(number < text_columns)}>{escape(name)}</th>' for number, name in enumerate(head)
    )
    body = "\n".join(
        f'<tr><th scope="row">{escape(cells[0])}</th>'
        + "".join(f"<td{_text_class(n < text_columns)}>{escape(cell)}</td>" for n, cell in enumerate(cells) if n > 0)
        + "</tr>"
        for cells in rows
    )
    return _box("result table", f"<table>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>")


def _text_class(text: bool) -> str:
    return ' class="text"' if text else ""


def figure_html(figure: DrawnFigure) -> str:
    """Return the figure with its caption; the SVG file is inside."""
    svg = next(path for path in figure.paths if path.suffix == ".svg")
    data = base64.b64encode(svg.read_bytes()).decode("ascii")
    image = f'<img alt="{escape(figure.title)}" src="data:image/svg+xml;base64,{data}">'
    return (
        f'<figure id="{escape(figure.name)}"><div class="image">{image}</div>\n'
        f"<figcaption>{escape(figure.caption)}</figcaption></figure>"
    )


def _facts(experiment: Mapping[str, Any]) -> str:
    protocol = {key.replace("_", " "): _plain(value) for key, value in experiment["protocol"].items()}
    versions = ", ".join(f"{name} {version}" for name, version in experiment["versions"].items())
    facts = {
        "preset": experiment["preset"],
        **protocol,
        "versions": versions,
        "machine": experiment["machine"],
        "wall time": format_duration(experiment["wall_seconds"]),
    }
    rows = "\n".join(
        f'<tr><th scope="row">{escape(name)}</th><td class="text">{escape(str(value))}</td></tr>'
        for name, value in facts.items()
    )
    return _box("what was run", f"<table>\n<tbody>\n{rows}\n</tbody>\n</table>")


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def format_duration(seconds: float) -> str:
    """Return a duration as people say it.

    >>> format_duration(412.0), format_duration(7384), format_duration(9.25)
    ('6 min 52 s', '2 h 3 min', '9.2 s')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _cards(cards: Mapping[str, Mapping[str, Any]]) -> str:
    if not cards:
        return '<p class="soft">No dataset cards were found in cards/.</p>'
    return "\n".join(details_html(name, card_line(card), card) for name, card in cards.items())


def details_html(name: str, line: str, content: Mapping[str, Any]) -> str:
    """Return a box that opens: a name and a line about it, and all of it as JSON inside."""
    return (
        f'<details><summary>{escape(name)} <span class="soft">{escape(line)}</span></summary>\n<pre>'
        f"{escape(json.dumps(content, indent=2, ensure_ascii=False))}</pre></details>"
    )


def card_line(card: Mapping[str, Any]) -> str:
    """Return a dataset card in one line; what a card does not say is left out.

    >>> card_line({"steps": 1000, "episodes": 5, "returns": {"mean": -1203.4, "max": -880.2}, "warnings": ["few"]})
    '1,000 steps, 5 episodes, mean return −1,203.4, best −880.2, 1 warning'
    """
    returns, warnings = card.get("returns") or {}, card.get("warnings") or []
    said = [f"{card[key]:,} {key}" for key in ("steps", "episodes") if isinstance(card.get(key), int)]
    for key, word in (("mean", "mean return"), ("max", "best")):
        if isinstance(returns.get(key), float):
            said.append(f"{word} {format_return(returns[key])}")
    if warnings:
        said.append(f"{len(warnings)} warning" + ("s" if len(warnings) > 1 else ""))
    return ", ".join(said)
