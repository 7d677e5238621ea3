"""Soft Actor-Critic on Pendulum: timesteps a second, one update each, beside Stable-Baselines3 where it is installed.

Stable-Baselines3 is no dependency of ours. To have it beside us, in a folder of its own (docs/performance.md):
`pip install --no-deps --target PEERS stable-baselines3 pandas`, then `PYTHONPATH=PEERS python -m benchmarks sac`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import torch

from benchmarks.measuring import Options, Row, alternate, installed, rate
from foretell.agents.configs import SACConfig
from foretell.training.sac import SACTraining

WARM_UP = 300
"""Timesteps before the first repetition: the replay holds more than a batch, and everything is loaded."""


def rows(options: Options) -> Iterator[Row]:
    """Yield timesteps a second of both forms on one thread and on two; the peer has the twin-Q form alone."""
    steps, repetitions = (50, 1) if options.quick else (500, 3)
    available = torch.get_num_threads()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for config in (SACConfig(form="twin-q"), SACConfig(form="value")):
            yield _row(config, threads, steps, repetitions)
    torch.set_num_threads(available)


def _row(config: SACConfig, threads: int, steps: int, repetitions: int) -> Row:
    ours = _Ours(config)
    peer = (
        _StableBaselines(config) if config.form == "twin-q" and importlib.util.find_spec("stable_baselines3") else None
    )
    rate(ours.step, WARM_UP)
    if peer:
        peer.steps_a_second(WARM_UP)
    comparison = alternate(
        lambda: rate(ours.step, steps), (lambda: peer.steps_a_second(steps)) if peer else None, repetitions,
        higher_is_better=True,
    )  # fmt: skip
    return Row(
        benchmark="sac", name=f"{config.form}, {threads} thread{'s' * (threads > 1)}", unit="steps/s",
        setting={"environment": "Pendulum-v1", "hidden_sizes": list(config.hidden_sizes),
                 "batch_size": config.batch_size, "updates_per_step": 1, "steps": steps, "after_steps": WARM_UP,
                 "threads": threads},
        peer_name="stable-baselines3 SAC" if peer else None,
        peer_version=installed("stable-baselines3") if peer else None,
        **comparison.fields(),
    )  # fmt: skip


class _Ours:
    def __init__(self, config: SACConfig):
        self.training = SACTraining("Pendulum-v1", config, 0)
        self.training.begin_episode()

    def step(self, _: int) -> None:
        """Act, record, update; a new episode where one has ended."""
        ended = self.training.act_and_record()
        if self.training.replay.size > self.training.config.learning_starts:
            self.training.update()
        if ended:
            self.training.begin_episode()


class _StableBaselines:
    def __init__(self, config: SACConfig):
        from stable_baselines3 import SAC  # pyrefly: ignore

        self.model = SAC(
            "MlpPolicy", "Pendulum-v1", learning_rate=config.learning_rate, buffer_size=config.total_steps,
            learning_starts=config.learning_starts, batch_size=config.batch_size, tau=config.target_rate,
            gamma=config.discount, train_freq=1, gradient_steps=1, seed=0, device="cpu",
            policy_kwargs={"net_arch": list(config.hidden_sizes)},
        )  # fmt: skip

    def steps_a_second(self, steps: int) -> float:
        """Go on for so many timesteps."""
        return steps * rate(lambda _: self.model.learn(steps, reset_num_timesteps=False), 1)
