"""Recording pendulum-random: 1,000,000 random steps simulated and written to a finished file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import gymnasium

from benchmarks.measuring import Options, Row, alternate, rate, seconds
from foretell.collection.recipes import collect_random

BOUND_SECONDS = 5.0
BOUND_RATE = 2_000_000


def rows(options: Options) -> Iterator[Row]:
    """Yield steps a second beside one Gymnasium environment, and the seconds for the whole dataset."""
    steps, loop_steps = (20_000, 2_000) if options.quick else (1_000_000, 20_000)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pendulum-random.hdf5"

        def ours() -> float:
            path.unlink(missing_ok=True)  # a recording that is there would be given back
            return steps / seconds(lambda: collect_random("Pendulum-v1", steps, 0, path))

        comparison = alternate(
            ours, lambda: _gymnasium_rate(loop_steps), 2 if options.quick else 5, higher_is_better=True
        )
    fields = comparison.fields()
    yield Row(
        benchmark="collection", name="random steps, simulated and written", unit="steps/s",
        setting={"environment": "Pendulum-v1", "steps": steps, "peer_steps": loop_steps, "peer_writes": False},
        peer_name="gymnasium, one environment", peer_version=gymnasium.__version__,
        bound=f"at least {BOUND_RATE:,} steps/s", holds=fields["ours"] >= BOUND_RATE, **fields,
    )  # fmt: skip
    slowest = steps / min(comparison.ours)
    yield Row(
        benchmark="collection", name="pendulum-random, slowest repetition", unit="s", ours=slowest,
        setting={"environment": "Pendulum-v1", "steps": steps}, repetitions=len(comparison.ours),
        bound=f"at most {BOUND_SECONDS:g} s", holds=slowest <= BOUND_SECONDS,
    )  # fmt: skip


def _gymnasium_rate(steps: int) -> float:
    """Steps a second of a random agent in one environment; nothing is kept or written."""
    env = gymnasium.make("Pendulum-v1")
    env.action_space.seed(0)
    env.reset(seed=0)

    def step(_: int) -> None:
        result = env.step(env.action_space.sample())
        if result[2] or result[3]:
            env.reset()

    return rate(step, steps)
