"""`python -m benchmarks [NAME ...]`: run benchmarks, print their rows, and keep them in `benchmarks/results/`."""

from __future__ import annotations

import argparse
import importlib
import json
from dataclasses import replace
from pathlib import Path

from benchmarks.measuring import Options, Row

DEFAULT = (
    "collection", "evaluation", "datasets", "training", "growth", "sac", "values", "seeds", "starting", "sorting",
    "reproduce",
)  # fmt: skip
LONG = ("sac_scores", "league", "rollouts", "tasks", "optimum", "targets", "imagination", "optimizers",
        "shortfall", "locomotion", "gpu")  # fmt: skip
"""Run by name: sac_scores takes an hour of every core and league a quarter, rollouts and optimum some minutes of one
core, tasks ten; the four after those read results/pendulum, and shortfall takes most of an hour of two cores, as does
locomotion, which needs MuJoCo; gpu needs a GPU."""
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Run what was asked for; each benchmark's file of results is replaced when it is done."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME",
        help=f"{', '.join(DEFAULT)} (default: all of these), {', '.join(LONG)} (only by name)",
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="smallest sizes; rows are printed and not kept")
    parser.add_argument(
        "--out",
        type=Path,
        default=Options().out,
        help="where sac_scores keeps its runs; so do reproduce, league and locomotion if given (default: %(default)s)",
    )
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - {*DEFAULT, *LONG}:
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; expected {', '.join((*DEFAULT, *LONG))}")
    options = Options(quick=arguments.quick, out=arguments.out)
    for name in arguments.names or DEFAULT:
        rows = []
        for row in importlib.import_module(f"benchmarks.{name}").rows(options):
            rows.append(show(replace(row, benchmark=name)))
        if rows and not options.quick:
            RESULTS.mkdir(exist_ok=True)
            (RESULTS / f"{name}.jsonl").write_text("".join(line + "\n" for line in rows), encoding="utf-8")


def show(row: Row) -> str:
    """Print a row in a few words; return it as one line of JSON."""
    words = f"{row.benchmark:<11} {row.name:<34} {row.ours:>12,.4g} {row.unit}"
    if row.peer is not None:
        words += f"   {row.peer_name} {row.peer:,.4g}"
    if row.ratio is not None:
        words += f"   ×{row.ratio:.2f} ({row.ratio_min:.2f} to {row.ratio_max:.2f})"
    if row.bound is not None:
        words += f"   bound {row.bound}: {'holds' if row.holds else 'MISSED'}"
    print(words, flush=True)
    return json.dumps(row.to_json())


if __name__ == "__main__":
    main()
