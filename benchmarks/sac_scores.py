"""What SAC reaches: each form over five seeds, measured deterministically on the 200 shared start states.

About 35 minutes on two cores; runs lie under `--out`, and a later start continues them.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Literal

from benchmarks.measuring import Options, Row

Form = Literal["twin-q", "value"]
NEEDED: dict[Form, int] = {"twin-q": 5, "value": 4}
"""Seeds of each form that must reach the bound."""
SEEDS = range(5)
BOUND = -157.0
"""A published benchmark's figure for SAC on Pendulum-v1."""
EPISODES = 200
WORKERS = 2
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def rows(options: Options) -> Iterator[Row]:
    """Yield a row a run as runs end, then one a form that says whether enough of them reach the bound."""
    seeds, steps = (SEEDS[:1], 600) if options.quick else (SEEDS, 20_000)
    os.environ.update(ONE_THREAD)  # the workers read it when they load their libraries
    reached: dict[Form, dict[int, float]] = {form: {} for form in NEEDED}
    with ProcessPoolExecutor(WORKERS, mp_context=multiprocessing.get_context("spawn")) as pool:
        waiting = {
            pool.submit(score, options.out / f"{form}-{steps}" / f"seed-{seed}", form, seed, steps): (form, seed)
            for seed in seeds
            for form in NEEDED
        }
        for future in as_completed(waiting):
            form, seed = waiting[future]
            reached[form][seed] = future.result()
            yield Row(
                benchmark="sac_scores", name=f"{form}, seed {seed}", unit="mean return", ours=reached[form][seed],
                setting={"form": form, "seed": seed, "total_steps": steps, "episodes": EPISODES},
            )  # fmt: skip
    yield from (_summary(form, list(scores.values()), steps) for form, scores in reached.items())


def score(folder: Path, form: Form, seed: int, steps: int) -> float:
    """Train one agent with the default settings, or continue it; return its mean over the evaluation starts."""
    import torch

    from foretell.agents.configs import SACConfig
    from foretell.facade import evaluate, train_sac

    torch.set_num_threads(1)
    run = train_sac("Pendulum-v1", folder, config=SACConfig(form=form, total_steps=steps), seed=seed)
    return statistics.mean(record["return"] for record in evaluate(run, episodes=EPISODES))


def _summary(form: Form, scores: list[float], steps: int) -> Row:
    enough = sum(value >= BOUND for value in scores)
    return Row(
        benchmark="sac_scores", name=f"{form}, worst of {len(scores)}", unit="mean return", ours=min(scores),
        setting={"form": form, "total_steps": steps, "episodes": EPISODES}, repetitions=len(scores),
        bound=f"{NEEDED[form]} of {len(SEEDS)} seeds at least {BOUND:g}", holds=enough >= NEEDED[form],
        extra={"seeds_that_reach_it": enough, "mean": statistics.mean(scores)},
    )  # fmt: skip
