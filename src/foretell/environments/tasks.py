"""What is known about a task before any data is seen: its horizon and its reference scores, with their source."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Task:
    """One row of the task table; everything not listed is asked of Gymnasium itself.

    `random_score` and `expert_score` are mean undiscounted returns, the ends of the normalised score where no
    measured agent is at hand.
    """

    environment: str
    random_score: float
    expert_score: float
    source: str


D4RL = {
    "HalfCheetah": (-280.178953, 12135.0),
    "Hopper": (-20.272305, 3234.3),
    "Walker2d": (1.629008, 4592.3),
    "Ant": (-325.6, 3879.7),
}
"""REF_MIN_SCORE and REF_MAX_SCORE of D4RL's `infos.py`, by which results on its Gym-MuJoCo datasets are reported."""

TASKS: dict[str, Task] = {
    task.environment: task
    for task in (
        Task(
            environment="Pendulum-v1",
            random_score=-1230.5,
            expert_score=-136.9,
            source="20,000 uniform random episodes; optimum by backward dynamic programming over 20,000 start states",
        ),
        *(
            Task(
                environment=f"{name}-{version}",
                random_score=low,
                expert_score=high,
                source="D4RL (Fu et al. 2020, arXiv:2004.07219), infos.py; measured in v2, which v4 repeats by another "
                "binding of the simulator (not of Ant). v5 rewards otherwise and is not in it",
            )
            for name, (low, high) in D4RL.items()
            for version in ("v2", "v4")
            if (name, version) != ("Ant", "v4")  # which leaves contact forces out, of observations and rewards
        ),
    )
}
"""Known tasks by Gymnasium id. An environment without a row works as well; it has no reference scores."""
