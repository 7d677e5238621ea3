"""`report.html` of an experiment."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from foretell.core.decimals import counted
from foretell.core.system import command_line
from foretell.reporting.figures import DrawnFigure
from foretell.reporting.page_parts import (
    banner_html,
    box_html,
    details_html,
    document,
    facts_html,
    figure_html,
    table_html,
)
from foretell.reporting.tables import COLUMNS, QUICK_WARNING, TEXT_COLUMNS, protocol_sentence, table_cells
from foretell.reporting.ticks import format_return


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
    banner = banner_html(QUICK_WARNING.replace("`", "")) if experiment["quick"] else ""
    shown = "\n".join(map(figure_html, figures))
    missing = "\n".join(f'<p class="soft">Left out: {escape(reason)}</p>' for reason in left_out)
    return document(
        title,
        f"""{banner}
<h1>{title}</h1>
<p>{escape(_opening(experiment["protocol"]))}</p>
<h2>Result</h2>
{table_html(COLUMNS, _named_apart(table), text_columns=TEXT_COLUMNS, caption=protocol_sentence(table["protocol"]))}
<div class="wide">{figure_html(headline)}</div>
<h2>Figures</h2>
<div class="figures">
{shown}
</div>
{missing}
<h2>How this was made</h2>
{facts_html("how this was made", _facts(experiment))}
<h3>Commands</h3>
{box_html("commands", "<pre>" + escape(chr(10).join(experiment["commands"])) + "</pre>")}
<h3>Datasets</h3>
{_cards(cards)}""",
    )


def _named_apart(table: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return the cells; rows that have the same name are named by what they were trained on as well."""
    found = table_cells(table)
    names = Counter(name for name, *_ in found)
    return [(f"{cells[0]}, {cells[1]}" if names[cells[0]] > 1 else cells[0], *cells[1:]) for cells in found]


def _opening(protocol: Mapping[str, Any]) -> str:
    return (
        f"Policies learned by sequence modelling from recorded {protocol['environment']} episodes, measured on the "
        f"same {counted(protocol['evaluation_starts'], 'start state')} as a SAC agent and a random policy, beside the "
        "values of the 2021 report “Transformers for Reinforcement Learning” (O. Bahri)."
    )


def _facts(experiment: Mapping[str, Any]) -> dict[str, str]:
    return {
        "command": reproduce_command(experiment),
        "preset": experiment["preset"],
        **{key.replace("_", " "): _plain(value) for key, value in experiment["protocol"].items()},
        "normalised score": "the random policy, measured here, is 0, and the SAC agent, measured here, is 100",
        "versions": ", ".join(f"{name} {version}" for name, version in experiment["versions"].items()),
        "machine": experiment["machine"],
        "wall time": format_duration(experiment["wall_seconds"]),
    }


def reproduce_command(experiment: Mapping[str, Any]) -> str:
    """Return the command that makes the experiment; its folder is that of its first printed command."""
    protocol = experiment["protocol"]
    words = ["foretell", "reproduce", "--preset", experiment["preset"], "--seeds", str(len(protocol["training_seeds"]))]
    words += ["--quick"] * experiment["quick"] + ["--league"] * ("league" in experiment)
    if protocol["root_seed"]:
        words += ["--root-seed", str(protocol["root_seed"])]
    outs = (_out_of(command) for command in experiment["commands"])
    if folder := next(filter(None, (out.partition("/runs/")[0] for out in outs if "/runs/" in out)), None):
        words += ["--out", folder]
    return command_line(words)


def _out_of(command: Any) -> str:
    """Return what follows --out in a command, nothing where it is none."""
    try:
        words = shlex.split(str(command))
    except ValueError:  # a quote that nobody closed
        return ""
    return words[words.index("--out") + 1] if "--out" in words[:-1] else ""


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


def card_line(card: Mapping[str, Any]) -> str:
    """Return a dataset card in one line; what a card does not say is left out.

    >>> card_line({"steps": 1000, "episodes": 5, "returns": {"mean": -1203.4, "max": -880.2}, "warnings": ["few"]})
    '1,000 steps, 5 episodes, mean return −1,203.4, best −880.2, 1 warning'
    """
    returns, warnings = card.get("returns") or {}, card.get("warnings") or []
    said = [counted(card[key], key[:-1]) for key in ("steps", "episodes") if isinstance(card.get(key), int)]
    for key, word in (("mean", "mean return"), ("max", "best")):
        if isinstance(returns.get(key), float):
            said.append(f"{word} {format_return(returns[key])}")
    if warnings:
        said.append(counted(len(warnings), "warning"))
    return ", ".join(said)
