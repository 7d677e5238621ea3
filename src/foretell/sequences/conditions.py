"""What a model can be told at every timestep, by name; free of numpy, so the command line has the words at once."""

from __future__ import annotations

from typing import Literal

Condition = Literal["return", "value", "advantage", "none"]
"""return: the return still earned in the data (Eq. 3). value: the same, but what a learned value function expects
where that is more (Yamagata et al. 2022). advantage: how good the action is among those that the data take in that
state, by a learned value function, from 0, the worst, to 1, the best. none: nothing, which is behaviour cloning."""
NEEDS_VALUES = ("value", "advantage")
"""Conditions of which a model is told what learned value functions say."""
Target = float | Literal["auto"]
"""auto: chosen from the data alone. A number: the return to be earned, reward units; under the condition `advantage`
how good every action is to be, 0 to 1."""
