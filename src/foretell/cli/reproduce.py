"""`foretell reproduce`: the 2021 report's experiment, from nothing to the page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foretell.cli.flags import require_one
from foretell.cli.progress import watch
from foretell.core.system import cores


@dataclass(frozen=True, kw_only=True)
class Reproduce:
    """Train SAC, collect the datasets, train Decision Transformers on each, evaluate all, write the report.

    A rerun continues from what is already there.

    To try it:
      foretell reproduce
      foretell reproduce --league --seeds 1
      foretell reproduce --quick
      foretell reproduce --seeds 3 --out results/three-seeds
      foretell reproduce --preset report_2021
    """

    out: Path | None = None
    """Folder of the experiment. Default: results/PRESET, with -quick behind it for a smoke run."""
    preset: str = "pendulum"
    """pendulum: our settings, minutes. report_2021: the report's Table I, 1,000,000 updates each, days."""
    seeds: int | None = None
    """Training seeds of each model. Default: 5 (1 with --quick)."""
    league: bool = False
    """Also every other method of the preset on every dataset, beside the optimum: league.md, league.json, figures."""
    quick: bool = False
    """A smoke run of under a minute, whose numbers mean nothing."""
    root_seed: int = 0
    """Root of the agent, the data and the start states; training seeds are 0, 1, 2, ... under any root."""
    workers: int | None = None
    """Processes at work at the same time. Default: one a core."""
    json: bool = False
    """Print one JSON object and nothing else on stdout."""

    def run(self) -> dict[str, Any]:
        """Do what is not done yet; return where the report lies."""
        from foretell.cli.experiment_run import ExperimentRun
        from foretell.presets.pendulum import preset, quick

        require_one("seeds", self.seeds)
        require_one("workers", self.workers)
        experiment = preset(self.preset)
        experiment = quick(experiment) if self.quick else experiment
        out = self.out or Path("results") / (experiment.name + ("-quick" if self.quick else ""))
        seeds = range(self.seeds or experiment.default_seeds)
        run = ExperimentRun(experiment, out, list(seeds), self.root_seed, league=self.league)
        run.execute(self.workers or cores(), quiet=self.json)
        with watch("report", quiet=self.json):
            files = run.report()
        return {"files": [str(path) for path in files], "report": str(out / "report.html"), "folder": str(out)}

    def show(self, result: dict[str, Any]) -> str:
        """Show the tables, and say where the page lies."""
        names = ["table.md", *(["league.md"] if self.league else [])]
        tables = [(Path(result["folder"]) / name).read_text(encoding="utf-8") for name in names]
        return "\n".join([*tables, f"report: {result['report']}"])
