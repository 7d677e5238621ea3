"""The league of an experiment's folder: every method on every dataset, as a table and two figures."""

from __future__ import annotations

from pathlib import Path

from foretell.core.errors import CheckpointError
from foretell.core.files import read_json_lines, write_json, write_text
from foretell.core.printing import printable
from foretell.reporting.inputs import read_experiment
from foretell.reporting.league_figure import draw_league, draw_regret
from foretell.reporting.league_table import SOURCE, build_league, render_league


def write_league(folder: Path) -> list[Path]:
    """Write `league.json`, `league.md` and the league's two figures into an experiment's folder; return their paths.

    Everything is read from files in that folder: `experiment.json` with its `league`, `league.jsonl`, `cards/`. Each
    output is written whole or not at all, and the same inputs give the same bytes.

    Raises `CheckpointError` as `read_experiment` and `build_league` do, and where `league.jsonl` is missing.
    """
    inputs = read_experiment(Path(folder))
    source = inputs.folder / SOURCE
    if not source.is_file():
        raise CheckpointError(
            f"{source}: no such file; expected the league's evaluation records. Make it with "
            "`foretell reproduce --league`."
        )
    league = build_league(read_json_lines(source), inputs.experiment, inputs.cards)
    figures = [
        draw_league(inputs.folder / "figures" / "league", league),
        draw_regret(inputs.folder / "figures" / "league-regret", league),
    ]
    outputs = [inputs.folder / "league.json", inputs.folder / "league.md"]
    write_json(outputs[0], {"protocol": league.protocol, "rows": league.rows})
    write_text(outputs[1], printable(render_league(league)))
    return [*outputs, *(path for figure in figures for path in figure.paths)]
