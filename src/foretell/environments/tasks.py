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


TASKS: dict[str, Task] = {
    task.environment: task
    for task in (
        Task(
            environment="Pendulum-v1",
            random_score=-1230.5,
            expert_score=-136.9,
            source="20,000 uniform random episodes; optimum by backward dynamic programming over 20,000 start states",
        ),
    )
}
"""Known tasks by Gymnasium id. An environment without a row works as well; it has no reference scores."""
