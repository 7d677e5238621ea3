"""Three walking robots of MuJoCo's, and what is learned from all that an agent did while it learned to walk.

    pip install mujoco
    python -m benchmarks locomotion --out results    # what is there already in results/locomotion is kept

SAC learns 100,000 timesteps of each robot; these are the data, its first falls with the rest. Decision Transformers
and imitation learn from them, three seeds each, and act from 100 shared start states. Normalised scores: random acting
is 0, that agent at its end is 100, both measured from the same starts. Everything is done by commands of `foretell`,
an hour of each of two cores; the table and the figure are those of its report.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from os import cpu_count
from pathlib import Path

from benchmarks.measuring import Options, Row, installed
from foretell.core.files import read_json, read_json_lines

RESULTS = Path(__file__).parent / "results"
ROBOTS = ("HalfCheetah-v5", "Hopper-v5", "Walker2d-v5")
STEPS, SEEDS, EPISODES = 100_000, "0..2", 100
NETWORK = ("--width", "128", "--layers", "2", "--dropout", "0", "--optimizer", "muon", "--updates", "3000",
           "--batch-size", "256")  # fmt: skip
ONE = ("--context-length", "1")
"""The observations are whole: they have the velocities."""
METHODS = {
    "imitation": ("--condition", "none", *ONE, *NETWORK),
    "imitation of the best tenth": ("--condition", "none", "--best-share", "0.1", *ONE, *NETWORK),
    "told the return": ("--condition", "return", "--context-length", "5", *NETWORK),
    "told advantages": ("--condition", "advantage", "--values.updates", "20000", *ONE, *NETWORK),
}
AGENT = "SAC, which made the data"
WRITTEN = "\nWritten by `python -m benchmarks locomotion`.\n"


def rows(options: Options) -> Iterator[Row]:
    """Yield the mean return of each method on each robot, then each method's mean score over the robots."""
    if importlib.util.find_spec("mujoco") is None:
        print("locomotion  no rows: MuJoCo is not installed (pip install mujoco)")
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = (Path(temporary) if options.out == Options().out or options.quick else options.out) / "locomotion"
        table = read_json(_made(folder, quick=options.quick) / "table.json")
        if not options.quick:
            shutil.copyfile(folder / "report" / "figures" / "scores.png", RESULTS / "locomotion.png")
            text = (folder / "report" / "table.md").read_text(encoding="utf-8")
            (RESULTS / "locomotion.md").write_text(text + WRITTEN, encoding="utf-8")
    for row in table["rows"]:
        yield Row(
            benchmark="locomotion", name=f"{row['environment']}, {row['method']}", unit="mean return",
            ours=row["mean_return"],
            setting={"environment": row["environment"], "method": row["method"], "episodes": row["episodes"],
                     "training_seeds": row["training_seeds"], "settings": " ".join(METHODS.get(row["method"], ()))},
            extra={"interval": row["ci95"], "normalized_score": row["normalized_score"],
                   "normalized_interval": row["normalized_ci95"], "mujoco": installed("mujoco")},
        )  # fmt: skip
    for row in table["methods"]:
        yield Row(
            benchmark="locomotion", name=f"all, {row['method']}", unit="mean normalised score", ours=row["mean_score"],
            setting={"method": row["method"]},
            extra={name: row[name] for name in ("mean_ci95", "iqm", "iqm_ci95", "difference", "difference_ci95")},
        )  # fmt: skip


def _made(folder: Path, *, quick: bool) -> Path:
    """Run the commands, those of which the result is there already in no time; return the report's folder."""
    robots = ROBOTS[1:] if quick else ROBOTS  # of one alone there is no table over all
    steps, seeds, episodes = ("1500", "0..1", "2") if quick else (str(STEPS), SEEDS, str(EPISODES))
    short = ("--updates", "2", "--batch-size", "8") if quick else ()
    evaluate = ("--episodes", episodes, "--threads", "1")
    with ThreadPoolExecutor(cpu_count()) as pool:
        list(pool.map(lambda robot: _agent(folder, robot, steps, evaluate), robots))
    runs, references = [], []
    for robot in robots:
        own = [folder / robot / "sac", folder / robot / "random.jsonl"]
        for name, settings in METHODS.items():
            out = folder / robot / name.replace(" ", "-")
            values = ("--values.updates", "2") if quick and "advantage" in settings else ()
            _foretell("train", _data(folder, robot), "--out", out, "--seeds", seeds, *settings, *short, *values)
            _foretell("evaluate", out, "--name", name, *evaluate)
            own.append(out)
        runs += own
        references += [robot, *(_mean(path) for path in (own[1], own[0] / "evaluations.jsonl"))]
    _foretell("report", *runs, "--out", folder / "report", "--references", *references)
    return folder / "report"


def _agent(folder: Path, robot: str, steps: str, evaluate: Sequence[str]) -> None:
    """Train the agent that makes the data, and measure it and random acting."""
    agent = folder / robot / "sac"
    _foretell("train", "--algorithm", "sac", "--environment", robot, "--out", agent, "--sac.total-steps", steps,
              "--threads", "1")  # fmt: skip
    _foretell("collect", "sac-replay", "--agent", agent, "--out", _data(folder, robot))
    _foretell("evaluate", agent, "--name", AGENT, *evaluate)
    _foretell("evaluate", "random", "--environment", robot, "--out", folder / robot / "random.jsonl", *evaluate)


def _data(folder: Path, robot: str) -> Path:
    return folder / robot / f"{robot.partition('-')[0].lower()}-replay.hdf5"


def _mean(records: Path) -> float:
    found = [float(one["return"]) for one in read_json_lines(records)]
    return sum(found) / len(found)


def _foretell(*words: object) -> None:
    subprocess.run([sys.executable, "-m", "foretell", *map(str, words)], check=True, stdout=subprocess.DEVNULL)
