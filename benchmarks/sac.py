"""Soft Actor-Critic on Pendulum: timesteps a second, one update each, beside Stable-Baselines3 and SBX.

Neither is a dependency of ours; where one cannot be imported, its rows are left out. To have them beside us, in a
folder of their own: docs/performance.md.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Literal

import torch

from benchmarks.floor import sac_floor_seconds
from benchmarks.measuring import Options, Row, alternate, installed, rate
from foretell.agents.configs import SACConfig
from foretell.training.sac import SACTraining

WARM_UP = 300
"""Timesteps before the first repetition: the replay holds more than a batch, and everything is loaded."""
PEERS = {"stable_baselines3": ("stable-baselines3", 3.0), "sbx": ("sbx-rl", 1.5)}
"""Module, the package that it comes in, and how many times faster we have to be."""


def rows(options: Options) -> Iterator[Row]:
    """Yield timesteps a second of both forms on one thread and on two; the peer has the twin-Q form alone."""
    steps, repetitions = (50, 1) if options.quick else (300, 7)
    available = torch.get_num_threads()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found = [module for module in PEERS if importlib.util.find_spec(module)]
        for module in found or [None]:
            yield _row(SACConfig(form="twin-q"), threads, steps, repetitions, module)
        yield _row(SACConfig(form="value"), threads, steps, repetitions, None)
    torch.set_num_threads(1)
    if importlib.util.find_spec("sbx") and hasattr(os, "sched_setaffinity"):
        yield _row(SACConfig(form="twin-q"), 1, steps, repetitions, "sbx", one_core=True)
    torch.set_num_threads(available)


def _row(
    config: SACConfig, threads: int, steps: int, repetitions: int, module: str | None, *, one_core: bool = False
) -> Row:  # fmt: skip
    make = _PeerOnOneCore if one_core else _Peer
    ours, peer = (_OursOnOneCore if one_core else _Ours)(config), make(config, module) if module else None
    package, bound = PEERS[module] if module else (None, None)
    ours.steps_a_second(WARM_UP)
    if peer:
        peer.steps_a_second(WARM_UP)
    comparison = alternate(
        lambda: ours.steps_a_second(steps), (lambda: peer.steps_a_second(steps)) if peer else None, repetitions,
        higher_is_better=True,
    )  # fmt: skip
    fields = comparison.fields()
    extra = {}
    if config.form == "twin-q":
        floor = 1 / sac_floor_seconds(config, 60 * repetitions)
        extra = {"matmul_floor": floor, "share_of_floor": fields["ours"] / floor}
    cores = "one core each" if one_core else "1 thread" if threads == 1 else f"{threads} threads"
    return Row(
        benchmark="sac", unit="steps/s",
        name=f"{config.form}, {cores}",
        setting={"environment": "Pendulum-v1", "hidden_sizes": list(config.hidden_sizes),
                 "batch_size": config.batch_size, "updates_per_step": 1, "steps": steps, "after_steps": WARM_UP,
                 "threads": threads, **({"peers_threads": "XLA's own"} if module == "sbx" else {}),
                 **({"cores": 1} if one_core else {})},
        peer_name=f"{package} SAC" if package else None, peer_version=installed(package) if package else None,
        bound=f"ratio at least {bound:g}" if bound else None, holds=bool(fields["ratio"] >= bound) if bound else None,
        extra=extra, **fields,
    )  # fmt: skip


class _Ours:
    def __init__(self, config: SACConfig):
        self.training = SACTraining("Pendulum-v1", config, 0)
        self.training.begin_episode()

    def steps_a_second(self, steps: int) -> float:
        """Go on for so many timesteps."""
        return rate(self.step, steps)

    def step(self, _: int) -> None:
        """Act, record, update; a new episode where one has ended."""
        ended = self.training.act_and_record()
        if self.training.replay.size > self.training.config.learning_starts:
            self.training.update()
        if ended:
            self.training.begin_episode()


class _OursOnOneCore(_Ours):
    def steps_a_second(self, steps: int) -> float:
        """Go on for so many timesteps, on one core."""
        every = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(every)})
        try:
            return super().steps_a_second(steps)
        finally:
            os.sched_setaffinity(0, every)


class _Peer:
    def __init__(self, config: SACConfig, module: str):
        self.model = importlib.import_module(module).SAC(
            "MlpPolicy", "Pendulum-v1", learning_rate=config.learning_rate, buffer_size=config.total_steps,
            learning_starts=config.learning_starts, batch_size=config.batch_size, tau=config.target_rate,
            gamma=config.discount, train_freq=1, gradient_steps=1, seed=0, device="cpu",
            policy_kwargs={"net_arch": list(config.hidden_sizes)},
        )  # fmt: skip

    def steps_a_second(self, steps: int) -> float:
        """Go on for so many timesteps."""
        return steps * rate(lambda _: self.model.learn(steps, reset_num_timesteps=False), 1)


class _PeerOnOneCore:
    """The peer in a process of its own, which finds one core: its threads are made when it is loaded."""

    def __init__(self, config: SACConfig, module: str):
        core = min(os.sched_getaffinity(0))
        code = (
            f"import os; os.sched_setaffinity(0, {{{core}}}); from benchmarks.sac import answer; "
            f"answer({config.form!r}, {module!r})"
        )
        self._process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def steps_a_second(self, steps: int) -> float:
        """Go on for so many timesteps."""
        assert self._process.stdin
        assert self._process.stdout
        print(steps, file=self._process.stdin, flush=True)
        return float(self._process.stdout.readline())


def answer(form: Literal["twin-q", "value"], module: str) -> None:
    """Read numbers of timesteps, a line each, and print how many the peer takes a second."""
    peer = _Peer(SACConfig(form=form), module)
    for line in sys.stdin:
        print(peer.steps_a_second(int(line)), flush=True)
