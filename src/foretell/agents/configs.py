"""Settings of the agents; free of torch, so that the command line can show them at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from foretell.core.errors import UsageError
from foretell.core.settings import check_positive, check_settings


@dataclass(frozen=True, kw_only=True)
class SACConfig:
    """Soft Actor-Critic (Haarnoja et al. 2018a and 2018b; the report's Eqs 4 to 8)."""

    form: Literal["twin-q", "value"] = "twin-q"
    """twin-q: two soft Q-functions with targets, learned temperature (Haarnoja et al. 2018b).
    value: V, target V, one Q and the policy, fixed temperature (2018a; the report's Eqs 5 to 8)."""
    total_steps: int = 20_000
    """Environment timesteps, one update each after the warm-up."""
    learning_starts: int = 200
    """Timesteps of uniform random actions before the first update."""
    hidden_sizes: tuple[int, ...] = (256, 256)
    """Widths of the hidden layers of every network (2018b, appendix D)."""
    learning_rate: float = 1e-3
    """Step size of Adam for every network."""
    batch_size: int = 256
    """Transitions per update (2018b, appendix D)."""
    discount: float = 0.99
    """gamma (2018b, appendix D)."""
    target_rate: float = 0.005
    """tau: how far the target network moves towards the learned one at each update (2018b, appendix D)."""
    temperature: float = 0.2
    """alpha: weight of the entropy against the reward; the start value where it is learned.
    Eqs 5 and 8 of the report have alpha = 1 and scaled rewards; 1 / alpha is that scale (2018a, section 5.2)."""
    evaluate_every: int = 1_000
    """Timesteps between deterministic evaluations on validation starts; 0 for none."""
    checkpoint_every: int = 2_000
    """Timesteps between checkpoints, rounded up to the end of an episode."""

    def __post_init__(self) -> None:
        check_settings(self)
        check_positive(self, "total_steps", "learning_rate", "batch_size", "temperature", "checkpoint_every")
        if self.evaluate_every < 0 or not self.hidden_sizes or min(self.hidden_sizes) < 1:
            raise UsageError(
                f"evaluate_every {self.evaluate_every} and hidden_sizes {self.hidden_sizes}; expected 0 or more, and "
                "layers of width 1 or more."
            )
        if not 0 <= self.discount <= 1 or not 0 < self.target_rate <= 1:
            raise UsageError(
                f"discount {self.discount} and target_rate {self.target_rate}; expected numbers between 0 and 1."
            )
        if self.learning_starts < 1:
            raise UsageError(f"learning_starts is {self.learning_starts}; expected at least 1 random timestep.")
