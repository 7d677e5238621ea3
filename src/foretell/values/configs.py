"""Settings of value learning; free of torch, so that the command line can show them at once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from foretell.core.errors import UsageError
from foretell.core.settings import check_not_negative, check_positive, check_settings


@dataclass(frozen=True, kw_only=True)
class IQLConfig:
    """Implicit Q-learning (Kostrikov et al. 2021, arXiv:2110.06169): how Q and V are fitted to recorded timesteps."""

    updates: int = 20_000
    """Gradient updates (ours; the paper has 1,000,000). Values reach back about updates * target_rate timesteps; where
    only the end of a long way is rewarded, take more."""
    batch_size: int = 256
    """Transitions per update (Kostrikov et al. 2021, appendix B)."""
    hidden_sizes: tuple[int, ...] = (128, 128)
    """Widths of the hidden layers of every network (ours; the paper has 256, 256)."""
    learning_rate: float = 1e-3
    """Step size of Adam at the first update (ours; the paper has 3e-4)."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """cosine: falls to 0 at the last update; constant: stays."""
    expectile: float = 0.7
    """tau of Eq. 5: 0.5 is the mean over the data's actions, towards 1 the best of them, with more of Q's errors taken
    for good actions (the paper: 0.7 for locomotion, 0.9 for AntMaze)."""
    inverse_temperature: float = 3.0
    """beta of Eq. 7: the policy imitates an action of advantage A, in deviations of the reward, with weight
    exp(beta A); 0 is behaviour cloning (the paper: 3 for locomotion, 10 for AntMaze)."""
    policy: bool = True
    """Also learn the policy (Eq. 7). Value functions that only tell other models what actions are worth need none."""
    discount: float = 0.99
    """gamma: what a reward one timestep later is worth (Kostrikov et al. 2021, appendix B)."""
    target_rate: float = 0.005
    """alpha of Algorithm 1: how far the slow Q-functions move towards the learned ones at each update."""
    evaluate_every: int = 0
    """Updates between evaluations of the policy on validation starts; 0 for none."""
    checkpoint_every: int = 5_000
    """Updates between checkpoints."""
    log_every: int = 500
    """Updates between events that hold the losses."""

    def __post_init__(self) -> None:
        check_settings(self)
        check_positive(self, "updates", "batch_size", "learning_rate", "checkpoint_every", "log_every")
        check_not_negative(self, "evaluate_every", "inverse_temperature")
        if self.evaluate_every and not self.policy:
            raise UsageError("evaluate_every is of the policy, and policy is off; leave one of them out.")
        if not self.hidden_sizes or min(self.hidden_sizes) < 1:
            raise UsageError(f"hidden_sizes is {self.hidden_sizes}; expected layers of width 1 or more.")
        if not 0 < self.expectile < 1:
            raise UsageError(f"expectile is {self.expectile}; expected a number between 0 and 1, both excluded.")
        if not 0 <= self.discount <= 1 or not 0 < self.target_rate <= 1:
            raise UsageError(
                f"discount {self.discount} and target_rate {self.target_rate}; expected numbers between 0 and 1."
            )

    def learning_rate_at(self, update: int) -> float:
        """Return the learning rate of update 0, 1, ...: a pure function, so that there is no scheduler state to lose.

        >>> config = IQLConfig(updates=4, learning_rate=1.0)
        >>> [round(config.learning_rate_at(update), 3) for update in range(4)]
        [1.0, 0.854, 0.5, 0.146]
        """
        if self.schedule == "constant":
            return self.learning_rate
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * update / self.updates))


@dataclass(frozen=True, kw_only=True)
class DynamicsConfig:
    """A world learned from few timesteps, and how episodes are imagined in it (docs/imagination.md)."""

    members: int = 5
    """Worlds, each one function that agrees with the data; every imagined episode takes place in one of them."""
    degree: int = 4
    """Longest product of inputs in the polynomial part; shorter where there would be more than 500 products."""
    updates: int = 300
    """Steps of Adam on the evidence."""
    learning_rate: float = 0.1
    """Step size of Adam at the first update, for logarithms of settings; falls to 0 along a cosine."""
    evidence_rows: int = 250
    """Timesteps that the evidence is computed on, spread as far apart as the data allow; time grows with the cube."""
    max_rows: int = 2_000
    """Timesteps that the worlds are fitted to; of more, as many are chosen that lie far apart."""
    cosines: int = 256
    """Random cosines in each world's smooth part (Rahimi and Recht 2007)."""
    horizon: int | None = None
    """Timesteps of an imagined episode; None: the environment's limit, else the longest recorded episode."""
    max_disagreement: float = 0.5
    """An imagined episode ends before a step that the worlds differ on by more, in deviations of recorded steps."""
    pessimism: float = 0.0
    """Taken off an imagined reward, in deviations of the recorded rewards, for each unit of disagreement (lambda of
    Yu et al. 2020, MOPO)."""

    def __post_init__(self) -> None:
        check_settings(self)
        check_positive(self, "members", "degree", "updates", "learning_rate", "max_rows", "cosines", "max_disagreement")
        check_not_negative(self, "pessimism")
        if not 2 <= self.evidence_rows <= self.max_rows:
            raise UsageError(
                f"evidence_rows is {self.evidence_rows}; expected 2 or more, and max_rows ({self.max_rows}) at most."
            )
        if self.horizon is not None and self.horizon < 1:
            raise UsageError(f"horizon is {self.horizon}; expected at least 1 timestep, or None for the environment's.")
